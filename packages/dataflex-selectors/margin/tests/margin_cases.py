"""Pairs whose margin is written in the row, for the selector ``margin``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from dataflex.testing import make_context
from dataflex_selectors_margin.params import MarginParams
from dataflex_selectors_margin.selector import MarginSelector


class Written:
    """An objective that reads the margin of a row from its batch."""

    width = 2
    settings: Mapping[str, Any] = {}
    reference: nn.Module | None = None

    def numbers(self, model: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        margins_B = batch["margin"]
        return torch.stack([-functional.logsigmoid(margins_B), margins_B], dim=1)

    def scores(self, numbers_NW: Any) -> tuple[Any, Any]:
        return numbers_NW[:, 0], numbers_NW[:, 1]


def collate(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    return {"margin": torch.tensor([row["margin"] for row in rows], dtype=torch.float64)}


def selector(margins: Sequence[float], *, seed: int = 1, **params: Any) -> MarginSelector:
    rows = [{"chosen_input_ids": [1, 2], "rejected_input_ids": [3], "margin": margin} for margin in margins]
    context = make_context(rows, collate, seed=seed, stage="dpo", objective=Written())
    return MarginSelector(MarginParams(**params), context)


def chosen(margins: Sequence[float], step: int, count: int, **params: Any) -> list[int]:
    return [int(row) for row in selector(margins, **params).select(nn.Linear(1, 1), step, count).rows]
