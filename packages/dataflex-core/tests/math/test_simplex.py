"""The mixture at which an objective is lowest, against closed forms and a grid."""

from __future__ import annotations

import numpy as np
import pytest

from dataflex.math.simplex import lowest


def distance(target):
    return lambda shares: (float(((shares - target) ** 2).sum()), 2 * (shares - target))


UNIFORM = np.full(3, 1 / 3)


def test_a_target_inside_is_found_and_one_outside_gives_its_projection() -> None:
    shares, value = lowest(distance(np.array([0.5, 0.3, 0.2])), UNIFORM)
    assert shares == pytest.approx([0.5, 0.3, 0.2], abs=1e-6) and value == pytest.approx(0, abs=1e-9)
    # Projection onto the simplex: subtract what makes the positive parts sum to 1, here (0.9 + 0.5 - 1) / 2.
    shares, _ = lowest(distance(np.array([0.9, 0.5, -0.4])), UNIFORM)
    assert shares == pytest.approx([0.7, 0.3, 0], abs=1e-6) and shares[2] == 0


def test_caps_hold_and_what_they_take_goes_to_the_others() -> None:
    shares, _ = lowest(distance(np.array([1.0, 0.0, 0.0])), UNIFORM, np.array([0.4, 1.0, 1.0]))
    assert shares == pytest.approx([0.4, 0.3, 0.3], abs=1e-6)


def test_of_several_low_points_the_lowest_counts() -> None:
    def two_ends(shares):  # concave: each single domain is a low point of its own
        scale = np.array([1.0, 1.1, 0.9])
        return -float((scale * shares**2).sum()), -2 * scale * shares

    shares, value = lowest(two_ends, np.array([0.4, 0.2, 0.4]))
    assert shares == pytest.approx([0, 1, 0], abs=1e-6) and value == pytest.approx(-1.1)


def test_caps_that_leave_no_mixture_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sum to 0.9, below 1"):
        lowest(distance(UNIFORM), UNIFORM, np.array([0.3, 0.3, 0.3]))
