"""The mixer doremi keeps every promise of the conformance kit."""

from __future__ import annotations

from pathlib import Path

from dataflex.spec import Kind
from dataflex.testing.parametrize import ReadyCheck, parametrize_with_checks
from dataflex.testing.tiny import write_model


def with_a_reference(folder: Path) -> dict[str, str]:
    return {"reference": str(write_model(folder / "reference", seed=1))}


@parametrize_with_checks("dataflex-mixers-doremi/doremi", kind=Kind.MIXER, params=with_a_reference)
def test_the_doremi_mixer_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)
