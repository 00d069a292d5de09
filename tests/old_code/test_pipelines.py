"""Pipelines of PyPI dataflex 1.x are read: stages become ``components``, or are refused with what we would write."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dataflex.config import old_pipelines
from dataflex.config.prepared import PreparedRun, prepare
from dataflex.config.run import RunFile, read_run_file
from dataflex.errors import ConfigError
from dataflex.plugins.manager import PluginManager
from dataflex.plugins.options import PluginOptions
from dataflex.runs import TrainType

PAGE = (Path(__file__).parents[2] / "docs/from_dataflex_1x.md").read_text(encoding="utf-8")
OLD: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "components.yaml").read_text(encoding="utf-8"))
PLUGINS = PluginManager.load(PluginOptions())
NEEDED = {"stage": "sft", "do_train": True, "dataset": "tiny", "output_dir": "out"}
STEPS = {"warmup_step": 4, "update_step": 4, "update_times": 3}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def block(name: str) -> str:
    (found,) = re.findall(rf"<!-- pipeline-{name} -->\n```yaml\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def read(keys: dict[str, Any], presets: Any = None) -> RunFile:
    Path("run.yaml").write_text(yaml.safe_dump(NEEDED | keys), encoding="utf-8")
    if presets is not None:
        Path("components.yaml").write_text(yaml.safe_dump(presets), encoding="utf-8")
    return read_run_file(Path("run.yaml"))


def prepared(keys: dict[str, Any], presets: Any = None) -> PreparedRun:
    return prepare(read(keys, presets), PLUGINS)


def pipeline(*stages: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """What ``components`` becomes of some stages."""
    old = {"train_type": "dynamic_lego", "component_name": "p", "components_cfg_file": "components.yaml"}
    run = read({**old, **STEPS, **keys}, {"pipelines": {"p": {"params": {"stages": list(stages)}}}})
    assert run.train_type is TrainType.COMPOSED and "component_name" not in run.ours
    components: dict[str, Any] = run.ours["components"]
    return components


def test_the_files_of_before_are_the_file_of_after() -> None:
    before = prepared(yaml.safe_load(block("before")), yaml.safe_load(block("presets")))
    after = prepared(yaml.safe_load(block("after")))
    assert [part.facts.component.name for part in after.parts] == ["loss", "folding", "loss"]
    for one, other in zip(before.parts, after.parts, strict=True):
        assert (one.entry, one.every, one.keep) == (other.entry, other.every, other.keep)
        assert one.bound.params == other.bound.params
    assert before.facts.train_type is after.facts.train_type
    assert before.facts.steps == after.facts.steps


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ({"family": "selector", "mode": "draw", "every": 4}, {"name": "c"}),
        ({"family": "selector"}, {"name": "c", "keep": 0.5}),
        ({"family": "selector", "keep_ratio": 0.2, "every": 9}, {"name": "c", "keep": 0.2, "every": 3}),
        ({"family": "mixer", "every": 8, "allow_replacement": True}, {"name": "c", "every": 2}),
        ({"family": "weighter", "every": 8, "warmup_step": 4}, {"name": "c"}),
    ],
)
def test_each_stage_becomes_a_component(stage: dict[str, Any], expected: dict[str, Any]) -> None:
    (component,) = pipeline({**stage, "component": "c"}).values()
    assert component == expected


def test_a_stage_that_is_not_enabled_is_left_out() -> None:
    mixers = [{"family": "mixer", "component": name, "enabled": name == "b"} for name in "ab"]
    assert pipeline(*mixers) == {"mixer": {"name": "b"}}


@pytest.mark.parametrize("name", OLD["pipelines"])
def test_every_pipeline_of_the_old_file_is_read(name: str) -> None:
    old = {"train_type": "dynamic_lego", "component_name": name, "components_cfg_file": "components.yaml"}
    components = read({**old, **STEPS}, OLD).ours["components"]
    names = {stage["component"] for stage in OLD["pipelines"][name]["params"]["stages"]}
    assert {component["name"] for component in components.values()} == names


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        (
            [{"family": "selector", "keep_ratio": 0.25}, {"family": "selector", "mode": "draw"}],
            "the second selector, and a run has at most one component of a kind. Write in the run file, in place of "
            "component_name: {train_type: dynamic, components: {selector: {name: c, keep: 0.25}}}",
        ),
        (
            [{"family": "mixer", "mode": "draw"}],
            "mode: 'draw', and a mixer keeps no rows. Write in the run file, in place of component_name: "
            "{train_type: dynamic, components: {mixer: {name: c}}}",
        ),
        ([{"family": "selector", "mode": "shrink"}], "mode: 'shrink', which is neither filter nor draw"),
        (
            [{"family": "weighter", "warmup_step": 9}],
            "{train_type: dynamic, components: {weighter: {name: c}}, warmup_step: 9}",
        ),
        ([{"family": "curator"}], "family: 'curator'"),
        ([{"family": "selector", "keep_ration": 0.5}], "unknown key 'keep_ration'. Did you mean 'keep_ratio'?"),
        ([{"family": "selector", "keep_ratio": 1.5}], "keep_ratio: 1.5 must be a share"),
        ([{"family": "selector", "every": "often"}], "every: 'often' must be a whole number"),
    ],
)
def test_what_has_no_equal_is_refused_with_what_we_would_write(stages: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        pipeline(*({"component": "c", **stage} for stage in stages))


def test_a_name_that_is_no_pipeline_is_refused() -> None:
    old = {"train_type": "dynamic_lego", "component_name": "q", "components_cfg_file": "components.yaml"}
    with pytest.raises(ConfigError, match=r"pipelines\.q holds no list of stages"):
        read({**old, **STEPS}, OLD)
    with pytest.raises(ConfigError, match="Write train_type: dynamic, and what its pipeline names under components"):
        read({"train_type": "dynamic_lego", "component_name": "q"}).train_type  # noqa: B018 - it raises


def test_every_name_of_before_is_on_the_page() -> None:
    names = {*old_pipelines.FAMILIES, *old_pipelines.IGNORED, *old_pipelines._OF_STAGE}
    assert [name for name in sorted(names) if not re.search(rf"`[^`]*\b{name}\b[^`]*`", PAGE)] == []
