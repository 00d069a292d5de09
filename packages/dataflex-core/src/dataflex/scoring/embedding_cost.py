"""What embedding a row costs, in forward passes of the model in training: the part of tokens and layers, no head.

A forward pass of a token costs two operations for each number of a block or of the head, so parts of a model are
compared by their sizes; what attention itself adds is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from dataflex.components.context import RunContext
from dataflex.data.token_blocks import TokenBlock, token_blocks
from dataflex.errors import ComponentError
from dataflex.paths import user_path
from dataflex.rng import rng_scope
from dataflex.scoring.cutting import may_be_cut
from dataflex.scoring.hidden_states import decoder_of

if TYPE_CHECKING:
    from dataflex.scoring.embeddings import EmbeddingSpec

_LOOKED_AT = 2048
"""Rows that the part of the tokens is measured on, evenly spaced over the pool."""


def embedding_share(model: nn.Module, spec: EmbeddingSpec, context: RunContext) -> float:
    """A row's embedding in forward passes of the model in training, head included: phi.

    Args:
        model: The model in training.
        spec: What the embedding is made of.
        context: The run; its pool is looked at.
    """
    whole = forward_size(model)
    part = forward_size(model, spec.layers) if spec.model == "run" else other_size(spec.model, spec.layers, context)
    share = 1.0 if not whole or part is None else part / whole
    return share * _token_share(model, spec, context)


def forward_size(model: nn.Module, layers: Sequence[int] | None = None) -> int:
    """Numbers that a token meets: in the blocks and the head, or in the blocks up to the deepest of ``layers``.

    Embeddings of tokens are looked up and cost nothing. Of a model whose blocks are not found, all its numbers.
    """
    try:
        decoder = decoder_of(model)
        deepest = len(decoder.blocks) if layers is None else max(decoder.layers(layers))
    except ComponentError:  # said where rows are embedded, if this is the model that embeds them
        return sum(map(numbers_of, model.parameters()))
    size = sum(numbers_of(parameter) for block in decoder.blocks[:deepest] for parameter in block.parameters())
    if layers is None and decoder.head is not None:
        size += sum(map(numbers_of, decoder.head.parameters()))
    return size


def numbers_of(parameter: Any) -> int:
    """Numbers of a parameter; of the whole of it where this rank holds a part (ZeRO-3)."""
    return int(getattr(parameter, "ds_numel", None) or parameter.numel())


def other_size(name: str, layers: Sequence[int] | None, context: RunContext) -> int | None:
    """:func:`forward_size` of another model, without its head, by path or hub id; ``None`` if it cannot be had."""
    from transformers import AutoConfig, AutoModel

    local = user_path(name)
    place, trusted = str(local) if local.is_dir() else name, {"trust_remote_code": context.trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(place, **trusted)
        with rng_scope(devices=True), torch.device("meta"):
            return forward_size(AutoModel.from_config(config, **trusted), layers)
    except Exception:  # what is wrong with it is said where it is loaded
        return None


def _token_share(model: nn.Module, spec: EmbeddingSpec, context: RunContext) -> float:
    """Which part of the pool's tokens passes through the model: all up to the last one that counts."""
    dataset = context.dataset
    if not len(dataset) or (spec.tokens is None and spec.span == "all"):
        return 1.0
    if spec.model == "run" and not may_be_cut(model, dataset):
        return 1.0
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(_LOOKED_AT, len(dataset))).astype(np.int64))
    few = dataset.select(rows) if hasattr(dataset, "select") else [dataset[int(row)] for row in rows]
    used = whole = 0
    for block in token_blocks(few, 0, len(few), part=spec.span):
        passed, kept = _passed(block, spec.tokens)
        used += kept if spec.model != "run" else passed  # another model is given the span's text alone
        whole += int(block.lengths.sum())
    return used / whole if whole else 1.0


def _passed(block: TokenBlock, most: int | None) -> tuple[int, int]:
    """Tokens up to the last one that counts, and those that count, summed over a block's rows."""
    lengths = block.lengths[block.lengths > 0]
    if not len(lengths):
        return 0, 0
    starts = np.cumsum(lengths) - lengths
    counts_T = np.ones(len(block.ids), bool) if block.kept is None else block.kept
    before_T = np.cumsum(counts_T) - counts_T
    number_T = before_T - np.repeat(before_T[starts], lengths)
    if most is not None:
        counts_T = counts_T & (number_T < most)
    places_T = np.arange(len(counts_T)) - np.repeat(starts, lengths)
    return int(np.maximum.reduceat(np.where(counts_T, places_T + 1, 0), starts).sum()), int(counts_T.sum())
