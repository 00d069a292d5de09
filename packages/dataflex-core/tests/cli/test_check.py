"""``dataflex check-component``."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest

from dataflex.cli.app import main
from dataflex.spec import Kind
from dataflex.testing import checks, runner
from dataflex.testing.check import Check

SELECTOR = '''
    from dataflex import Selector, register_selector

    @register_selector("backwards")
    class Backwards(Selector):
        """Takes the last rows."""

        def __init__(self, dataset, accelerator, data_collator, cache_dir, first: int = 0):
            super().__init__(dataset, accelerator, data_collator, cache_dir)
            self.first = first

        def select(self, model, step_id, num_samples, **kwargs):
            return [self.first - 1 - row for row in range(num_samples)]
'''


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a selector; only two of the checks are run, the others have tests of their own."""
    chosen = ("can_be_built", "returns_rows_of_the_pool")

    def few(kind: Kind) -> tuple[Check, ...]:
        return tuple(check for check in checks.checks_for(kind) if check.name in chosen)

    monkeypatch.setattr(runner, "checks_for", few)
    path = tmp_path / "mine.py"
    path.write_text(dedent(SELECTOR), encoding="utf-8")
    return path


def run(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    return stopped.value.code


def test_a_component_that_passes_gives_exit_code_0(mine: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("-p", str(mine), "check-component", "backwards", "--param", "first=24") == 0
    assert "2 passed" in capfd.readouterr().out


def test_a_failure_gives_exit_code_1_and_says_how_to_mend_it(mine: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("check-component", "backwards", "-p", str(mine)) == 1
    out = capfd.readouterr().out
    assert "it returned row -1 at position 0; the pool has rows 0 to 23" in out
    assert "Mend: return places in ``self.dataset``" in out
    assert "1 passed, 1 failed" in out


def test_json_has_a_row_for_each_check(mine: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("check-component", "backwards", "-p", str(mine), "--json", "--kind", "selector") == 1
    rows = json.loads(capfd.readouterr().out)
    assert [(row["check"], row["status"]) for row in rows] == [
        ("can_be_built", "passed"),
        ("returns_rows_of_the_pool", "failed"),
    ]
    assert all(row["proves"] and row["mend"] for row in rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("backward",), "Did you mean 'backwards'?"),
        (("backwards", "--param", "fist=1"), "has no parameter 'fist'"),
        (("backwards", "--param", "first"), "write --param key=value"),
        (("backwards", "--param", "first=many"), "component_params.first: 'many'"),
    ],
)
def test_a_wrong_name_or_parameter_is_an_error_before_any_check(
    mine: Path, arguments: tuple[str, ...], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("check-component", *arguments, "-p", str(mine)) == 2
    captured = capfd.readouterr()
    assert message in captured.err
    assert captured.out == ""
