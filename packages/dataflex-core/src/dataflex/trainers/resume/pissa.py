"""LlamaFactory's conversion of PiSSA adapters across a resume: it needs the adapter that training began with.

``PissaConvertCallback`` stores the adapter in ``pissa_init`` when training begins, and subtracts it at the end from
what was learned. When a resumed run begins, the adapter in the model is the checkpoint's. So what the first start
stored is left as it is; and the base weights, from which that adapter was taken, have to be the same again.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from dataflex.distributed import first_failure
from dataflex.errors import ConfigError
from dataflex.trainers.host import Host

CALLBACK = "PissaConvertCallback"
FOLDER = "pissa_init"
_WEIGHTS = "adapter_model.safetensors"


def keep_initial_adapter(trainer: Host, checkpoint: Path) -> list[TrainerCallback]:
    """See that the adapter of the first start is there; called on every rank, before the checkpoint is loaded.

    Args:
        trainer: The ``transformers.Trainer``, with the model as a new run would begin with it.
        checkpoint: What the run goes on from.

    Returns:
        The callbacks that must not store it once more; empty for a run that converts nothing.

    Raises:
        ConfigError: names the callback, when the adapter is gone or is not the one this start makes.
    """
    callbacks = [one for one in trainer.callback_handler.callbacks if _converts(type(one))]
    if not callbacks:
        return []
    failure = _why_not(trainer, checkpoint) if trainer.args.should_save else ""
    failure = first_failure(failure, trainer.accelerator, last=True)
    if failure:
        raise ConfigError(f"cannot resume from {checkpoint} with the callback {CALLBACK}: {failure}")
    return callbacks


def _converts(kind: type) -> bool:
    return any(base.__name__ == CALLBACK for base in kind.__mro__)


def _why_not(trainer: Host, checkpoint: Path) -> str:
    output_dir = Path(trainer.args.output_dir)
    there = [folder / FOLDER for folder in (output_dir, checkpoint.parent) if (folder / FOLDER / _WEIGHTS).is_file()]
    if not there:
        return (
            f"{output_dir / FOLDER}, the adapter that training began with, is missing. Put it back from where the run "
            "began, or start anew."
        )
    if not _same_as_now(trainer.accelerator.unwrap_model(trainer.model), there[0] / _WEIGHTS):
        return (
            f"{there[0]} is not the adapter that this start makes of the base model (another model or seed, or an "
            "earlier resume has replaced it). Put back what differs, or start anew."
        )
    if there[0].parent != output_dir:
        shutil.copytree(there[0], output_dir / FOLDER, dirs_exist_ok=True)
    return ""


def _same_as_now(model: Any, weights: Path) -> bool:
    import torch
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not isinstance(model, PeftModel):
        return True  # then the callback does nothing either
    now: dict[str, Any] = get_peft_model_state_dict(model)
    try:
        then = load_file(weights)
    except (SafetensorError, OSError):
        return False
    return then.keys() == now.keys() and all(torch.equal(then[name], now[name].detach().cpu()) for name in then)
