"""The second case of the studies of selection: words tell neither a swapped row nor the target."""

from __future__ import annotations

import importlib.util
import json
import logging
import random
from pathlib import Path
from types import ModuleType

import pytest

from dataflex.components.context import RunContext
from dataflex.config.prepared import prepare
from dataflex.config.run import read_run_file
from dataflex.demo.row import Domain, Row
from dataflex.plugins.manager import PluginManager
from dataflex.plugins.options import PluginOptions
from dataflex.study.file import read_study_file
from dataflex_selectors_lexical.params import LexicalParams
from dataflex_selectors_lexical.selector import LexicalSelector

STUDIES = Path(__file__).parents[2] / "benchmarks" / "studies"
MODULES, OF_EACH, WORDS = 60, 40, 30


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("swapped", STUDIES / "swapped.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows() -> list[Row]:
    """Rows of modules that have their own words beside common ones, as text of the standard library has."""
    draw, found = random.Random(0), []
    for number in range(MODULES * OF_EACH):
        module = number % MODULES
        own = [f"{100 + WORDS * module + draw.randrange(WORDS)}" for _ in range(10)]
        common = [f"{draw.randrange(100)}" for _ in range(10)]
        found.append(Row(Domain.DOCSTRINGS, f"module{module}", f"{number + 5000}", " ".join(own + common)))
    return found


def separation(pool: list[Row], target: list[Row], caplog: pytest.LogCaptureFixture) -> tuple[float, bool]:
    """What ``lexical`` reports, and whether it warns."""

    def tokens(those: list[Row]) -> list[dict[str, list[int]]]:
        return [{"input_ids": [int(word) for word in row.answer.split()]} for row in those]

    context = RunContext(
        dataset=tokens(pool), data_collator=None, eval_datasets={"validation": tokens(target)}, seed=42
    )
    caplog.clear()
    with caplog.at_level(logging.WARNING, "dataflex"):
        found = LexicalSelector(LexicalParams(), context).select(None, 20, 240)
    return float(found.metrics["separation"]), "words hardly tell" in caplog.text


@pytest.mark.parametrize("seed", [42, 43, 44, 45])
def test_lexical_cannot_tell_the_target_and_says_so(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    sets = load().divide(rows(), seed, 150, 128)
    pool, target = ([row for row, _ in sets[name]] for name in ("pool", "validation"))
    found, warned = separation(pool, target, caplog)
    assert 0.4 < found < 0.6 and warned


def test_modules_of_their_own_would_give_the_target_away(caplog: pytest.LogCaptureFixture) -> None:
    """The wrong version: held out by module."""
    target = [row for row in rows() if int(row.origin.removeprefix("module")) < 10][:128]
    pool = [row for row in rows() if int(row.origin.removeprefix("module")) >= 10]
    found, warned = separation(pool, target, caplog)
    assert found > 0.8 and not warned


def test_half_of_the_pool_is_swapped_and_no_row_is_in_two_sets() -> None:
    own = {row.question: row.answer for row in rows()}
    sets = load().divide(rows(), 42, 150, 128)
    kinds = [kind for _, kind in sets["pool"]]
    assert kinds.count("swapped") == kinds.count("clean") == len(kinds) // 2 == 800
    for row, kind in sets["pool"]:
        assert (own[row.question] == row.answer) is (kind == "clean")
    assert [row for row, _ in sets["clean"]] == [row for row, kind in sets["pool"] if kind == "clean"]
    for what in ("question", "answer"):
        met = [getattr(row, what) for name in ("pool", "docstrings", "validation") for row, _ in sets[name]]
        assert len(set(met)) == len(met) == 1600 + 150 + 128
    assert (len(sets["docstrings"]), len(sets["validation"])) == (150, 128)


def test_its_arms_are_those_of_the_selectors() -> None:
    plugins, study = PluginManager.load(PluginOptions()), read_study_file(STUDIES / "swapped.yaml")
    names = {name: arm.keys.get("component_name", "random") for name, arm in study.arms.items()}
    assert {"lexical", "rds", "near", "tsds", "influence", "prune", "less", "loss", "random"} == set(names.values())
    for name, arm in study.arms.items():
        overrides = [f"{key}={json.dumps(value)}" for key, value in arm.keys.items()]
        run = read_run_file(STUDIES / "swapped_run.yaml", overrides)
        assert prepare(run, plugins).entry.spec.name == names[name]
