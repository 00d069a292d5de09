"""Every selector of this repository under dpo, kto and rm: it works, or is refused by name and reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dataflex.config.plan import prepare
from dataflex.config.run import RunFile
from dataflex.errors import ConfigError
from dataflex.plugins.catalog import Catalog
from dataflex.plugins.manager import PluginManager
from dataflex.plugins.options import PluginOptions
from dataflex.spec import Kind

STAGES = ("dpo", "kto", "rm")
WORK = {"random": STAGES, "column": STAGES, "loss": STAGES, "margin": ("dpo", "rm")}
"""Selectors with the stages of preferences they work in; every other one is refused in all three."""

PARAMS = {
    "column": {"by": "column:stars"},
    "deita": {"by": ["column:hard", "column:good"]},
    "nice": {"reward": "exact_match"},
}
"""Parameters without a default."""


@pytest.fixture(scope="module")
def plugins() -> PluginManager:
    return PluginManager.load(PluginOptions.gather([], os.environ))


def shipped(plugins: PluginManager) -> list[str]:
    entries = Catalog(plugins.plugins).entries
    return sorted(
        each.spec.name
        for each in entries
        if each.spec.kind is Kind.SELECTOR and each.dist.startswith("dataflex-selectors-")
    )


def refusal(plugins: PluginManager, name: str, stage: str) -> str:
    """What the run is refused with before anything loads; empty if it is not."""
    steps = {"warmup_step": 40, "update_step": 3, "update_times": 2}
    ours = {"train_type": "dynamic_select", "component_name": name, "component_params": PARAMS.get(name, {}), **steps}
    arguments = {"stage": stage, "do_train": True, "dataset": "pairs", "eval_dataset": "val", "finetuning_type": "lora"}
    try:
        prepare(RunFile(path=Path("run.yaml"), ours=ours, llamafactory=arguments, overridden=frozenset()), plugins)
    except ConfigError as error:
        return str(error)
    return ""


def test_a_selector_works_in_a_stage_of_preferences_or_says_why_not(plugins: PluginManager) -> None:
    table = {(name, stage): refusal(plugins, name, stage) for name in shipped(plugins) for stage in STAGES}
    assert {key for key, told in table.items() if not told} == {(name, stage) for name in WORK for stage in WORK[name]}
    for (name, stage), told in table.items():
        assert not told or (name in told and f"stage: {stage} (from run.yaml)" in told and "Use " in told), told


def test_a_selector_runs_in_them_behind_a_screen_only_if_the_screen_does(plugins: PluginManager) -> None:
    steps = {"warmup_step": 40, "update_step": 3, "update_times": 2}
    screen = {"name": "lexical", "survivors": 400}
    ours = {"train_type": "dynamic_select", "component_name": "loss", "component_params": {"screen": screen}, **steps}
    arguments = {"stage": "dpo", "do_train": True, "dataset": "pairs", "eval_dataset": "val"}
    run = RunFile(path=Path("run.yaml"), ours=ours, llamafactory=arguments, overridden=frozenset())
    with pytest.raises(ConfigError, match=r"screen lexical of selector loss: .*counts the tokens of single texts"):
        prepare(run, plugins)
