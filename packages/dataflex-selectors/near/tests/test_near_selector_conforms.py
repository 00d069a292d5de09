"""The selectors near and rds keep every promise of the conformance kit."""

from __future__ import annotations

from pathlib import Path

from dataflex.spec import Kind
from dataflex.testing.parametrize import ReadyCheck, parametrize_with_checks


@parametrize_with_checks("dataflex-selectors-near/near", kind=Kind.SELECTOR)
def test_the_near_selector_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)


@parametrize_with_checks("dataflex-selectors-near/rds", kind=Kind.SELECTOR, params={"aggregate": "round_robin"})
def test_the_rds_selector_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)
