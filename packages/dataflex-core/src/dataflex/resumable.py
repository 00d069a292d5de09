"""Whether a run can go on from its own checkpoints at all. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dataflex.sharding import STATE_TYPE, find_fsdp

_REWARD_MODEL = "rm"  # the one stage of ours whose checkpoints LlamaFactory itself cannot go on from


def why_no_resume(arguments: Mapping[str, Any], source: str) -> str:
    """Why no checkpoint that a run writes can be resumed from; ``""`` if they can.

    Args:
        arguments: LlamaFactory's keys.
        source: The run file's name, for messages.
    """
    if arguments.get("save_only_model"):
        return f"save_only_model: true (from {source}) keeps no optimizer state"
    return why_not_loaded(arguments)


def why_not_loaded(arguments: Mapping[str, Any]) -> str:
    """Why a run cannot load a checkpoint, whole as it may be; ``""`` if it can.

    Args:
        arguments: LlamaFactory's keys.
    """
    if arguments.get("stage") == _REWARD_MODEL:
        return (
            "LlamaFactory keeps a reward model's value head in a file of its own, which the Trainer cannot load again"
        )
    return ""


def warnings(arguments: Mapping[str, Any], source: str) -> Iterator[str]:
    """What to say at the start of a dynamic run that cannot be resumed.

    Args:
        arguments: LlamaFactory's keys.
        source: The run file's name, for messages.
    """
    if arguments.get("save_only_model"):
        yield (
            f"save_only_model: true (from {source}) keeps no optimizer state: a run that is stopped cannot be resumed "
            "from its checkpoints, it has to start anew."
        )


def fsdp_warning(arguments: Mapping[str, Any], environ: Mapping[str, str], source: str) -> Iterator[str]:
    """What to say at the start of a static run under FSDP, whose checkpoints LlamaFactory and accelerate load.

    Args:
        arguments: LlamaFactory's keys.
        environ: The environment.
        source: The run file's name, for messages.
    """
    fsdp = find_fsdp(arguments, environ, source)
    if fsdp is None:
        return
    if fsdp.full_state and arguments.get("finetuning_type", "lora") == "full":
        said = "full fine-tuning under FULL_STATE_DICT can be resumed; under another setting of FSDP it cannot"
    else:
        said = "a resumed run goes on with other weights or without its optimizer state, and nothing says so"
    if not fsdp.full_state:
        said += (
            f"; and no final model is written under {fsdp.state_type}: for one, set {STATE_TYPE}=FULL_STATE_DICT "
            "(fsdp_state_dict_type in accelerate's file)"
        )
    yield f"FSDP ({fsdp.source}): {said}. A dynamic train type does both under FSDP2."
