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


RIGHT_PADDED = torch.tensor([[0, 1, 2, 0, 0], [0, 1, 2, 3, 4]])
ROW_AND_PADDING = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
TRACES = {
    "ids": {"attention_mask": IDS},
    "block-diagonal": {"attention_mask": block_diagonal(IDS)},
    "block-diagonal bool": {"attention_mask": block_diagonal(IDS) == 0},
    "positions": {"position_ids": POSITIONS, "attention_mask": torch.ones_like(IDS)},
    "rotary positions": {"position_ids": POSITIONS.expand(3, -1, -1)},
}


PADDED = ("ids", "block-diagonal", "block-diagonal bool")


@pytest.mark.parametrize("trace", TRACES)
def test_segments_are_found(trace: str) -> None:
    segments = segment_ids(TRACES[trace])
    assert segments is not None
    last = 1 if trace in PADDED else 2  # the last token of the first row: padding, or a sample of one token
    assert segments.tolist() == [[0, 0, 0, 1, 1, last], [0, 0, 1, 1, 2, 2]]


@pytest.mark.parametrize(
    "inputs",
    [
        {"attention_mask": torch.tensor([[0, 1, 1], [1, 1, 1]])},
        {"position_ids": torch.tensor([[0, 0, 1], [0, 1, 2]])},
        {"position_ids": torch.tensor([[5, 6, 7]])},
        {"input_ids": torch.tensor([[1, 2]]), "attention_mask": None},
        {"position_ids": RIGHT_PADDED, "attention_mask": ROW_AND_PADDING},
        {"position_ids": RIGHT_PADDED.expand(4, -1, -1), "attention_mask": ROW_AND_PADDING},
        {"position_ids": RIGHT_PADDED},
        {"position_ids": torch.tensor([[0, 1, 2, 0]]), "labels": torch.tensor([[5, 6, 7, -100]])},
        {"attention_mask": block_diagonal(torch.tensor([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1]]))},
        {"attention_mask": block_diagonal(torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1]])) == 0},
    ],
    ids=[
        *("left padding", "left padded positions", "shifted positions", "nothing"),
        *("padding after a row", "padding after a row, rotary", "without a mask", "one token, not learnt"),
        *("padding in a block-diagonal mask", "in a bool one"),
    ],
)
def test_rows_of_one_sample_have_no_segments(inputs: dict[str, torch.Tensor]) -> None:
    assert segment_ids(inputs) is None


def test_a_sample_behind_padding_is_one_of_its_own() -> None:
    positions, mask = torch.tensor([[0, 1, 0, 0, 1]]), torch.tensor([[1, 1, 0, 1, 1]])
    segments = segment_ids({"position_ids": positions, "attention_mask": mask})
    assert segments is not None and segments.tolist() == [[0, 0, 0, 1, 1]]
    segments = segment_ids({"attention_mask": block_diagonal(torch.tensor([[0, 1, 1, 0, 2, 2]]))})
    assert segments is not None and segments.tolist() == [[0, 0, 0, 0, 1, 1]]


def test_a_sample_of_one_token_that_is_learnt_is_no_padding() -> None:
    positions, labels = torch.tensor([[0, 1, 2, 0]]), torch.tensor([[5, 6, 7, 8]])
    segments = segment_ids({"position_ids": positions, "labels": labels})
    assert segments is not None and segments.tolist() == [[0, 0, 0, 1]]


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
