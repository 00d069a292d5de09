"""Rows of the pool in another model's tokens, prompt and answer told apart by the labels: for losses under that model.

Each run of tokens with or without labels is turned into text, without special tokens, and encoded by itself, so that no
token of the other tokenizer lies across the border of prompt and answer. No template is put around it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dataflex.components.context import RunContext
from dataflex.errors import ComponentError
from dataflex.math.losses import IGNORE_INDEX
from dataflex.scoring.cutting import has_media
from dataflex.scoring.other_model import OtherModel, Padded, longest

_AT_ONCE = 1000  # rows that are encoded in one call


class EncodedTurns:
    """Rows of a data set in another tokenizer's tokens, with labels; map-style.

    Args:
        dataset: Tokenised, map-style, with labels.
        decoder: The tokenizer of its tokens.
        tokenizer: The tokenizer to encode with. A token that it puts before every text begins each row.
        most: Most tokens of a row; ``None`` for no limit.
    """

    def __init__(self, dataset: Any, decoder: Any, tokenizer: Any, most: int | None) -> None:
        begin = first_token(tokenizer)
        tokens: list[npt.NDArray[np.int32]] = []
        answers: list[npt.NDArray[np.bool_]] = []
        for start in range(0, len(dataset), _AT_ONCE):
            rows = [_turns(dataset[row]) for row in range(start, min(start + _AT_ONCE, len(dataset)))]
            texts = [decoder.decode(ids, skip_special_tokens=True) for row in rows for _, ids in row]
            encoded = iter(encode_plainly(tokenizer, texts))
            for row in rows:
                turns = [(False, begin), *((answer, next(encoded)) for answer, _ in row)]
                tokens.append(np.asarray([token for _, ids in turns for token in ids][:most], np.int32))
                answers.append(np.asarray([answer for answer, ids in turns for _ in ids][:most], np.bool_))
        self._ends = np.cumsum([0, *map(len, tokens)])
        self._tokens = np.concatenate([np.zeros(0, np.int32), *tokens])
        self._answers = np.concatenate([np.zeros(0, np.bool_), *answers])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, row: int) -> dict[str, list[int]]:
        part = slice(self._ends[int(row)], self._ends[int(row) + 1])
        tokens = self._tokens[part]
        labels = np.where(self._answers[part], tokens, IGNORE_INDEX)
        return {"input_ids": tokens.tolist(), "labels": labels.tolist()}


class PaddedTurns(Padded):
    """Pads rows of tokens and labels on the right."""

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Make a batch of rows."""
        batch = super().__call__(features)
        labels = torch.full_like(batch["input_ids"], IGNORE_INDEX)
        for row, feature in enumerate(features):
            labels[row, : len(feature["labels"])] = torch.tensor(feature["labels"], dtype=torch.long)
        return {**batch, "labels": labels}


def context_of_other(other: OtherModel, context: RunContext) -> RunContext:
    """The run as another model would see it: the pool in its tokens, its tokenizer, the answer's header likewise.

    Raises:
        ComponentError: for rows with pictures, or without a tokenizer to decode them.
        ConfigError: when the model cannot be loaded.
    """
    if has_media(context.dataset):
        raise ComponentError(
            f"the rows come with pictures, films or sound, and {other.name} scores text alone. Let the run's own model "
            "score them."
        )
    decoder, (model, tokenizer) = other.decoder(), other.load()
    (header,) = encode_plainly(tokenizer, [decoder.decode(context.answer_header, skip_special_tokens=True)])
    return dataclasses.replace(
        context,
        dataset=EncodedTurns(context.dataset, decoder, tokenizer, longest(model, tokenizer)),
        data_collator=PaddedTurns(tokenizer),
        tokenizer=tokenizer,
        answer_header=tuple(header),
    )


def encode_plainly(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Tokens of texts, without special ones; none of no text."""
    filled = [text for text in texts if text]
    given = iter(tokenizer(filled, add_special_tokens=False)["input_ids"] if filled else ())
    return [list(next(given)) if text else [] for text in texts]


def first_token(tokenizer: Any) -> list[int]:
    """The token that a tokenizer puts before every text, if it puts one."""
    begin = getattr(tokenizer, "bos_token_id", None)
    return [begin] if begin is not None and list(tokenizer("a")["input_ids"])[:1] == [begin] else []


def _turns(features: Mapping[str, Any]) -> list[tuple[bool, list[int]]]:
    """Runs of tokens with or without a label, in order."""
    if "labels" not in features:
        raise ComponentError("a loss needs labels, which the rows do not have. Use stage: sft or pt.")
    pairs = zip(features["labels"], features["input_ids"], strict=True)
    runs = groupby(pairs, key=lambda pair: pair[0] != IGNORE_INDEX)
    return [(answer, [int(token) for _, token in run]) for answer, run in runs]
