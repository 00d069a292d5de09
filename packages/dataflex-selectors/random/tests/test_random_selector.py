from __future__ import annotations

import dataclasses
import importlib
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from importlib_metadata import entry_points

from dataflex.components.context import RunContext
from dataflex.spec import API
from dataflex_selectors_random import plugin
from dataflex_selectors_random.params import RandomParams
from dataflex_selectors_random.selector import RandomSelector

SPEC = plugin.dataflex_components()[0]


def draw(
    step: int, count: int, *, pool: int = 20, seed: int = 1, replacement: bool = False, passes: int = 1
) -> list[int]:
    context = RunContext(dataset=range(pool), data_collator=list, seed=seed)
    chosen = RandomSelector(RandomParams(replacement=replacement, passes=passes), context).select(None, step, count)  # type: ignore[arg-type]
    return np.asarray(chosen.rows).tolist()


def test_no_row_repeats_before_all_have_been_drawn() -> None:
    rows = draw(5, 50)
    assert sorted(rows[:20]) == sorted(rows[20:40]) == list(range(20))
    assert len(set(rows[40:])) == 10
    assert rows[:20] != rows[20:40]


def test_with_passes_fewer_rows_are_drawn_and_read_again_in_another_order() -> None:
    rows = draw(5, 14, passes=3)
    assert len(set(rows)) == 5 and sorted(rows[:5]) == sorted(rows[5:10]) == sorted(draw(5, 5))
    assert rows[:5] != rows[5:10] and len(set(rows[10:])) == 4


def test_with_passes_longer_than_the_pool_each_pass_reads_all_of_it() -> None:
    rows = draw(5, 50, passes=2)
    assert sorted(rows[:20]) == sorted(rows[20:40]) == list(range(20)) and len(set(rows[40:])) == 10


def test_with_passes_and_replacement_what_was_drawn_is_read_again() -> None:
    rows = draw(5, 60, passes=2, replacement=True)
    assert sorted(rows[:30]) == sorted(rows[30:]) == sorted(draw(5, 30, replacement=True))
    assert len(set(rows)) < 20 or sorted(set(rows)) == list(range(20))


def test_one_pass_draws_the_rows_of_before() -> None:
    """What version 0.1 drew, by its own lines."""
    expected = np.random.default_rng([1, 5])
    assert draw(5, 30) == [*expected.permutation(20).tolist(), *expected.permutation(20)[:10].tolist()]


def test_each_boundary_draws_anew() -> None:
    draws = [draw(step, 10) for step in range(0, 100, 10)]
    assert len({tuple(rows) for rows in draws}) == 10


def test_a_draw_is_a_function_of_seed_and_step() -> None:
    assert draw(5, 10) == draw(5, 10)
    assert draw(5, 10) != draw(5, 10, seed=2)


@pytest.mark.parametrize("replacement", [False, True])
def test_draws_are_uniform(replacement: bool) -> None:
    counts = np.zeros(5)
    for step in range(2000):
        for row in draw(step, 2, pool=5, replacement=replacement):
            counts[row] += 1
    assert ((counts - 800) ** 2 / 800).sum() < 18.5  # 4 degrees of freedom, p = 0.001


def test_with_replacement_rows_repeat() -> None:
    pairs = [draw(step, 2, pool=4, replacement=True) for step in range(2000)]
    repeats = sum(first == second for first, second in pairs)
    assert 400 < repeats < 600  # one pair in four; the standard deviation is 19


def test_drawing_moves_no_global_generator() -> None:
    python, numpy = random.getstate(), np.random.get_state()[1].copy()
    draw(5, 10)
    assert random.getstate() == python
    assert np.array_equal(np.random.get_state()[1], numpy)


def test_the_entry_point_names_the_plugin() -> None:
    points = [point for point in entry_points(group="dataflex.components") if point.value == plugin.__name__]
    assert [point.load() for point in points] == [plugin]


def test_the_spec_names_what_exists() -> None:
    assert SPEC.api == API
    for reference in (SPEC.target, SPEC.params):
        assert reference is not None
        module, name = reference.split(":")
        assert hasattr(importlib.import_module(module), name)


def test_every_parameter_has_a_help_text() -> None:
    fields: Any = dataclasses.fields(RandomParams)
    assert all(field.metadata["help"] for field in fields)


def test_plugin_and_params_import_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, dataflex_selectors_random.plugin as p, dataflex_selectors_random.params\n"
        "p.dataflex_components()\n"
        "print(sorted({'torch', 'numpy', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
