"""Whether a run can go on from its own checkpoints at all. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dataflex.sharding import STATE_TYPE, Fsdp, find_fsdp

_REWARD_MODEL = "rm"  # the one stage of ours whose checkpoints LlamaFactory itself cannot go on from


def why_no_resume(arguments: Mapping[str, Any], environ: Mapping[str, str], source: str) -> str:
    """Why no checkpoint that a run writes can be resumed from; ``""`` if they can.

    Args:
        arguments: LlamaFactory's keys.
        environ: The environment.
        source: The run file's name, for messages.
    """
    if arguments.get("save_only_model"):
        return f"save_only_model: true (from {source}) keeps no optimizer state"
    return why_not_loaded(arguments, environ, source)


def why_not_loaded(arguments: Mapping[str, Any], environ: Mapping[str, str], source: str) -> str:
    """Why a run cannot load a checkpoint, whole as it may be; ``""`` if it can.

    Args:
        arguments: LlamaFactory's keys.
        environ: The environment.
        source: The run file's name, for messages.
    """
    if arguments.get("stage") == _REWARD_MODEL:
        return (
            "LlamaFactory keeps a reward model's value head in a file of its own, which the Trainer cannot load again"
        )
    fsdp = find_fsdp(arguments, environ, source)
    if fsdp is None or _is_exact(fsdp, arguments):
        return ""
    return (
        f"under FSDP ({fsdp.source}) the Trainer loads a checkpoint wrongly: of {fsdp.state_type} no optimizer state, "
        "of an adapter not on every rank. Only finetuning_type: full under FULL_STATE_DICT is exact"
    )


def warnings(arguments: Mapping[str, Any], environ: Mapping[str, str], source: str) -> Iterator[str]:
    """What to say at the start of a dynamic run that cannot be resumed, or will end without a model.

    Args:
        arguments: LlamaFactory's keys.
        environ: The environment.
        source: The run file's name, for messages.
    """
    if arguments.get("save_only_model"):
        yield (
            f"save_only_model: true (from {source}) keeps no optimizer state: a run that is stopped cannot be resumed "
            "from its checkpoints, it has to start anew."
        )
    yield from fsdp_warning(arguments, environ, source, dynamic=True)


def fsdp_warning(
    arguments: Mapping[str, Any], environ: Mapping[str, str], source: str, *, dynamic: bool
) -> Iterator[str]:
    """What to say at the start of a run under FSDP, in one sentence or two; nothing for other runs.

    Args:
        arguments: LlamaFactory's keys.
        environ: The environment.
        source: The run file's name, for messages.
        dynamic: Whether a resume is refused where it would not be exact.
    """
    fsdp = find_fsdp(arguments, environ, source)
    if fsdp is None:
        return
    if _is_exact(fsdp, arguments):
        said = "full fine-tuning under FULL_STATE_DICT can be resumed; under another setting of FSDP it cannot"
    elif dynamic:
        said = "a run that is stopped cannot be resumed from its checkpoints, since the Trainer loads them wrongly"
    else:
        said = "a resumed run goes on with other weights or without its optimizer state, and nothing says so"
    if not fsdp.full_state:
        said += (
            f"; and no final model is written under {fsdp.state_type}: for one, set {STATE_TYPE}=FULL_STATE_DICT "
            "(fsdp_state_dict_type in accelerate's file)"
        )
    yield f"FSDP ({fsdp.source}): {said}."


def _is_exact(fsdp: Fsdp, arguments: Mapping[str, Any]) -> bool:
    return fsdp.full_state and arguments.get("finetuning_type", "lora") == "full"
