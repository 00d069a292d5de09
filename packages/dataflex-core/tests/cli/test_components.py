"""``list-components`` and ``show-component``."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console
from rich.table import Table

from dataflex import console

PLUGIN = """
    from dataclasses import dataclass
    from dataflex import hookimpl
    from dataflex.spec import ComponentSpec, Kind, Need, param

    @dataclass(frozen=True)
    class Params:
        domains: list[str] = param(help="Which [domains] to weigh.")
        temperature: float = param(1.0, "Softness of the draw.", above=0, at_most=9)

    class Thing:
        pass

    @hookimpl
    def dataflex_components():
        return [
            ComponentSpec(kind=Kind.WEIGHTER, name="a-rather-long-component-name", target=f"{__name__}:Thing", api=1,
                          params=f"{__name__}:Params", summary="Weighs [bold] things.", paper="Doe 1999",
                          legacy={"eps": "Nothing is [divided] here."}, refused={"file": "Name a data set."},
                          needs={Need.SAMPLE_LOSSES, Need.DOMAINS}, stochastic=True),
            ComponentSpec(kind=Kind.MIXER, name="both", target=f"{__name__}:Thing", api=1),
            ComponentSpec(kind=Kind.SELECTOR, name="both", target=f"{__name__}:Thing", api=1),
            ComponentSpec(kind=Kind.SELECTOR, name="old", target=f"{__name__}:Thing", api=0),
        ]
"""
NOTE = """
from dataflex.core.registry import register_selector

@register_selector("custom")
class Custom:
    '''Takes the first ones.'''
    def __init__(self, dataset, accelerator, data_collator, cache_dir, rate: float = 0.5):
        pass
"""


@pytest.fixture
def acme(fake_dist):
    fake_dist("acme-tools", PLUGIN, version="4.2")


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "my file.py"
    path.write_text(NOTE)
    return path


def rows(outcome, dist):
    return [row for row in json.loads(outcome.out) if row["dist"] == dist]


def test_the_table_shows_each_component_in_one_line(run, acme):
    outcome = run("list-components")
    assert outcome.code == 0
    (line,) = [line for line in outcome.out.splitlines() if "a-rather-long" in line]
    cells = [cell.strip() for cell in line.split("│")]
    assert cells == [
        "weighter", "a-rather-long-component-name", "acme-tools", "4.2", "loaded", "Weighs [bold] things."
    ]  # fmt: skip


def test_json_holds_what_the_table_holds_and_more(run, acme):
    listed = {(row["kind"], row["name"]): row for row in rows(run("list-components", "--json"), "acme-tools")}
    assert len(listed) == 4
    row = listed["weighter", "a-rather-long-component-name"]
    assert (row["version"], row["status"], row["summary"]) == ("4.2", "loaded", "Weighs [bold] things.")
    assert row["needs"] == ["domains", "sample_losses"]


def test_an_outdated_component_is_listed_with_the_reason(run, acme):
    (line,) = [line for line in run("list-components").out.splitlines() if " old " in line]
    assert "incompatible" in line
    assert "written for API 0, this is API 1" in line


def test_kind_filters(run, acme):
    listed = rows(run("list-components", "--kind", "mixer", "--json"), "acme-tools")
    assert [(row["kind"], row["name"]) for row in listed] == [("mixer", "both")]


def test_listing_survives_a_plugin_that_fails_to_import(run, acme, fake_dist):
    fake_dist("acme-bad", "import no_such_library_x", version="0.3")
    outcome = run("list-components", "--kind", "weighter")
    assert outcome.code == 0
    assert "a-rather-long-component-name" in outcome.out
    (line,) = [line for line in outcome.out.splitlines() if "acme-bad" in line]
    assert [part in line for part in ("0.3", "broken", "No module named 'no_such_library_x'")] == [True] * 3


def test_two_dists_with_one_name_are_both_listed_and_the_bare_name_names_both(run, acme, fake_dist):
    fake_dist("acme-other", PLUGIN, version="9.0")
    listed = json.loads(run("list-components", "--json").out)
    assert [row["dist"] for row in listed if row["name"] == "both"] == ["acme-other", "acme-tools"] * 2
    outcome = run("show-component", "both", "--kind", "mixer")
    assert outcome.code == 2
    assert "mixer 'both' is provided by acme-other 9.0 and by acme-tools 4.2." in outcome.err
    assert "Write acme-other/both or acme-tools/both to say which." in outcome.err
    assert run("show-component", "acme-tools/both", "--kind", "mixer").code == 0


@pytest.mark.parametrize(
    ("arguments", "environ", "reason"),
    [
        (["-p", "no:acme_tools"], {}, "switched off by -p no:acme-tools"),
        ([], {"DATAFLEX_NO_PLUGINS": "1"}, "switched off by DATAFLEX_NO_PLUGINS"),
        ([], {"DATAFLEX_LOAD_PLUGINS": "x, y"}, "not in DATAFLEX_LOAD_PLUGINS"),
    ],
)
def test_a_plugin_that_is_switched_off_is_listed_as_blocked(run, acme, monkeypatch, arguments, environ, reason):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    (row,) = rows(run("list-components", "--json", *arguments), "acme-tools")
    assert (row["status"], row["reason"], row["name"]) == ("blocked", reason, None)


def test_a_file_is_listed_by_its_path(run, mine):
    for arguments in (["-p", str(mine), "list-components"], ["list-components", "-p", str(mine)]):
        (row,) = rows(run(*arguments, "--json"), str(mine))
        assert (row["name"], row["status"], row["version"]) == ("custom", "loaded", "")
        assert row["target"] == f"{mine}:Custom"


def test_nothing_installed_leads_to_the_package_that_would_help(run, monkeypatch):
    monkeypatch.setattr("importlib_metadata.distributions", lambda: iter(()))
    outcome = run("list-components", "--kind", "mixer")
    assert (outcome.code, outcome.out) == (0, "")
    assert "No mixers are installed. Try: pip install dataflex-mixers" in outcome.err
    assert json.loads(run("list-components", "--json").out) == []


def test_show_tells_parameters_needs_and_paper(run, acme):
    outcome = run("show-component", "a-rather-long-component-name")
    assert outcome.code == 0
    table = [[cell.strip() for cell in line.split("│")] for line in outcome.out.splitlines() if "│" in line]
    assert table == [
        ["domains", "list[str]", "required", "Which [domains] to weigh."],
        ["temperature", "float", "1.0", "Softness of the draw. Must be above 0 and at most 9."],
    ]
    facts = dict(line.split(":", 1) for line in outcome.out.splitlines() if ":" in line and "│" not in line)
    assert {key: value.strip() for key, value in facts.items()} == {
        "dist": "acme-tools 4.2",
        "target": "acme_tools_plugin:Thing",
        "api": "1",
        "needs": "domains, sample_losses",
        "stochastic": "yes",
        "paper": "Doe 1999",
        "eps is ignored": "Nothing is [divided] here.",
        "file is refused": "Name a data set.",
    }


def test_show_gives_the_same_as_json(run, acme):
    shown = json.loads(run("show-component", "a-rather-long-component-name", "--json").out)
    assert (shown["paper"], shown["target"], shown["api"]) == ("Doe 1999", "acme_tools_plugin:Thing", 1)
    assert shown["params"] == [
        {
            "name": "domains",
            "type": "list[str]",
            "default": None,
            "required": True,
            "help": "Which [domains] to weigh.",
            "range": "",
        },
        {
            "name": "temperature",
            "type": "float",
            "default": 1.0,
            "required": False,
            "help": "Softness of the draw.",
            "range": "above 0 and at most 9",
        },
    ]


def test_show_derives_parameters_from_the_constructor_of_a_file(run, mine):
    shown = json.loads(run("show-component", "custom", "-p", str(mine), "--json").out)
    assert {info["name"]: info["default"] for info in shown["params"]}["rate"] == 0.5
    assert "dataset" not in [info["name"] for info in shown["params"]]


def test_show_asks_for_the_kind_when_several_use_the_name(run, acme):
    outcome = run("show-component", "both")
    assert outcome.code == 2
    assert "'both' names a mixer and a selector. Say which: --kind mixer." in outcome.err
    assert run("show-component", "both", "--kind", "selector").out.startswith("selector both\n")


def test_show_of_an_unknown_name_suggests(run, acme):
    outcome = run("show-component", "bothh")
    assert outcome.code == 2
    assert "no component 'bothh' is installed. Did you mean 'both'?" in outcome.err


def test_show_of_an_outdated_component_gives_the_reason(run, acme):
    outcome = run("show-component", "old")
    assert outcome.code == 2
    assert "acme-tools 4.2: written for API 0, this is API 1" in outcome.err


def test_show_of_a_component_that_cannot_be_imported_names_the_dist(run, fake_dist):
    fake_dist("acme-tools", PLUGIN.replace("{__name__}:Params", "acme_gone:Params"), version="4.2")
    outcome = run("show-component", "a-rather-long-component-name")
    assert outcome.code == 2
    assert "params acme_gone:Params" in outcome.err
    assert "from acme-tools 4.2 cannot be imported: ModuleNotFoundError: No module named 'acme_gone'" in outcome.err


@pytest.mark.parametrize("width", [20, 60, 200])
@pytest.mark.parametrize("terminal", [True, False])
def test_a_narrow_output_cuts_no_name(monkeypatch, width, terminal):
    written = io.StringIO()
    monkeypatch.setattr(
        console, "stdout", Console(file=written, width=width, force_terminal=terminal, color_system=None)
    )
    table = Table(show_edge=False)
    table.add_column("name", no_wrap=True, overflow="ignore")
    table.add_column("dist", no_wrap=True, overflow="ignore")
    table.add_column("summary", overflow="fold", min_width=24)
    table.add_row("n" * 30, "d" * 40, "some words " * 12)
    console.print_table(table)
    text = written.getvalue()
    assert ("n" * 30 in text, "d" * 40 in text, "…" in text) == (True, True, False)
    assert text.count("words") == 12
    lines = [line for line in text.splitlines() if "words" in line]
    assert (len(lines) == 1) is not terminal  # a pipe gets one line a row, a terminal is filled


def test_show_component_prints_old_names_with_their_sentences(run, acme):
    said = run("show-component", "a-rather-long-component-name").out
    assert "eps is ignored: Nothing is [divided] here." in said and "file is refused: Name a data set." in said
    shown = json.loads(run("show-component", "a-rather-long-component-name", "--json").out)
    assert (shown["legacy"], shown["refused"]) == (
        {"eps": "Nothing is [divided] here."}, {"file": "Name a data set."}
    )  # fmt: skip
