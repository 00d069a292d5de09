"""The Selector base class serves native classes and those in the design note's style."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from dataflex import Selector
from dataflex.components.build import build_component
from dataflex.components.context import RunContext
from dataflex.components.selector import random_rows


def context(**more) -> RunContext:
    return RunContext(dataset=range(10), data_collator=list, seed=7, **more)


class Native(Selector):
    def select(self, model, step_id, num_samples, **kwargs):
        return self.context.rng(step_id).permutation(len(self.dataset))[:num_samples]


class NoteStyle(Selector):
    def __init__(self, dataset, accelerator, data_collator, cache_dir, focus="high"):
        super().__init__(dataset, accelerator, data_collator, cache_dir)
        self.focus = focus


class Unrelated:
    def __init__(self, dataset, seed, tokenizer=None):
        self.given = (dataset, seed, tokenizer)


def build(cls, values=None, run_values=None, params=None):
    return build_component(cls, params, values or {}, run_values or {}, context(accelerator="acc"))


def test_a_native_class_gets_params_and_context():
    native = build(Native, params="the params")
    assert native.params == "the params"
    assert native.dataset == range(10) and native.accelerator == "acc" and native.context.seed == 7


def test_a_class_in_the_notes_style_gets_its_arguments_by_name():
    component = build(NoteStyle, {"focus": "low"}, {"cache_dir": "mine"})
    assert (component.dataset, component.accelerator, component.cache_dir) == (range(10), "acc", "mine")
    assert component.focus == "low"


def test_a_class_without_our_base_gets_what_it_names():
    assert build(Unrelated).given == (range(10), 7, None)


def test_the_users_seed_replaces_the_runs_for_this_component():
    assert build(Native, run_values={"seed": 11}).context.seed == 11
    assert build(Unrelated, {"seed": 11}).given[1] == 11


def test_wrong_arguments_to_the_base_are_refused():
    with pytest.raises(TypeError, match=r"Selector takes \(params, context\) or"):
        Selector(1, 2, 3, 4, 5)


def test_warmup_repeats_no_row_before_all_were_drawn():
    rows = build(Native).warmup(25)
    assert sorted(rows[:10]) == sorted(rows[10:20]) == list(range(10))
    assert len(rows) == 25 and len(set(rows[20:].tolist())) == 5
    assert not np.array_equal(rows[:10], rows[10:20])


def test_warmup_is_another_draw_for_another_seed():
    one, two = build(Native).warmup(10), build(Native, run_values={"seed": 8}).warmup(10)
    assert not np.array_equal(one, two)
    assert np.array_equal(one, build(Native).warmup(10))


def test_warmup_with_replacement_draws_independently():
    rows = random_rows(np.random.default_rng(0), 1000, 1000, replacement=True)
    assert 580 < len(np.unique(rows)) < 680  # 1000 (1 - 1/e) = 632


def test_drawing_leaves_the_global_generator_alone():
    before = np.random.get_state()[1].copy()
    build(Native).warmup(10)
    assert np.array_equal(before, np.random.get_state()[1])


def test_the_base_classes_import_without_torch():
    code = "import sys, dataflex.train.selector.base_selector, dataflex.core.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
