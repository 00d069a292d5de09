"""The mixer schedule keeps every promise of the conformance kit."""

from __future__ import annotations

from pathlib import Path

from dataflex.spec import Kind
from dataflex.testing.parametrize import ReadyCheck, parametrize_with_checks

POINTS = {0: {"web": 1.0, "code": 0.0, "books": 0.0}, 30: {"web": 0.2, "code": 0.4, "books": 0.4}}


@parametrize_with_checks("dataflex-mixers-schedule/schedule", kind=Kind.MIXER, params={"points": POINTS})
def test_the_schedule_mixer_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)
