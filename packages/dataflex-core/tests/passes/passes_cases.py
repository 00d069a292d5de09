"""Models whose scores and gradients can be worked out on paper; importable by a spawned process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gloo import joined
from torch import nn
from torch.nn import functional
from transformers.modeling_outputs import CausalLMOutput

from dataflex.components.context import RunContext
from dataflex.components.passes import Subtask
from dataflex.errors import ComponentError
from dataflex.gradients.cosines import CosineScorer
from dataflex.testing import make_context

Row = dict[str, list[int]]


class TwoTokens(nn.Module):
    """Predicts the next of two tokens by the one before it.

    As it is made, a token follows itself with e / (1 + e) = .731059 and the other one with .268941. So the gradient of
    the loss of the pair (a, b) is p - 1_b in the column of token a and 0 in the other one: (-.268941, .268941) or its
    negative where b is a, (.731059, -.731059) or its negative where it is not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2, bias=False)
        nn.init.eye_(self.layer.weight)

    def forward(self, input_ids: torch.Tensor, attention_mask: Any = None) -> CausalLMOutput:
        return CausalLMOutput(logits=self.layer(functional.one_hot(input_ids, 2).float()))


class OneForAll(TwoTokens):
    """What a row gets depends on how many rows are beside it."""

    def forward(self, input_ids: torch.Tensor, attention_mask: Any = None) -> CausalLMOutput:
        return CausalLMOutput(logits=super().forward(input_ids).logits * len(input_ids))


def row(*tokens: int) -> Row:
    return {"input_ids": list(tokens), "attention_mask": [1] * len(tokens), "labels": [-100, *tokens[1:]]}


POOL = [row(0, 0), row(0, 1), row(1, 0), row(1, 1), row(0, 1, 0)]
STAY, LEAVE = 0.268941, 0.731059
SQUARES = [2 * STAY**2, 2 * LEAVE**2, 2 * LEAVE**2, 2 * STAY**2, LEAVE**2]
"""Squared lengths of the gradients: the last row's is the mean of the second's and the third's, at right angles."""
LOSSES = [-np.log(LEAVE), -np.log(STAY), -np.log(STAY), -np.log(LEAVE), -np.log(STAY)]

SUBTASKS = {"leave 0": [row(0, 1)], "leave": [row(0, 1), row(1, 0)]}
COSINES = [[-1, -0.5], [1, 0.5], [0, 0.5], [0, -0.5], [0.5**0.5, 0.5**0.5]]
"""Means of the cosines with the subtasks' rows: equal columns have cosine 1 or -1, different ones 0."""


def pad(features: Sequence[Mapping[str, list[int]]]) -> dict[str, torch.Tensor]:
    width, fill = max(len(one["input_ids"]) for one in features), {"input_ids": 0, "attention_mask": 0, "labels": -100}
    return {
        name: torch.tensor([[*one[name], *[value] * (width - len(one[name]))] for one in features])
        for name, value in fill.items()
    }


def context(pool: Sequence[Row] = POOL, **facts: Any) -> RunContext:
    return make_context(pool, pad, **facts)


def subtasks() -> list[Subtask]:
    return [Subtask(name, rows, np.arange(len(rows))) for name, rows in SUBTASKS.items()]


def tokens_and_sum(model: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
    """Two scores of a row: its number of tokens, and their sum."""
    return torch.stack([batch["attention_mask"].sum(1), batch["input_ids"].sum(1)], dim=1).float()


class Squares:
    """Scores a row by the squared length of its gradient; counts the rows it has seen since the pass began."""

    width = 1

    def restart(self) -> None:
        self.seen = 0

    def begin(self, samples: int, device: torch.device) -> None:
        self.seen += samples
        self.squares_B = torch.zeros(samples)

    def take(self, name: str, samples: slice, grads_Cn: torch.Tensor) -> None:
        self.squares_B[samples] += grads_Cn.square().sum(1)

    def finish(self) -> None:
        pass

    def scores(self) -> torch.Tensor:
        return self.squares_B


def passes_on_a_rank(rank: int, world_size: int, folder: str) -> None:
    """All passes on one of two ranks; then ranks that disagree about the rows, and a function that fails on rank 1."""
    with joined(rank, world_size, folder) as accelerator:
        here, model, rows, sink = context(accelerator=accelerator), TwoTokens(), range(len(POOL)), Squares()
        found = {
            "scores": here.score(model, rows, tokens_and_sum, width=2, max_batch=1).values,
            "losses": here.losses(model, rows, token_budget=2).means,
            "squares": here.gradients(model, rows, sink).values,
            "cosines": CosineScorer(here, token_budget=2, who="test").at(model).score(subtasks(), rows).values,
        }
        found["one by one"] = here.gradients(OneForAll(), rows, sink).values
        assert 0 < sink.seen < len(POOL)  # the other rank saw the others
        for name, values in found.items():
            np.save(Path(folder, f"{name}{rank}.npy"), values, allow_pickle=False)

        def fails_on_one(model: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
            if rank == 1:
                raise RuntimeError("the disk is gone")
            return tokens_and_sum(model, batch)

        for place, (asked, fn) in enumerate([(range(rank, 4), tokens_and_sum), (rows, fails_on_one)]):
            try:
                here.score(model, asked, fn, width=2)
            except (ComponentError, RuntimeError) as error:
                Path(folder, f"error{place}-{rank}.txt").write_text(f"{type(error).__name__}: {error}", "utf-8")
