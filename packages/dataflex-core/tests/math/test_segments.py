"""Samples inside packed rows are told apart by each of the traces that packing leaves."""

from __future__ import annotations

import pytest
import torch

from dataflex.math.segments import segment_ids, unit_losses

IDS = torch.tensor([[1, 1, 1, 2, 2, 0], [1, 1, 2, 2, 3, 3]])
POSITIONS = torch.tensor([[0, 1, 2, 0, 1, 0], [0, 1, 0, 1, 0, 1]])


def block_diagonal(ids: torch.Tensor) -> torch.Tensor:
    same = (ids[:, None, :, None] == ids[:, None, None, :]) & (ids != 0)[:, None, None, :]
    return torch.where(torch.tril(same), 0.0, torch.finfo(torch.float32).min)


TRACES = {
    "ids": {"attention_mask": IDS},
    "block-diagonal": {"attention_mask": block_diagonal(IDS)},
    "block-diagonal bool": {"attention_mask": block_diagonal(IDS) == 0},
    "positions": {"position_ids": POSITIONS, "attention_mask": torch.ones_like(IDS)},
    "rotary positions": {"position_ids": POSITIONS.expand(3, -1, -1)},
}


@pytest.mark.parametrize("trace", TRACES)
def test_segments_are_found(trace: str) -> None:
    segments = segment_ids(TRACES[trace])
    assert segments is not None
    assert segments.tolist() == [[0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2]]


@pytest.mark.parametrize(
    "inputs",
    [
        {"attention_mask": torch.tensor([[0, 1, 1], [1, 1, 1]])},
        {"position_ids": torch.tensor([[0, 0, 1], [0, 1, 2]])},
        {"position_ids": torch.tensor([[5, 6, 7]])},
        {"input_ids": torch.tensor([[1, 2]]), "attention_mask": None},
    ],
    ids=["left padding", "left padded positions", "shifted positions", "nothing"],
)
def test_rows_of_one_sample_have_no_segments(inputs: dict[str, torch.Tensor]) -> None:
    assert segment_ids(inputs) is None


def test_a_prediction_counts_for_the_sample_of_its_target() -> None:
    losses = torch.tensor([[1.0, 2.0, 4.0, 8.0, 0.0], [1.0, 10.0, 100.0, 1000.0, 10000.0]])
    mask = losses > 0
    units = unit_losses(losses, mask, segment_ids(TRACES["ids"]))
    assert units.sums_B.tolist() == [3.0, 12.0, 0.0, 1.0, 110.0, 11000.0]
    assert units.counts_B.tolist() == [2, 2, 0, 1, 2, 2]


def test_without_segments_the_row_is_the_unit() -> None:
    losses = torch.tensor([[1.0, 2.0], [4.0, 0.0]])
    units = unit_losses(losses, losses > 0, None)
    assert units.sums_B.tolist() == [3.0, 4.0] and units.counts_B.tolist() == [2, 1]
