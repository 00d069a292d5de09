"""The mixer odm keeps every promise of the conformance kit, under both rules."""

from __future__ import annotations

from pathlib import Path

from dataflex.spec import Kind
from dataflex.testing.parametrize import ReadyCheck, parametrize_with_checks


@parametrize_with_checks("dataflex-mixers-odm/odm", kind=Kind.MIXER)
def test_the_odm_mixer_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)
