"""The kit is checked by components with one fault each: exactly the check that is meant for a fault finds it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dataflex.spec import Kind
from dataflex.testing.check import Status
from dataflex.testing.checks import checks_for
from dataflex.testing.ranks import RankAnswers, ask_on_ranks
from dataflex.testing.runner import check_named, run_check
from dataflex.testing.subject import Subject

HERE = Path(__file__).parent
FILES = {kind: HERE / f"planted_{kind.plural}.py" for kind in Kind}
ON_RANKS = "ranks_agree"
SOUND = "sound"

PARAMS_FAULTS = {
    "parameters_are_documented": """
        @dataclass(frozen=True)
        class Params:
            share: float = 0.5
    """,
    "parameters_are_frozen": """
        @dataclass
        class Params:
            share: float = param(0.5, "A share.")
    """,
    "unknown_parameter_is_refused": """
        @dataclass(frozen=True, init=False)
        class Params:
            share: float = param(0.5, "A share.")

            def __init__(self, **kwargs):
                object.__setattr__(self, "share", kwargs.get("share", 0.5))
    """,
    "old_names_are_no_parameters": """
        OLD = {"part": "share means the same."}

        @dataclass(frozen=True)
        class Params:
            share: float = param(0.5, "A share.", aliases=("part",))
    """,
    "plugin_imports_without_torch": """
        import torch

        @dataclass(frozen=True)
        class Params:
            share: float = param(0.5, "A share.")
    """,
}
"""Faults that need a dataclass of parameters, and so an installed plugin."""

PLUGIN = """
from dataclasses import dataclass
from dataflex import Selector, hookimpl
from dataflex.spec import ComponentSpec, Kind, param

OLD = {{}}

{params}

class Planted(Selector):
    def select(self, model, step_id, num_samples, **kwargs):
        return [row % len(self.dataset) for row in range(num_samples)]

@hookimpl
def dataflex_components():
    return [
        ComponentSpec(
            kind=Kind.SELECTOR, name="planted", target="planted_plugin:Planted", params="planted_plugin:Params",
            api=1, summary="A selector with a fault.", legacy=OLD,
        )
    ]
"""


def planted() -> list[Subject]:
    """Every component of the planted files."""
    return [
        Subject(name=name, kind=kind, plugins=(str(path),))
        for kind, path in FILES.items()
        for name in re.findall(r'^@register_\w+\("([\w+]+)"', path.read_text(encoding="utf-8"), re.MULTILINE)
    ]


def fault(subject: Subject) -> str:
    return subject.name.partition("+")[0]


def title(subject: Subject) -> str:
    return f"{subject.kind}-{subject.name}"


def failures(subject: Subject, folder: Path) -> dict[str, str]:
    """Messages of the checks that fail, those on ranks left out: one group of processes sees to them all."""
    assert subject.kind is not None
    checks = [check for check in checks_for(subject.kind) if check.name != ON_RANKS]
    results = [run_check(subject, check, folder / check.name) for check in checks]
    return {result.check.name: result.message for result in results if result.status is Status.FAILED}


@pytest.mark.parametrize("subject", planted(), ids=title)
def test_a_fault_is_found_by_its_check_and_by_no_other(subject: Subject, tmp_path: Path) -> None:
    expected = set() if fault(subject) in (SOUND, ON_RANKS) else {fault(subject)}
    found = failures(subject, tmp_path)
    assert set(found) == expected, found
    assert all(found.values())


@pytest.mark.parametrize("name", PARAMS_FAULTS)
def test_a_fault_of_parameters_is_found_by_its_check_and_by_no_other(
    name: str, fake_dist: Callable[..., None], tmp_path: Path
) -> None:
    from textwrap import dedent

    fake_dist("planted", PLUGIN.format(params=dedent(PARAMS_FAULTS[name])))
    found = failures(Subject(name="planted", kind=Kind.SELECTOR), tmp_path / "checks")
    assert set(found) == {name}, found


@pytest.fixture(scope="module")
def on_ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RankAnswers]:
    """What each planted component decides on two ranks; those that cannot decide anyway are left out."""
    unusable = ("can_be_built", "repeats_itself")
    subjects = [subject for subject in planted() if fault(subject) not in unusable]
    found = ask_on_ranks(subjects, tmp_path_factory.mktemp("ranks"))
    return dict(zip(map(title, subjects), found, strict=True))


def test_ranks_that_disagree_are_found_and_all_others_agree(on_ranks: dict[str, RankAnswers]) -> None:
    assert {name: found.failure for name, found in on_ranks.items() if found.failure} == {}
    assert {name for name, found in on_ranks.items() if found.differ} == {f"{kind}-{ON_RANKS}" for kind in Kind}


@pytest.mark.parametrize("kind", FILES)
def test_the_check_itself_finds_ranks_that_disagree(kind: Kind, tmp_path: Path) -> None:
    subject = Subject(name=ON_RANKS, kind=kind, plugins=(str(FILES[kind]),))
    result = run_check(subject, check_named(ON_RANKS, checks_for(kind)), tmp_path)
    assert result.status is Status.FAILED
    assert result.message.startswith("rank 0 decided")


def test_every_check_has_a_planted_fault() -> None:
    faults = {fault(subject) for subject in planted()} | set(PARAMS_FAULTS)
    checks = {check.name for kind in FILES for check in checks_for(kind)}
    assert faults - {SOUND} == checks
    assert len(checks) >= 20


@pytest.mark.parametrize("kind", FILES)
def test_every_check_says_what_it_proves_and_how_to_mend_a_failure(kind: Kind) -> None:
    silent = [check.name for check in checks_for(kind) if not check.proves.endswith(".") or not check.mend]
    assert silent == []
