"""The model that rows are embedded with: what it depends on, and how rows reach it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dataflex.components.context import RunContext
from dataflex.data.fingerprint import contents
from dataflex.scoring.shards import of_all_ranks, pass_fingerprint
from dataflex.spread import local_piece

if TYPE_CHECKING:
    from dataflex.scoring.embeddings import EmbeddingSpec

Rows = npt.NDArray[np.int64]

_OF_NO_ACCOUNT = frozenset({"transformers_version", "use_cache", "dtype", "torch_dtype", "architectures"})


@dataclass(frozen=True)
class Ready:
    """A model and rows that fit it.

    Attributes:
        model: What is called.
        dataset: Map-style, with the rows' own numbers.
        collator: A list of rows to one batch.
        spec: What is left to do: the span may be cut out already.
    """

    model: nn.Module
    dataset: Any
    collator: Callable[[Sequence[Any]], Mapping[str, Any]]
    spec: EmbeddingSpec


class EmbeddedModel(Protocol):
    """A model to embed rows with.

    Attributes:
        name: For what is kept beside an index.
        on_every_rank: Whether every rank has to make the fingerprint, or rank 0 does.
    """

    name: str
    on_every_rank: bool

    def fingerprint(self, dataset: Any, rows: Rows, settings: Mapping[str, Any]) -> str:
        """Hash weights, rows and settings."""

    def ready(self, dataset: Any, rows: Rows, spec: EmbeddingSpec) -> Ready:
        """The model, and the rows as it takes them."""


class RunModel:
    """The run's own model, with the run's own tokens and collator."""

    name = "run"
    on_every_rank = True

    def __init__(self, model: nn.Module, context: RunContext) -> None:
        self._model, self._collator, self._weights = model, context.data_collator, ""
        self._accelerator = context.accelerator

    def fingerprint(self, dataset: Any, rows: Rows, settings: Mapping[str, Any]) -> str:
        """Of the weights, frozen ones whole too: an index may be shared by runs of several models."""
        if not self._weights:
            frozen = [parameter for parameter in self._model.parameters() if not parameter.requires_grad]
            others = [("frozen", (_sums(frozen),))] if frozen else []
            own = pass_fingerprint(self._model, [], {"configuration": _configuration(self._model)}, others)
            self._weights = of_all_ranks(own, self._model, self._accelerator)
        depends = json.dumps([self._weights, contents(dataset, rows), dict(settings)], sort_keys=True)
        return hashlib.blake2b(depends.encode(), digest_size=12).hexdigest()

    def ready(self, dataset: Any, rows: Rows, spec: EmbeddingSpec) -> Ready:
        """The rows as they are."""
        return Ready(self._model, dataset, self._collator, spec)


def _sums(parameters: Sequence[torch.Tensor]) -> torch.Tensor:
    """A checksum of each, which any one number changes; made where the weights are, at the speed of memory."""
    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return torch.stack(
        [
            local_piece(parameter).contiguous().view(whole[parameter.element_size()]).sum(dtype=torch.int64).cpu()
            for parameter in parameters
        ]
    )


def _configuration(model: nn.Module) -> dict[str, Any]:
    """What the configurations of model and adapters say beside the weights: heads, RoPE, an adapter's scaling."""
    config: Any = getattr(model, "config", None)
    found = dict(config.to_dict()) if hasattr(config, "to_dict") else {}
    adapters = getattr(model, "peft_config", None) or {}
    named = {f"adapter {name}": each.to_dict() for name, each in adapters.items() if hasattr(each, "to_dict")}
    return {"model": _plain(found), **{name: _plain(each) for name, each in named.items()}}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in values.items() if not name.startswith("_") and name not in _OF_NO_ACCOUNT}
    names = ("base_model_name_or_path", "inference_mode", "revision")
    text = json.dumps({name: value for name, value in kept.items() if name not in names}, sort_keys=True, default=_said)
    return dict(json.loads(text))


def _said(value: Any) -> Any:
    return sorted(map(str, value)) if isinstance(value, (set, frozenset)) else type(value).__name__
