"""A ``components.yaml`` that somebody got wrong: the preset as it stands, or an error that names file and field."""

from __future__ import annotations

import json

import pytest
from json_mutations import spoilt

from dataflex.config.bind import bind
from dataflex.config.overrides import find_preset
from dataflex.config.run import read_run_file
from dataflex.errors import ConfigError
from dataflex.plugins.catalog import Catalog
from dataflex.plugins.manager import PluginManager
from dataflex.plugins.options import PluginOptions
from dataflex.spec import Kind

FILE = {
    "selectors": {
        "mine": {"name": "loss", "params": {"focus": "low", "quantiles": [0.2, 0.8]}},
        "other": {"name": "x"},
    },
    "mixers": {},
}
CATALOG = Catalog(PluginManager.load(PluginOptions()).plugins)


@pytest.fixture
def resolve(tmp_path):
    """The preset ``mine`` of a file with this text, and its bound parameters."""

    def resolve(text):
        (tmp_path / "run.yaml").write_text(
            "train_type: dynamic_select\ncomponent_name: mine\noutput_dir: here\ncomponents_cfg_file: components.yaml\n"
        )
        (tmp_path / "components.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        preset = find_preset(read_run_file(tmp_path / "run.yaml"), Kind.SELECTOR)
        entry = CATALOG.find(Kind.SELECTOR, "loss" if preset.name == "mine" else preset.name)
        return preset, bind(entry, [(preset.source, preset.params)])

    return resolve


def test_every_spoilt_file_is_taken_as_it_says_or_refused_by_name(resolve):
    taken = 0
    for what, text in spoilt(FILE):
        try:
            preset, bound = resolve(text)
        except ConfigError as error:
            assert "components.yaml" in str(error) or "no selector" in str(error), (what, str(error))
            continue
        section = json.loads(text).get("selectors") if text else None
        entry = (section or {}).get("mine") or {}
        assert preset.name == entry.get("name", "mine"), what
        assert dict(preset.params) == (entry.get("params") or {}), what
        assert bound.values["focus"] == (preset.params.get("focus", "high")), what
        taken += 1
    assert taken >= 5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(text, reason, marks=pytest.mark.bad_input(what, file="components.yaml"), id=what)
        for what, text, reason in [
            (
                "a misspelt section",
                "selector: {mine: {name: loss}}",
                "has the unknown section 'selector'. Did you mean",
            ),
            (
                "a misspelt field",
                "selectors: {mine: {param: {}}}",
                "selectors.mine has the unknown key 'param'. Did you",
            ),
            ("a list for a section", "selectors: [mine]", "selectors must hold presets by name, not ['mine']"),
            (
                "a list for parameters",
                "selectors: {mine: {params: []}}",
                "selectors.mine.params must be a mapping, not []",
            ),
            (
                "a number for a name",
                "selectors: {mine: {name: 5}}",
                "selectors.mine.name must be the name of a component",
            ),
            ("a list", "- selectors", "components.yaml holds ['selectors'], not sections"),
            ("bytes that are not UTF-8", b"selectors: {caf\xe9: 1}", "components.yaml cannot be read: 'utf-8' codec"),
            ("an interpolation of nothing", "selectors: {mine: {params: {focus: '${gone}'}}}", "key 'gone' not found"),
            ("a key that stands twice", "selectors: {}\nselectors: {}\n", "duplicate key selectors"),
            (
                "a number that stands twice among keys",
                "selectors: {mine: {params: {points: {0: 1, 0: 2}}}}",
                "found duplicate key 0",
            ),
        ]
    ],
)
def test_a_file_that_means_something_else_is_refused_with_the_field(resolve, text, reason, seen):
    with pytest.raises(ConfigError) as caught:
        resolve(text)
    assert reason in seen(str(caught.value)).replace("\n", " ")


def test_other_keys_may_stand_for_parts_that_interpolate(resolve):
    preset, _ = resolve("band: low\nselectors: {mine: {name: loss, params: {focus: '${band}'}}}\n")
    assert preset.params == {"focus": "low"}
