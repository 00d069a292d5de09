"""The kit in pytest: passing, failing, skipping and expected failures."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataflex.errors import ConfigError
from dataflex.testing import parametrize_with_checks
from dataflex.testing.parametrize import ReadyCheck

PLANTED = str(Path(__file__).parent / "planted_selectors.py")


def ready(name: str, check: str) -> ReadyCheck:
    mark = parametrize_with_checks(name, kind="selector", plugins=[PLANTED]).mark
    (found,) = [param.values[0] for param in mark.args[1] if param.id == check]
    assert isinstance(found, ReadyCheck)
    return found


def test_a_check_that_finds_nothing_passes(tmp_path: Path) -> None:
    ready("sound", "decides")(tmp_path)


def test_a_failing_check_says_what_it_proves_and_how_to_mend_it(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"returns_the_count(?s:.)*It proves: (?s:.)*Mend: ``num_samples``"):
        ready("returns_the_count_asked_for", "returns_the_count_asked_for")(tmp_path)


def test_a_check_that_does_not_apply_is_skipped_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(pytest.skip.Exception, match="a file given with -p may import torch"):
        ready("sound", "plugin_imports_without_torch")(tmp_path)


def test_an_expected_failure_is_marked_and_must_not_pass() -> None:
    mark = parametrize_with_checks(
        "warms_up", plugins=[PLANTED], expected_failures={"warms_up": "the pool is always larger"}
    ).mark
    marked = {param.id: param.marks for param in mark.args[1] if param.marks}
    assert list(marked) == ["warms_up"]
    (xfail,) = marked["warms_up"]
    assert xfail.kwargs == {"reason": "the pool is always larger", "strict": True}


def test_an_expected_failure_of_a_check_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"no check 'warm_up'\. Did you mean 'warms_up'\?"):
        parametrize_with_checks("sound", plugins=[PLANTED], expected_failures={"warm_up": ""})


def test_a_component_that_does_not_exist_is_an_error_when_the_test_is_collected() -> None:
    with pytest.raises(ConfigError, match="no selector 'nowhere' is installed"):
        parametrize_with_checks("nowhere", kind="selector")
