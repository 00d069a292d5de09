"""The selectors less and icons keep every promise of the conformance kit."""

from __future__ import annotations

from pathlib import Path

from dataflex.spec import Kind
from dataflex.testing.parametrize import ReadyCheck, parametrize_with_checks


@parametrize_with_checks("dataflex-selectors-less/less", kind=Kind.SELECTOR)
def test_the_less_selector_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)


@parametrize_with_checks("dataflex-selectors-less/icons", kind=Kind.SELECTOR)
def test_the_icons_selector_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)
