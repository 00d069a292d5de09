"""Checkpoints under FSDP2: weights and optimizer state in pieces, loaded bit for bit, and compared piece by piece.

    checkpoint-40/
        pytorch_model_fsdp_0/     weights (of an adapter run: what is trained), torch's distributed checkpoint
            pieces.json           digests of every rank's pieces, of weights and of Adam's moments
        optimizer_0/              optimizer state, likewise

accelerate 1.11 gives a fresh optimizer no state back under ``SHARDED_STATE_DICT`` and loads an adapter on rank 0 alone
under ``FULL_STATE_DICT``, and says nothing of either. So its functions are replaced where the Trainer calls them, for
the time of the call, by torch's own, which work in pieces under both types.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from dataflex.checkpoint.state import write_atomically
from dataflex.distributed import all_gather
from dataflex.errors import ConfigError
from dataflex.spread import local_piece, reshard
from dataflex.trainers.host import Host

logger = logging.getLogger("dataflex")

WEIGHTS, OPTIMIZER, PIECES = "pytorch_model_fsdp_0", "optimizer_0", "pieces.json"
_WHOLE = "pytorch_model_fsdp.bin"  # what accelerate writes under FULL_STATE_DICT
_VERSION = 2

Digests = dict[str, str]


@contextlib.contextmanager
def in_pieces(trainer: Host) -> Iterator[None]:
    """Let the Trainer save and load what FSDP2 spreads by the functions of this module; nothing else changes."""
    if not is_fsdp2(trainer):
        yield
        return
    from transformers import trainer as seam

    own = {"save_fsdp_model": _save_model, "save_fsdp_optimizer": _save_optimizer}
    own |= {"load_fsdp_model": _load_model, "load_fsdp_optimizer": _load_optimizer}
    missing = [name for name in own if not hasattr(seam, name)]
    if missing:
        raise ConfigError(
            f"this version of transformers saves and loads FSDP's state without {missing[0]}, so checkpoints under "
            "FSDP2 would be loaded wrongly. Use the version that dataflex doctor names."
        )
    stock = {name: getattr(seam, name) for name in own}
    for name, function in own.items():
        setattr(seam, name, function)
    try:
        yield
    finally:
        for name, function in stock.items():
            setattr(seam, name, function)


@contextlib.contextmanager
def whole_state(trainer: Host) -> Iterator[None]:
    """Let ``save_model`` write the weights in one piece, whatever type checkpoints are of: it writes none otherwise."""
    if not is_fsdp2(trainer):
        yield
        return
    from torch.distributed.fsdp import StateDictType

    plugin = trainer.accelerator.state.fsdp_plugin
    kind = plugin.state_dict_type
    plugin.state_dict_type = StateDictType.FULL_STATE_DICT
    try:
        reshard(trainer.model)
        yield
    finally:
        plugin.state_dict_type = kind


def is_fsdp2(trainer: Host) -> bool:
    """Whether FSDP of version 2 spreads the Trainer's model."""
    plugin = getattr(trainer.accelerator.state, "fsdp_plugin", None)
    return plugin is not None and int(getattr(plugin, "fsdp_version", 1)) == _VERSION


def _save_model(
    plugin: Any, accelerator: Any, model: Any, output_dir: str, model_index: int = 0, adapter_only: bool = False
) -> None:
    import torch.distributed.checkpoint as dcp

    reshard(model)
    folder = Path(output_dir) / WEIGHTS
    dcp.save({"model": _weights(model)}, checkpoint_id=str(folder))


def _save_optimizer(
    plugin: Any, accelerator: Any, optimizer: Any, model: Any, output_dir: str, optimizer_index: int = 0
) -> None:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

    reshard(model)
    bare = _bare(optimizer)
    dcp.save({"optimizer": get_optimizer_state_dict(model, bare)}, checkpoint_id=str(Path(output_dir) / OPTIMIZER))
    pieces = all_gather({"weights": weight_digests(model), "moments": moment_digests(model, bare)}, accelerator)
    if accelerator.process_index == 0:
        text = json.dumps({"ranks": pieces}, indent=0, sort_keys=True)
        write_atomically(Path(output_dir) / WEIGHTS / PIECES, text.encode())


def _load_model(
    plugin: Any, accelerator: Any, model: Any, input_dir: str, model_index: int = 0, adapter_only: bool = False
) -> Any:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    folder = Path(input_dir)
    if not (folder / WEIGHTS / PIECES).is_file():
        return _load_old_model(plugin, accelerator, model, folder, adapter_only)
    reshard(model)
    held = {"model": _weights(model)}
    dcp.load(held, checkpoint_id=str(folder / WEIGHTS))
    set_model_state_dict(model, held["model"], options=StateDictOptions(strict=False))
    _compare(folder, "weights", weight_digests(model), accelerator)
    return SimpleNamespace(missing_keys=[], unexpected_keys=[])  # what is missing in the file, dcp.load has refused


def _load_optimizer(
    plugin: Any,
    accelerator: Any,
    optimizer: Any,
    model: Any,
    input_dir: str,
    optimizer_index: int = 0,
    adapter_only: bool = False,
) -> None:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

    folder = Path(input_dir)
    if not (folder / WEIGHTS / PIECES).is_file():
        from accelerate.utils import load_fsdp_optimizer

        load_fsdp_optimizer(plugin, accelerator, optimizer, model, input_dir)  # _load_old_model has looked at it
        return
    reshard(model)
    bare = _bare(optimizer)
    held = {"optimizer": get_optimizer_state_dict(model, bare)}  # of a fresh one, this makes the empty state
    dcp.load(held, checkpoint_id=str(folder / OPTIMIZER))
    set_optimizer_state_dict(model, bare, held["optimizer"])
    _compare(folder, "optimizer state", moment_digests(model, bare), accelerator)


def _load_old_model(plugin: Any, accelerator: Any, model: Any, folder: Path, adapter_only: bool) -> Any:
    """A checkpoint of before: full fine-tuning in one file is what accelerate loads exactly."""
    from accelerate.utils import load_fsdp_model

    if not (folder / _WHOLE).is_file() or hasattr(model, "peft_config"):
        raise ConfigError(
            f"cannot resume from {folder}: it was written under FSDP by an earlier version of DataFlex, or without it, "
            "and accelerate loads such a checkpoint wrongly (of SHARDED_STATE_DICT no optimizer state, of an adapter "
            "not on every rank). Start anew: another output_dir, or overwrite_output_dir: true."
        )
    return load_fsdp_model(plugin, accelerator, model, str(folder), adapter_only=adapter_only)


def _weights(model: Any) -> dict[str, Any]:
    """The model's tensors, in pieces; of an adapter run those that are trained: the others are in the base model."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return get_model_state_dict(model, options=StateDictOptions(ignore_frozen_params=hasattr(model, "peft_config")))


def weight_digests(model: Any) -> Digests:
    """Digests of this rank's pieces of everything that is trained, by name."""
    return {name: _digest(value) for name, value in model.named_parameters() if value.requires_grad}


def moment_digests(model: Any, optimizer: Any) -> Digests:
    """Digests of this rank's pieces of what the optimizer remembers of each parameter."""
    return {
        f"{name} {key}": _digest(value)
        for name, parameter in model.named_parameters()
        for key, value in sorted(optimizer.state.get(parameter, {}).items())
        if isinstance(value, torch.Tensor)
    }


def _digest(tensor: torch.Tensor) -> str:
    flat = local_piece(tensor).reshape(-1).contiguous().cpu().view(torch.uint8)
    return hashlib.blake2b(flat.numpy().tobytes(), digest_size=12).hexdigest()


def _compare(folder: Path, what: str, found: Mapping[str, str], accelerator: Any) -> None:
    """Compare what is in memory with what was saved, on all ranks.

    Raises:
        ConfigError: on every rank, naming the first tensor that differs on any.
    """
    saved = json.loads((folder / WEIGHTS / PIECES).read_text(encoding="utf-8"))["ranks"]
    if len(saved) != int(accelerator.num_processes):
        if accelerator.process_index == 0:
            logger.info(
                "%s was written by %d ranks and is dealt out anew, so its %s is not compared piece by piece.",
                folder,
                len(saved),
                what,
            )
        return
    own = saved[accelerator.process_index]["weights" if what == "weights" else "moments"]
    wrong = [name for name in sorted({*own, *found}) if own.get(name) != found.get(name)]
    said = f"{wrong[0]} on rank {accelerator.process_index}" if wrong else ""
    told = [text for text in all_gather(said, accelerator) if text]
    if told:
        raise ConfigError(
            f"the {what} that was loaded from {folder} is not what was saved: {told[0]} differs. Take another "
            "checkpoint, or the library versions that it was written with."
        )


def _bare(optimizer: Any) -> Any:
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer
