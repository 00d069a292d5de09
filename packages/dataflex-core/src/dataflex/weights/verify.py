"""Checking a model that ``from_pretrained`` has just made, such as a reference model, against its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from dataflex.errors import ConfigError
from dataflex.weights import compare
from dataflex.weights.compare import Difference
from dataflex.weights.convert import loading_differences
from dataflex.weights.files import ADAPTER, SavedWeights, saved_weights
from dataflex.weights.views import View, adapter_view, model_views

_POOLER = "pooler"


def check_pretrained(model: nn.Module, source: str, loading_info: Mapping[str, Any], *, head: bool = True) -> None:
    """Check that a model holds what its files hold; numbers may be rounded to the precision that was asked for.

    Args:
        model: As ``from_pretrained`` returned it.
        source: What it was given: a folder or a name on a hub.
        loading_info: What ``output_loading_info=True`` returned beside the model.
        head: Whether the model has the head of its files. One without may leave a head in the files, and lack a pooler,
            of which its hidden states know nothing.

    Raises:
        ConfigError: names up to five tensors that found no place, or that no file has.
    """
    missing, unexpected, mismatched = (
        loading_info.get(key) or () for key in ("missing_keys", "unexpected_keys", "mismatched_keys")
    )
    if not head:
        missing, unexpected = [name for name in missing if _POOLER not in str(name).split(".")], ()
    found = loading_differences(missing, unexpected, mismatched)
    saved = saved_weights(_folder(source))
    if saved is not None and not found:
        other = _without_head if head else _below_head
        views = [view for stock in model_views(model) for view in (stock, other(model, stock))]
        found = compare.values(saved, compare.fitting(saved, views), rounded=True)
    _refuse(source, found, saved)


def check_adapter(model: Any, source: str) -> None:
    """The same for an adapter on its base model.

    Args:
        model: As ``PeftModel.from_pretrained`` returned it.
        source: What it was given.

    Raises:
        ConfigError: as :func:`check_pretrained`.
    """
    saved = saved_weights(_folder(source, "adapter_config.json"), ADAPTER)
    if saved is None or saved.pickled:
        return
    view = adapter_view(model, model.active_adapters[0])
    found = compare.names_and_shapes(saved, view) or compare.values(saved, view, rounded=True)
    _refuse(source, found, saved)


def _refuse(source: str, found: Sequence[Difference], saved: SavedWeights | None) -> None:
    if found:
        told = compare.describe(found, len(saved.tensors) if saved is not None else 0)
        raise ConfigError(
            f"the model loaded from {source} does not hold its weights: {told}. Take another model, or the library "
            "versions that it was written with."
        )


def _folder(source: str, file: str = "config.json") -> Path:
    if Path(source).is_dir():
        return Path(source)
    from transformers.utils.hub import cached_file

    return Path(str(cached_file(source, file))).parent


def _below_head(model: nn.Module, view: View) -> View:
    """The same tensors named as in a file of the model with a head."""
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    return View({prefix + name: tensor for name, tensor in view.tensors.items()})


def _without_head(model: nn.Module, view: View) -> View:
    """The same tensors named as in a file of the model without its head."""
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    return View({name.removeprefix(prefix): tensor for name, tensor in view.tensors.items()})
