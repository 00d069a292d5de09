"""Plugins of every bad kind in one environment: whoever uses another component does not notice, whoever asks is told.

Only the two trainings import LlamaFactory: each has all the bad ones beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_dists import install
from tiny_runs import NOTE_SELECT, Workshop, call, installed, script

from dataflex.decisions import DecisionLog

pytestmark = pytest.mark.slow

SPEC = """
from dataflex import hookimpl
from dataflex.spec import ComponentSpec, Kind

@hookimpl
def dataflex_components():
    return [ComponentSpec(kind=Kind.SELECTOR, name="{name}", target="{target}", api={api}, summary="{name}")]
"""
SELECTOR = """
from dataflex import Selector

class Rows(Selector):
    def select(self, model, step_id, num_samples, **kwargs):
        return list(range(num_samples))
"""
BAD_HOOKS = """
from dataflex import hookimpl

@hookimpl
def dataflex_check_run(plan):
    raise LookupError("no rules today")

@hookimpl
def dataflex_decision(decision):
    raise LookupError("no pen")
"""
BLOCK = ("-p", "no:acme-blocked")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one distribution for each way to be bad."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "acme_rows.py").write_text(SELECTOR)
    (folder / "acme_missing.py").write_text("import a_library_that_is_not_installed\n")
    install(folder, "acme-raises", "raise RuntimeError('no licence file')")
    install(folder, "acme-exits", "import sys\nsys.exit('goodbye')")
    install(folder, "acme-ancient", SPEC.format(name="ancient", target="acme_rows:Rows", api=0))
    install(folder, "acme-hollow", SPEC.format(name="hollow", target="acme_missing:Rows", api=1))
    for dist in ("acme-twin", "other-twin"):
        install(folder, dist, SPEC.format(name="twin", target="acme_rows:Rows", api=1))
    blocked = SPEC.format(name="blocked", target="acme_rows:Rows", api=1)
    install(folder, "acme-blocked", f"open({str(folder / 'imported')!r}, 'w').close()\n{blocked}")
    install(folder, "acme-hooks", BAD_HOOKS)
    return folder


@pytest.fixture
def nowhere(tmp_path: Path) -> Workshop:
    """Run files whose model and data do not exist: a run that gets as far as loading them fails in other words."""
    return Workshop(tmp_path / "missing", tmp_path)


def test_a_run_of_another_component_trains_to_its_end(workshop: Workshop, site: Path) -> None:
    run = workshop.run_file(**NOTE_SELECT)
    done = call(script("dataflex-cli"), *BLOCK, "train", str(run), **installed(site))
    assert done.returncode == 0
    assert [record.dist for record in DecisionLog(workshop.out / "run")] == ["dataflex-selectors-random"] * 2
    state = json.loads((workshop.out / "run" / "trainer_state.json").read_text())
    assert state["global_step"] == 8  # 2 of warm-up, 2 stages of 3
    for hook, words in {"dataflex_check_run": "no rules today", "dataflex_decision": "no pen"}.items():
        assert f"Plugin acme-hooks 1.0 failed in {hook}, ignored: LookupError: {words}" in _one_line(done.stderr)
    assert not (site / "imported").exists()


def test_the_plugins_that_may_load_are_the_same_on_a_rank_of_torchrun(workshop: Workshop, site: Path) -> None:
    run = workshop.run_file(**NOTE_SELECT)
    around = {"DATAFLEX_LOAD_PLUGINS": "dataflex_selectors.random,acme-ancient,acme-blocked"}
    around |= {**installed(site), "FORCE_TORCHRUN": "1", "NPROC_PER_NODE": "1"}
    done = call(script("dataflex-cli"), *BLOCK, "train", str(run), **around)
    assert done.returncode == 0
    assert [record.dist for record in DecisionLog(workshop.out / "run")] == ["dataflex-selectors-random"] * 2
    assert "acme-hooks" not in done.stderr
    assert not (site / "imported").exists()


def test_the_list_has_all_that_works_and_says_what_is_wrong_with_the_rest(site: Path) -> None:
    rows = _listed(site)
    assert {row["status"] for row in rows if row["dist"].startswith("dataflex-")} == {"loaded"}
    assert {("selector", "loss"), ("mixer", "random"), ("weighter", "loss")} <= {(r["kind"], r["name"]) for r in rows}
    assert [row["dist"] for row in rows if (row["name"], row["status"]) == ("twin", "loaded")] == [
        "acme-twin",
        "other-twin",
    ]
    states = {row["dist"]: (row["status"], row["reason"]) for row in rows if row["status"] != "loaded"}
    assert states == {
        "acme-raises": ("broken", "RuntimeError: no licence file"),
        "acme-exits": ("broken", "SystemExit: goodbye"),
        "acme-ancient": ("incompatible", "written for API 0, this is API 1"),
        "acme-blocked": ("blocked", "switched off by -p no:acme-blocked"),
    }


def test_a_list_of_the_plugins_to_load_blocks_all_others(site: Path) -> None:
    rows = _listed(site, DATAFLEX_LOAD_PLUGINS="dataflex-selectors-random,acme-raises")
    states = {row["dist"]: row["status"] for row in rows}
    assert (states.pop("dataflex-selectors-random"), states.pop("acme-raises")) == ("loaded", "broken")
    assert set(states.values()) == {"blocked"}


ASKED = {
    "acme-raises/mine": ["acme-raises 1.0 (broken: RuntimeError: no licence file)", "Repair or reinstall acme-raises"],
    "acme-exits/mine": ["acme-exits 1.0 (broken: SystemExit: goodbye)"],
    "ancient": ["acme-ancient 1.0: written for API 0, this is API 1", "Install other versions of acme-ancient"],
    "twin": ["provided by acme-twin 1.0 and by other-twin 1.0", "Write acme-twin/twin or other-twin/twin"],
    "hollow": ["acme_missing:Rows", "acme-hollow 1.0", "No module named 'a_library_that_is_not_installed'"],
    "blocked": ["no selector 'blocked'", "acme-blocked 1.0 (blocked: switched off by -p no:acme-blocked)"],
    "acme-blocked/blocked": ["acme-blocked 1.0 (blocked: switched off by -p no:acme-blocked)"],
    "nobodys": ["acme-raises 1.0 (broken: RuntimeError: no licence file)", "Installed selectors:"],
}


@pytest.mark.parametrize("name", ASKED)
def test_a_run_that_asks_for_it_is_refused_before_anything_loads(nowhere: Workshop, site: Path, name: str) -> None:
    run = nowhere.run_file(**NOTE_SELECT | {"component_name": name})
    done = call(script("dataflex-cli"), *BLOCK, "train", str(run), **installed(site))
    assert done.returncode == 2
    said = _one_line(done.stderr)
    assert [words for words in ASKED[name] if words not in said] == []
    assert "Traceback" not in said
    assert not (nowhere.out / "run").exists()


def test_a_run_is_refused_a_component_that_is_not_among_the_plugins_to_load(nowhere: Workshop, site: Path) -> None:
    run = nowhere.run_file(**NOTE_SELECT | {"component_name": "loss"})
    only = {"DATAFLEX_LOAD_PLUGINS": "dataflex-selectors-random"}
    done = call(script("dataflex-cli"), "train", str(run), **installed(site), **only)
    assert done.returncode == 2
    assert "dataflex-selectors-loss 0.1.0 (blocked: not in DATAFLEX_LOAD_PLUGINS)" in _one_line(done.stderr)


def _listed(site: Path, **environ: str) -> list[dict[str, Any]]:
    done = call(script("dataflex"), *BLOCK, "list-components", "--json", **installed(site), **environ)
    assert done.returncode == 0
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def _one_line(text: str) -> str:
    """What was said, whatever the width of the terminal."""
    return " ".join(text.split())
