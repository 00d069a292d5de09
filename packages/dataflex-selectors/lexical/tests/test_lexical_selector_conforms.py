"""The selectors lexical and dsir keep every promise of the conformance kit."""

from __future__ import annotations

from pathlib import Path

from dataflex.spec import Kind
from dataflex.testing.parametrize import ReadyCheck, parametrize_with_checks


@parametrize_with_checks("dataflex-selectors-lexical/lexical", kind=Kind.SELECTOR)
def test_the_lexical_selector_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)


@parametrize_with_checks("dataflex-selectors-lexical/dsir", kind=Kind.SELECTOR)
def test_the_dsir_selector_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)
