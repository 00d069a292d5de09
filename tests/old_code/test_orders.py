"""Orders of PyPI dataflex 1.x are read: what a file of it says becomes what we would write, or is refused by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dataflex.config import old_orders, run_warnings
from dataflex.config.bind import bind
from dataflex.config.prepared import PreparedRun, prepare
from dataflex.config.run import read_run_file
from dataflex.errors import ConfigError
from dataflex.plugins.catalog import Catalog
from dataflex.plugins.manager import PluginManager
from dataflex.plugins.options import PluginOptions
from dataflex.spec import Kind

PAGE = (Path(__file__).parents[2] / "docs/from_dataflex_1x.md").read_text(encoding="utf-8")
OLD: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "components.yaml").read_text(encoding="utf-8"))[
    "reorders"
]
PLUGINS = PluginManager.load(PluginOptions())
NEEDED = {"stage": "sft", "do_train": True, "dataset": "tiny", "output_dir": "out"}


def block(name: str) -> str:
    (found,) = re.findall(rf"<!-- order-{name} -->\n```yaml\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def prepared(folder: Path, keys: dict[str, Any]) -> PreparedRun:
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(NEEDED | keys), encoding="utf-8")
    return prepare(read_run_file(path), PLUGINS)


def bound(name: str, params: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    name, ours = old_orders.translated(name, params, "old.yaml")
    values = bind(Catalog(PLUGINS.plugins).find(Kind.ORDERER, name), [("old.yaml", ours)])
    return name, {**values.values, **values.run_values}


def test_the_file_of_before_is_the_file_of_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "components.yaml").write_text(block("presets"), encoding="utf-8")
    before, after = (prepared(tmp_path, yaml.safe_load(block(name))) for name in ("before", "after"))
    assert before.entry == after.entry
    assert before.bound.params == after.bound.params
    assert before.bound.run_values == after.bound.run_values == {"seed": 7}
    assert before.facts.train_type is after.facts.train_type


def test_an_old_file_is_told_what_length_it_had(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(NEEDED | yaml.safe_load(block("before"))), encoding="utf-8")
    said = "\n".join(run_warnings.warnings(read_run_file(path)))
    assert "Write train_step: 200 for the length it had there" in said
    assert "train_step: 200" in PAGE


@pytest.mark.parametrize(
    ("preset", "name", "expected"),
    [
        ("sorting", "sorting", {"by": "column:quality", "direction": "ascending", "window": 10, "seed": 5}),
        ("shuffle", "shuffle", {"by": None, "seed": 5}),
        ("segment", "segment", {"front": 0.2, "back": 0.05, "front_from": "low", "back_from": "high"}),
    ],
)
def test_presets_of_before_become_components(preset: str, name: str, expected: dict[str, Any]) -> None:
    found, values = bound(preset, OLD[preset]["params"])
    assert found == name
    assert {key: values[key] for key in expected} == expected


def test_every_preset_of_the_old_file_is_taken_or_refused_with_advice() -> None:
    refused = {}
    for preset, entry in OLD.items():
        try:
            bound(preset, entry["params"])
        except ConfigError as error:
            refused[preset] = str(error)
    assert set(refused) == {
        name
        for name, entry in OLD.items()
        if entry["params"].get("score_source") == "cached_selection" or entry["params"].get("reorder_every", 1) > 1
    }
    assert all("Write" in said or "Leave it out" in said for said in refused.values())


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"pattern": "folding", "folding_layer": 4}, {"layers": 4}),
        ({"pattern": "zigzag", "pattern_params": {"zigzag_layer": 4}}, {"layers": 4}),
        ({"pattern": "stair", "num_sections": 4, "folding_ratio": 0.1}, {"sections": 4, "radius": 0.1}),
        ({"pattern": "segment", "x_pct": 25, "y_pct": 0}, {"front": 0.25, "back": 0.0}),
        (
            {"pattern": "segment", "front_is_high": True, "back_is_high": False},
            {"front_from": "high", "back_from": "low"},
        ),
        ({"pattern": "sorting", "polarity": "higher_earlier"}, {"direction": "descending"}),
        ({"pattern": "sorting", "ascending": False}, {"direction": "descending"}),
        ({"pattern": "sorting", "polarity": "lower_is_better", "ascending": False}, {"direction": "ascending"}),
        ({"pattern": "sorting", "polarity": "higher_is_better", "ascending": False}, {"direction": "descending"}),
        ({"pattern": "sorting", "score_params": {"score_path": "scores.npy"}}, {"by": "file:scores.npy"}),
        ({"pattern": "sorting", "score_source": "precomputed"}, {"by": "column:score"}),
        (
            {
                "kind": "dynamic",
                "pattern": "saw",
                "score_params": {"max_samples": 20, "batch_size": 8, "num_workers": 2},
            },
            {"by": "loss", "max_candidates": 20, "direction": "descending"},  # its dynamic orders are lower_is_better
        ),
        ({"kind": "dynamic", "pattern": "saw", "polarity": "higher_later"}, {"by": "loss", "direction": "ascending"}),
        ({"pattern": "sorting", "window_size": 0, "apply_at": "raw"}, {"window": 0}),
    ],
)
def test_each_name_of_before_becomes_ours(params: dict[str, Any], expected: dict[str, Any]) -> None:
    _, values = bound("any", params)
    assert {key: values[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (
            {"pattern": "saw", "score_source": "cached_selection", "cache_path": "step.json"},
            "score 0, so it is not taken over",
        ),
        ({"pattern": "saw", "reorder_every": 2}, "make update_step as many times longer"),
        ({"pattern": "saw", "consume_once": False}, "no row repeats within it"),
        ({"pattern": "saw", "polarity": "best_first"}, "polarity: 'best_first'"),
        ({"pattern": "saw", "score_source": "oracle"}, "score_source: 'oracle'"),
        ({"pattern": "segment", "x_pct": "ten"}, "x_pct: 'ten'"),
        ({"pattern": "segment", "pattern_params": 3}, "pattern_params: 3"),
        ({"pattern": "saw", "wobble": 3}, "no parameter 'wobble'"),  # 1.1.0 swallows it
    ],
)
def test_what_has_no_equal_is_refused_by_name(params: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        bound("any", params)


def test_parameters_of_ours_are_left_alone() -> None:
    given = {"by": "length", "layers": 3, "window": 4}
    assert old_orders.translated("folding", given, "run.yaml") == ("folding", given)


def test_every_name_of_before_is_on_the_page() -> None:
    names = {*old_orders._NAMES, "folding_layer", "zigzag_layer", "num_sections", "folding_ratio", "window_size"}
    assert [name for name in sorted(names - {"fill_value"}) if not re.search(rf"`[^`]*\b{name}\b[^`]*`", PAGE)] == []
