"""The selector margin keeps every promise of the conformance kit."""

from __future__ import annotations

from pathlib import Path

from dataflex.spec import Kind
from dataflex.testing.parametrize import ReadyCheck, parametrize_with_checks


@parametrize_with_checks("dataflex-selectors-margin/margin", kind=Kind.SELECTOR)
def test_the_margin_selector_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)
