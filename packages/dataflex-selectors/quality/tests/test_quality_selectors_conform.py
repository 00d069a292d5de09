"""The four selectors keep every promise of the conformance kit."""

from __future__ import annotations

from pathlib import Path

from dataflex.spec import Kind
from dataflex.testing.parametrize import ReadyCheck, parametrize_with_checks


@parametrize_with_checks("dataflex-selectors-quality/ifd", kind=Kind.SELECTOR, params={"least_tokens": 1})
def test_the_ifd_selector_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)


@parametrize_with_checks("dataflex-selectors-quality/perplexity", kind=Kind.SELECTOR)
def test_the_perplexity_selector_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)


@parametrize_with_checks(
    "dataflex-selectors-quality/deita", kind=Kind.SELECTOR, params={"by": ["length"], "same_above": 1.0}
)
def test_the_deita_selector_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)


@parametrize_with_checks("dataflex-selectors-quality/column", kind=Kind.SELECTOR, params={"by": "length"})
def test_the_column_selector_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)
