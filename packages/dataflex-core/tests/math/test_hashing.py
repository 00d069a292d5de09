from __future__ import annotations

import numpy as np
import pytest
import torch

from dataflex.math.hashing import GOLDEN, splitmix64, splitmix64_


def published(state: int) -> int:
    """The next number of ``splitmix64.c`` from a state, in Python's whole numbers."""
    z = (state + GOLDEN) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def test_the_reference_numbers_of_seed_1234567_come_out() -> None:
    # The first outputs that are published for this seed (Rosetta Code, "Pseudo-random numbers/Splitmix64").
    wanted = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert [published((1234567 + number * GOLDEN) % 2**64) for number in range(5)] == wanted
    assert (splitmix64(torch.arange(1, 6), 1234567)).tolist() == [number >> 1 for number in wanted]


@pytest.mark.parametrize("seed", [0, 2, 2**48 - 1])
def test_both_forms_agree(seed: int) -> None:
    values = torch.tensor([0, 1, -1, 2**62, -(2**63), 151_643])
    changed = values.numpy().view(np.uint64).copy()
    splitmix64_(changed, seed)
    assert changed.tolist() == splitmix64(values, seed).tolist()
    assert (changed < 2**63).all()
