"""A components.yaml written for PyPI dataflex 1.1.0 keeps working for every component there is."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_runs import NOTE_SELECTOR

from dataflex.config.bind import LEGACY_NAMES, RUN_NAMES, BoundParams, bind, schema
from dataflex.config.overrides import find_preset
from dataflex.config.run import RunFile
from dataflex.errors import ConfigError
from dataflex.plugins.catalog import Catalog
from dataflex.plugins.manager import PluginManager
from dataflex.plugins.options import PluginOptions
from dataflex.spec import Kind

OLD_FILE = Path(__file__).parent / "components.yaml"
OLD: dict[str, Any] = yaml.safe_load(OLD_FILE.read_text(encoding="utf-8"))
INSTALLED = Catalog(PluginManager.load(PluginOptions()).plugins)
OURS = [
    (kind, name)
    for kind in Kind
    for name in OLD.get(kind.plural, {})
    if any((entry.spec.kind, entry.spec.name) == (kind, name) for entry in INSTALLED.entries)
]


def resolve(kind: Kind, name: str, catalog: Catalog = INSTALLED) -> BoundParams:
    keys = {"component_name": name, "components_cfg_file": str(OLD_FILE)}
    preset = find_preset(RunFile(Path("run.yaml"), ours=keys, llamafactory={}, overridden=frozenset()), kind)
    return bind(catalog.find(kind, preset.name), [(preset.source, preset.params)])


def test_the_first_party_components_are_among_the_presets() -> None:
    assert {(Kind.SELECTOR, "loss"), (Kind.SELECTOR, "random"), (Kind.MIXER, "random")} <= set(OURS)


@pytest.mark.parametrize(("kind", "name"), OURS)
def test_a_preset_resolves_and_each_value_is_taken_or_warned_about(
    kind: Kind, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    written = OLD[kind.plural][name]["params"]
    spec = INSTALLED.find(kind, name).spec
    if refused := [key for key in written if key in spec.refused]:
        with pytest.raises(ConfigError, match=f"takes no parameter {refused[0]!r}.*{spec.refused[refused[0]][:30]}"):
            resolve(kind, name)
        return
    needed = [info for info in schema(INSTALLED.find(kind, name)) if info.required]
    if missing := [info.name for info in needed if not {info.name, *info.aliases} & set(written)]:
        with pytest.raises(ConfigError, match=f"needs the parameter {missing[0]!r}"):  # there it was a TypeError
            resolve(kind, name)
        return
    with caplog.at_level(logging.WARNING, logger="dataflex"):
        bound = resolve(kind, name)
    ignored = {key for key in written if f"has no parameter {key!r}" in caplog.text}
    assert ignored <= LEGACY_NAMES
    ignored |= {key for key in written if f"ignores the parameter {key!r}" in caplog.text}
    for key in set(written) - ignored:
        assert key in RUN_NAMES or _own_name(kind, name, key) in bound.values
        assert bound.sources[_own_name(kind, name, key)] == str(OLD_FILE)


def _own_name(kind: Kind, name: str, written: str) -> str:
    aliases = {alias: info.name for info in schema(INSTALLED.find(kind, name)) for alias in info.aliases}
    return aliases.get(written, written)


def test_values_of_a_preset_are_those_of_the_file(caplog: pytest.LogCaptureFixture) -> None:
    assert resolve(Kind.SELECTOR, "loss").values["focus"] == "medium"
    assert "score_batch_size" in caplog.text
    assert resolve(Kind.SELECTOR, "random").run_values == {"cache_dir": "../saves/random", "seed": 5}
    assert resolve(Kind.MIXER, "random").run_values == {"seed": 5}


def test_the_custom_preset_takes_a_class_given_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "custom.py").write_text(NOTE_SELECTOR)
    catalog = Catalog(PluginManager.load(PluginOptions.gather([str(tmp_path / "custom.py")], {})).plugins)
    assert resolve(Kind.SELECTOR, "custom", catalog).values == {"cache_dir": "../saves/custom"}


def test_a_preset_of_a_component_that_is_not_installed_says_so() -> None:
    with pytest.raises(ConfigError, match="no weighter 'joint_update_aware' is installed"):
        resolve(Kind.WEIGHTER, "joint_update_aware")
