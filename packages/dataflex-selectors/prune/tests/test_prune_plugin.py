from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from typing import Any

import pytest
from importlib_metadata import entry_points

from dataflex import ConfigError
from dataflex.config.bind import bind
from dataflex.plugins.catalog import Catalog
from dataflex.plugins.manager import PluginManager
from dataflex.plugins.options import PluginOptions
from dataflex.spec import API, Kind, Need
from dataflex_selectors_prune import plugin
from dataflex_selectors_prune.params import PruneParams

SPEC = plugin.dataflex_components()[0]


def test_the_entry_point_names_the_plugin() -> None:
    points = [point for point in entry_points(group="dataflex.components") if point.value == plugin.__name__]
    assert [point.load() for point in points] == [plugin]


def test_the_spec_names_what_exists() -> None:
    assert (SPEC.kind, SPEC.name, SPEC.api) == (Kind.SELECTOR, "prune", API)
    assert SPEC.needs == {Need.SAMPLE_LOSSES} and SPEC.gives_weights
    for reference in (SPEC.target, SPEC.params):
        assert reference is not None
        module, name = reference.split(":")
        assert hasattr(importlib.import_module(module), name)


def test_defaults_are_those_of_the_method_and_every_parameter_has_a_help_text() -> None:
    assert PruneParams() == PruneParams(ratio=0.5, until=0.875, score="loss")
    fields: Any = dataclasses.fields(PruneParams)
    assert all(field.metadata["help"] for field in fields)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"ratio": 1.0}, r"ratio: 1\.0 .* must be at least 0 and below 1"),
        ({"ratio": -0.1}, "ratio: -0.1"),
        ({"until": 1.5}, r"until: 1\.5"),
        ({"score": "margin"}, "score: 'margin'"),
        ({"passes": 3}, r"takes no parameter 'passes' \(from run.yaml\): prune reads the whole pool, pass after pass"),
    ],
)
def test_values_that_cannot_be_are_refused(values: dict[str, Any], said: str) -> None:
    entry = Catalog(PluginManager.load(PluginOptions()).plugins).find(Kind.SELECTOR, "prune")
    with pytest.raises(ConfigError, match=said):
        bind(entry, [("run.yaml", values)])


def test_plugin_and_params_import_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, dataflex_selectors_prune.plugin as p, dataflex_selectors_prune.params\n"
        "p.dataflex_components()\n"
        "print(sorted({'torch', 'numpy', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
