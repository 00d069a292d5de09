"""The seven patterns give the orders that were worked out by hand, and permutations of any length."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflex import ConfigError
from dataflex_orderers import params, patterns
from dataflex_orderers.patterns import Ranks


def numbers(text: str) -> list[int]:
    """``0-3 6`` as ``[0, 1, 2, 3, 6]``."""
    parts = [part.split("-") for part in text.split()]
    return [number for part in parts for number in range(int(part[0]), int(part[-1]) + 1)]


@pytest.mark.parametrize(
    ("ranks", "by_hand"),
    [
        (patterns.sorting(5), "0-4"),
        (patterns.folding(12, 3), "0 3 6 9 1 4 7 10 2 5 8 11"),
        (patterns.zigzag(12, 3), "0 3 6 9 10 7 4 1 2 5 8 11"),
        (patterns.folding(12, 5), "0 5 10 1 6 11 2 7 3 8 4 9"),
        (patterns.stair(12, 2, 0.25, 3), "0-3 6 4 7 5 8-11"),
        (patterns.saw(12, 3, 1 / 6, 2), "0 1 2 4 5 3 6 8 9 7 10 11"),
        (patterns.saw(20, 3, 0.1, 2), "0-5 7 8 6 9 10 11 13 14 12 15-19"),
        (patterns.stair(20, 2, 0.225, 3), "0-6 9 12 7 10 13 8 11 14-19"),
    ],
)
def test_patterns_give_the_orders_worked_out_by_hand(ranks: Ranks, by_hand: str) -> None:
    assert ranks.tolist() == numbers(by_hand)


def test_windows_that_share_ranks_by_rounding_are_cut_apart() -> None:
    # Cuts 4 and 7, radius 2: 2-5 and, in place of 5-8, 6-8.
    windows = patterns.around_cuts(11, 3, 1 / 6, lambda length: np.arange(length)[::-1])
    assert windows.tolist() == [0, 1, 5, 4, 3, 2, 8, 7, 6, 9, 10]
    assert patterns.saw(11, 3, 1 / 6, 2).tolist() == [0, 1, 2, 4, 5, 3, 6, 8, 7, 9, 10]


def test_halves_are_rounded_to_the_even_number() -> None:
    # 20 x 0.225 = 4.5: four ranks on either side of the cut, which 5 would make 0-4 ... 15.
    assert patterns.stair(20, 2, 0.225, 3)[:7].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert round(4.5) == 4 and int(4.5 + 0.5) == 5  # what rounding halves up would have taken


def test_a_segment_takes_its_ends_from_the_ends_of_the_scores() -> None:
    ranks = patterns.segment(12, 0.25, 0.25, "low", "high", np.random.default_rng(0)).tolist()
    assert [sorted(ranks[:3]), sorted(ranks[3:9]), sorted(ranks[9:])] == [
        numbers("0-2"),
        numbers("3-8"),
        numbers("9-11"),
    ]
    ranks = patterns.segment(12, 0.25, 0.25, "high", "low", np.random.default_rng(0)).tolist()
    assert [sorted(ranks[:3]), sorted(ranks[9:])] == [numbers("9-11"), numbers("0-2")]


@pytest.mark.parametrize(("end", "rows"), [("low", "0-4"), ("high", "7-11")])
def test_a_segment_of_one_end_shuffles_its_rows_and_cuts_them(end: str, rows: str) -> None:
    draws = [patterns.segment(12, 0.25, 0.2, end, end, np.random.default_rng(seed)).tolist() for seed in range(40)]
    assert all(sorted(ranks[:3] + ranks[10:]) == numbers(rows) for ranks in draws)
    assert {rank for ranks in draws for rank in ranks[:3]} == set(
        numbers(rows)
    )  # not the first three of them each time


def test_parts_of_a_pass_are_rounded_down_as_they_are_written() -> None:
    assert patterns.share(100, 0.29) == 29
    assert int(100 * 0.29) == 28  # what the product in binary gives
    assert [patterns.share(12, part) for part in (0.1, 1 / 3, 0.999, 1.0)] == [1, 4, 11, 12]


def test_settings_are_refused_by_the_fractions_alone() -> None:
    for sections, radius in ((2, 0.25), (3, 1 / 6), (4, 0.125), (1, 0.5)):  # dataflex 1.1.0 refuses the first two
        assert params.StairParams(by="length", sections=sections, radius=radius).radius == radius
        assert params.SawParams(by="length", sections=sections, radius=radius).sections == sections
    for sections, radius in ((2, 0.251), (3, 0.17), (3, 0.3)):
        with pytest.raises(ConfigError, match="windows around the cuts would overlap"):
            params.StairParams(by="length", sections=sections, radius=radius)
        with pytest.raises(ConfigError, match="radius"):
            params.SawParams(by="length", sections=sections, radius=radius)
    with pytest.raises(ConfigError, match=r"front=0\.6 and back=0\.5 are more than a pass"):
        params.SegmentParams(by="length", front=0.6, back=0.5)
    assert params.SegmentParams(by="length", front=0.7, back=0.3).back == 0.3


def test_defaults_are_those_of_the_released_code() -> None:
    layers = [params.FoldingParams, params.ZigzagParams, params.StairParams, params.SawParams]
    assert [kind().layers for kind in layers] == [5, 5, 3, 2]
    assert (params.StairParams().sections, params.SawParams().sections) == (2, 3)
    assert (params.StairParams().radius, params.SawParams().radius) == (0.225, 0.075)
    assert (params.SegmentParams().front, params.SegmentParams().back) == (0.1, 0.1)
    assert (params.SegmentParams().front_from, params.SegmentParams().back_from) == ("low", "high")


PATTERNS: list[Callable[[int, int, float, int], Ranks]] = [
    lambda n, layers, part, seed: patterns.shuffle(n, np.random.default_rng(seed)),
    lambda n, layers, part, seed: patterns.folding(n, layers),
    lambda n, layers, part, seed: patterns.zigzag(n, layers),
    lambda n, layers, part, seed: patterns.stair(n, layers, part / (2 * layers), layers),
    lambda n, layers, part, seed: patterns.saw(n, layers, part / (2 * layers), 3),
    lambda n, layers, part, seed: patterns.segment(n, part, 1 - part, "low", "high", np.random.default_rng(seed)),
    lambda n, layers, part, seed: patterns.segment(n, part / 2, part / 2, "high", "high", np.random.default_rng(seed)),
]


@pytest.mark.parametrize("pattern", PATTERNS)
@given(n=st.integers(0, 60), layers=st.integers(1, 9), part=st.floats(0, 1), seed=st.integers(0, 9))
def test_every_pattern_is_a_permutation(
    pattern: Callable[[int, int, float, int], Ranks], n: int, layers: int, part: float, seed: int
) -> None:
    ranks = pattern(n, layers, part, seed)
    assert sorted(ranks.tolist()) == list(range(n))
    assert ranks.dtype == np.int64


@given(n=st.integers(2, 200), layers=st.integers(1, 12))
def test_a_zigzag_never_jumps_further_than_its_layers(n: int, layers: int) -> None:
    jumps = np.abs(np.diff(patterns.zigzag(n, min(layers, n))))
    assert jumps.max() <= layers
    if n > 2 * layers > 2:
        assert np.abs(np.diff(patterns.folding(n, layers))).max() > layers  # a fold does, where a cycle ends
