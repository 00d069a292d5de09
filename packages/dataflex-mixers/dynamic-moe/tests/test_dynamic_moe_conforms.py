"""The mixer dynamic_moe keeps every promise of the conformance kit, on a mixture of experts."""

from __future__ import annotations

from pathlib import Path

from dataflex.spec import Kind
from dataflex.testing.parametrize import ReadyCheck, parametrize_with_checks


@parametrize_with_checks("dataflex-mixers-dynamic-moe/dynamic_moe", kind=Kind.MIXER)
def test_the_dynamic_moe_mixer_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)
