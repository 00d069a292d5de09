"""The weighter adapt keeps every promise of the conformance kit."""

from __future__ import annotations

from pathlib import Path

from dataflex.spec import Kind
from dataflex.testing.parametrize import ReadyCheck, parametrize_with_checks


@parametrize_with_checks("dataflex-weighters-adapt/adapt", kind=Kind.WEIGHTER, params={"centre": "window"})
def test_the_adapt_weighter_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)
