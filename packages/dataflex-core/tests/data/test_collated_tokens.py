"""Trained tokens of rows as the collator makes them, counted by hand."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from dataflex.data.collated_tokens import SAMPLED_ROWS, collated_tokens, sampled_rows
from dataflex.data.collator_settings import collator_settings
from dataflex.errors import ComponentError

ROWS = [{"input_ids": list(range(1, length + 1))} for length in (5, 9, 3, 1)]


class Cutting:
    """Keeps ``longest`` tokens and pads to a multiple of 4; padding counts if ``pad_label`` is no ignored label."""

    def __init__(self, longest: int = 6, pad_label: int = -100) -> None:
        self.longest, self.pad_label = longest, pad_label

    def __call__(self, rows):
        ids = [row.pop("input_ids")[: self.longest] for row in rows]
        width = -(-max(map(len, ids)) // 4) * 4
        padded = [[*row, *[0] * (width - len(row))] for row in ids]
        labels = [[*row, *[self.pad_label] * (width - len(row))] for row in ids]
        return {"input_ids": torch.tensor(padded), "labels": torch.tensor(labels)}


class Masked:
    """Draws half of the tokens as targets, at random."""

    def __call__(self, rows):
        ids = torch.tensor([row["input_ids"] for row in rows])
        return {"input_ids": ids, "labels": ids.masked_fill(torch.rand(ids.shape) < 0.5, -100)}


def count(collator, rows=ROWS, **keys):
    return collated_tokens(rows, collator, np.arange(len(rows)), seed=3, **keys)


def test_labels_are_counted_without_the_first_and_the_ignored():
    # kept: 5, 6, 3, 1 tokens; the first of a row is predicted by nothing
    assert count(Cutting()).tolist() == [4, 5, 2, 0]
    assert ROWS[0] == {
        "input_ids": [1, 2, 3, 4, 5]
    }  # a collator that takes columns out of its rows takes them of copies


def test_padding_that_is_no_ignored_label_counts_as_it_is_trained_on():
    # widths 8, 8, 4, 4
    assert count(Cutting(pad_label=0)).tolist() == [7, 7, 3, 3]


def test_a_random_collator_counts_one_draw_which_is_the_same_each_time():
    rows = [{"input_ids": [seed, *range(1, 40)]} for seed in range(1, 9)]
    torch.manual_seed(0)
    first = count(Masked(), rows)
    state = torch.get_rng_state()
    backwards = collated_tokens(rows, Masked(), np.arange(7, -1, -1), seed=3)
    assert backwards[::-1].tolist() == first.tolist() and len(set(first.tolist())) > 1
    assert torch.equal(state, torch.get_rng_state())  # nothing of it moves the run's own generators
    assert collated_tokens(rows, Masked(), np.arange(8), seed=4).tolist() != first.tolist()


def test_workers_count_what_one_process_counts():
    rows = [{"input_ids": list(range(1, 2 + row % 9))} for row in range(70)]
    assert count(Cutting(), rows, workers=2).tolist() == count(Cutting(), rows).tolist()


@pytest.mark.parametrize(
    "batch",
    [
        {"input_ids": torch.ones(1, 3)},
        {"labels": torch.tensor([1])},
        {"labels": torch.ones(2, 4, dtype=torch.long)},
        {"labels": torch.tensor([[0.5, 0.5]])},
    ],
    ids=["no labels", "a class", "a pair", "numbers"],
)
def test_a_batch_that_tells_no_tokens_of_a_single_row_tells_nothing(batch):
    assert count(lambda rows: batch) is None


def test_a_row_that_cannot_be_read_or_collated_is_named():
    class Broken(list):
        def __getitem__(self, row):
            if row == 2:
                raise OSError("gone")
            return super().__getitem__(row)

    with pytest.raises(ComponentError, match=r"row 2 of the pool could not be read: OSError: gone"):
        count(Cutting(), Broken(ROWS))
    with pytest.raises(ComponentError, match=r"row 1 of the pool could not be made a batch: KeyError: 'input_ids'"):
        count(Cutting(), [ROWS[0], {"text": "x"}], workers=1)


def test_the_longest_row_of_each_domain_is_among_those_looked_at():
    counts = np.random.default_rng(0).integers(1, 50, 1000)
    counts[[17, 640, 990]] = 99
    rows = sampled_rows(counts, [600, 380, 20], seed=1)
    assert len(rows) == SAMPLED_ROWS == len(set(rows.tolist())) and {17, 640, 990} <= set(rows.tolist())
    assert rows.tolist() == sampled_rows(counts, [600, 380, 20], seed=1).tolist()
    assert rows.tolist() != sampled_rows(counts, [600, 380, 20], seed=2).tolist()
    assert sampled_rows(counts[:20], [20], seed=1).tolist() == list(range(20))
    assert len(sampled_rows(counts, [10] * 100, seed=1)) == SAMPLED_ROWS


def test_settings_of_a_collator_tell_two_apart_and_are_the_same_for_equal_ones():
    def closing_over(number):
        return lambda rows: {"labels": torch.ones(1, number)}

    different = [Cutting(5), Cutting(6), Cutting(6, 0), Masked(), closing_over(3), closing_over(4), os.path.join]
    assert len({collator_settings(collator) for collator in different}) == len(different)
    assert collator_settings(Cutting(6)) == collator_settings(Cutting(6))
    assert collator_settings(closing_over(3)) == collator_settings(closing_over(3))
    assert "0x" not in collator_settings([Cutting(), closing_over(3), object(), torch.nn.Linear(2, 2)])
