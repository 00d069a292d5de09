"""The page for users of PyPI dataflex 1.x says of every preset, name and import path what is true of it."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from dataflex.config import legacy
from dataflex.config.bind import LEGACY_NAMES, schema
from dataflex.kinds import KINDS
from dataflex.plugins.catalog import Catalog
from dataflex.plugins.manager import PluginManager
from dataflex.plugins.options import PluginOptions
from dataflex.spec import Kind

PAGE = (Path(__file__).parents[2] / "docs/from_dataflex_1x.md").read_text(encoding="utf-8")
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
OLD: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "components.yaml").read_text(encoding="utf-8"))
CATALOG = Catalog(PluginManager.load(PluginOptions()).plugins)
HERE = {(entry.spec.kind, entry.spec.name) for entry in CATALOG.entries}
WITHOUT_A_CLASS = {(Kind.SELECTOR, "custom"), (Kind.WEIGHTER, "custom"), (Kind.MIXER, "static")}
OLD_PRESETS = [(kind, name) for kind in Kind if not KINDS[kind].old_plural for name in OLD[kind.plural]]


def row_of(kind: Kind, name: str) -> list[str]:
    """The row of the table of components that speaks of one of 1.x."""
    (row,) = [row for row in ROWS if re.search(rf"\b{kind}s? (`\w+`, )*`{name}`", row[0])]
    return row


@pytest.mark.parametrize(("kind", "name"), OLD_PRESETS)
def test_an_old_component_is_called_available_where_it_is(kind: Kind, name: str) -> None:
    available = "not available" not in row_of(kind, name)[1]
    assert available == ((kind, name) in HERE | WITHOUT_A_CLASS)


@pytest.mark.parametrize(("kind", "name"), [preset for preset in OLD_PRESETS if preset in HERE])
def test_every_parameter_of_an_old_preset_is_explained(kind: Kind, name: str) -> None:
    explained = set(re.findall(r"`(\w+)`", row_of(kind, name)[2]))
    assert set(OLD[kind.plural][name]["params"]) <= explained
    for info in schema(CATALOG.find(kind, name)):
        assert all(f"`{alias}` is `{info.name}`" in row_of(kind, name)[2] for alias in info.aliases)


def test_every_legacy_name_is_on_the_page() -> None:
    assert [name for name in sorted(LEGACY_NAMES) if f"`{name}`" not in PAGE] == []


def test_the_import_paths_of_the_page_exist() -> None:
    imports = re.findall(r"from (dataflex[\w.]*) import (\w+)", PAGE)
    assert len(imports) > 3
    assert [item for item in imports if not hasattr(import_module(item[0]), item[1])] == []


def test_every_name_that_messages_know_is_on_the_page() -> None:
    names = {*legacy.TRAIN_TYPES, *legacy.KEYS, *(name for names in legacy.COMPONENTS.values() for name in names)}
    assert [name for name in sorted(names) if not re.search(rf"`[^`]*\b{name}\b[^`]*`", PAGE)] == []


@pytest.mark.parametrize(("kind", "name"), [preset for preset in OLD_PRESETS if preset not in HERE])
def test_messages_know_every_old_component_that_is_not_here(kind: Kind, name: str) -> None:
    assert f" It is a {kind} of dataflex 1.x" in legacy.component(kind, name)


def test_every_key_and_train_type_that_the_page_calls_an_error_is_known_to_messages() -> None:
    gone = {name for row in ROWS if "an error" in row[1] for name in re.findall(r"`(?:train_type: )?(\w+)`", row[0])}
    assert {"mixer_eval_dataset", "freeze_gate"} <= gone
    known = {*legacy.TRAIN_TYPES, *legacy.KEYS}
    assert gone - known - {"component_name", "uniform"} == set()  # these are keys and values here as well
