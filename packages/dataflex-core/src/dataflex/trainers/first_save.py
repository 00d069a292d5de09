"""What is known to fail when the first checkpoint is written fails before the first step: hours may lie between.

All that is small is written for trial into a temporary folder: the model's configuration, the tokenizer, the states of
callbacks, the arguments. Of the weights, those that share memory are looked for, which safetensors refuses to write.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from transformers import PreTrainedModel, modeling_utils
from transformers.trainer_utils import SaveStrategy
from transformers.utils import logging

from dataflex.distributed import together
from dataflex.errors import ConfigError
from dataflex.failures.saying import said
from dataflex.trainers.host import Host
from dataflex.trainers.resume import callback_state
from dataflex.trainers.session import Session

_KNOWN = ("transformers.", "llamafactory.", "trl.")
"""Packages whose way of saving a model is known; any other class may write it as it likes."""

_WITHOUT_TIES = getattr(modeling_utils, "remove_tied_weights_from_state_dict", None)  # of transformers 5


class _Saves(Host, Protocol):
    """A Trainer with our mixin."""

    session: Session


def try_first_save(trainer: _Saves) -> None:
    """Try what a checkpoint needs beside room. Called on every rank, before the first step.

    Args:
        trainer: The ``transformers.Trainer``, with its callbacks.

    Raises:
        ConfigError: says what cannot be written, and why.
    """
    by_llamafactory = trainer.session.arguments is not None  # it writes a model at the end in any case
    if trainer.args.save_strategy == SaveStrategy.NO and not by_llamafactory:
        return
    with together("trying what a checkpoint needs", trainer.accelerator):
        if trainer.args.should_save:
            with _unannounced(), tempfile.TemporaryDirectory(prefix="dataflex-") as folder:
                _try(trainer, Path(folder))


@contextlib.contextmanager
def _unannounced() -> Iterator[None]:
    """Hide what transformers says of each file it writes: nobody will find these."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _try(trainer: _Saves, folder: Path) -> None:
    for what, write in _parts(trainer, folder):
        try:
            write()
        except OSError:  # of the temporary folder
            continue
        except Exception as error:  # whatever a model, a tokenizer or a callback has to say
            raise ConfigError(
                f"no checkpoint of this run could be written, because of {what}: {said(error)}. Nothing has been "
                "trained yet; fix that first."
            ) from error


def _parts(trainer: _Saves, folder: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What to try, with what to call it."""
    callbacks, control = trainer.callback_handler.callbacks, trainer.control
    yield "the state of a callback", lambda: json.dumps(callback_state.exported(callbacks, control))
    yield "the Trainer's arguments", lambda: torch.save(trainer.args, io.BytesIO())
    if not cast(Any, type(trainer))._save.__module__.startswith(_KNOWN):
        return
    if hasattr(trainer.processing_class, "save_pretrained"):
        yield "the tokenizer or processor", lambda: trainer.processing_class.save_pretrained(folder)
    model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    for name, adapter in _adapters(model).items():
        yield "the adapter's configuration", lambda: adapter.save_pretrained(folder / name)  # noqa: B023, called at once
    if isinstance(model, PreTrainedModel) and not _adapters(model):
        yield "the model's configuration", lambda: model.config.save_pretrained(folder)
        if model.can_generate():
            yield "the model's generation config", lambda: model.generation_config.save_pretrained(folder)
    if not (trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled or _adapters(model)):  # those gather copies
        yield "its weights", lambda: _require_writable(model)


def _adapters(model: Any) -> Mapping[str, Any]:
    """The configurations of a PEFT model's adapters."""
    found = getattr(model, "peft_config", None)
    return found if isinstance(found, Mapping) else {}


def _require_writable(model: Any) -> None:
    weights = model.state_dict()
    if isinstance(model, PreTrainedModel):  # which knows its own ties, and says what else shares memory
        if _WITHOUT_TIES is not None:
            _WITHOUT_TIES(weights, model)
        return
    pairs = [f"{one} and {other}" for one, other in shared(weights)]
    if pairs:
        raise ValueError(
            f"{', '.join(pairs)} share memory (tied embeddings?), which the safetensors library does not write. Untie "
            "them, or train an adapter"
        )
    scattered = [name for name, tensor in _tensors(weights) if not tensor.is_contiguous()]
    if scattered:
        raise ValueError(f"{', '.join(scattered)} not contiguous in memory, which the safetensors library refuses")


def shared(weights: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pairs of tensors that lie in the same memory, by name.

    Args:
        weights: A ``state_dict``; what is no tensor is passed over.
    """
    places: dict[tuple[Any, int], list[tuple[int, int, str]]] = {}
    for name, tensor in _tensors(weights):
        end = tensor.data_ptr() + (_last(tensor) + 1) * tensor.element_size()
        storage = tensor.device, tensor.untyped_storage().data_ptr()
        places.setdefault(storage, []).append((tensor.data_ptr(), end, name))
    found = []
    for inside in places.values():
        found += [(one[2], other[2]) for one, other in pairwise(sorted(inside)) if other[0] < one[1]]
    return found


def _tensors(weights: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """Those of a ``state_dict`` that lie in memory as they are: not sharded, sparse, or without numbers."""
    for name, tensor in weights.items():
        if not isinstance(tensor, torch.Tensor) or hasattr(tensor, "_local_tensor"):
            continue
        if tensor.layout is torch.strided and tensor.device.type != "meta" and tensor.numel():
            yield name, tensor


def _last(tensor: torch.Tensor) -> int:
    """How far behind the first element of a tensor its last one lies, in elements."""
    return sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
