"""Random collators give the same batch wherever a run was resumed."""

from __future__ import annotations

import numpy as np
import torch

from dataflex.data.seeded_collator import SeededCollator


def noisy(rows):
    return torch.rand(len(rows)), np.random.random(), [row["input_ids"] for row in rows]


ROWS = [{"input_ids": [1, 2, 3]}, {"input_ids": [4]}]


def test_the_same_rows_are_collated_the_same_whatever_came_before():
    collator = SeededCollator(noisy, seed=3)
    first = collator(ROWS)
    torch.rand(17), np.random.random(5)
    again = collator(ROWS)
    assert torch.equal(first[0], again[0]) and first[1:] == again[1:]


def test_other_rows_and_other_seeds_draw_differently():
    draw = SeededCollator(noisy, seed=3)(ROWS)[1]
    assert draw != SeededCollator(noisy, seed=3)(ROWS[::-1])[1]
    assert draw != SeededCollator(noisy, seed=4)(ROWS)[1]


def test_the_training_runs_generators_do_not_move():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    SeededCollator(noisy, seed=3)(ROWS)
    assert torch.equal(before[0], torch.get_rng_state()) and np.array_equal(before[1], np.random.get_state()[1])


def test_attributes_of_the_collator_stay_visible():
    class WithPadding:
        padding = "right"

        def __call__(self, rows):
            return rows

    assert SeededCollator(WithPadding(), seed=1).padding == "right"
