"""The weighter and the selector rho keep every promise of the conformance kit."""

from __future__ import annotations

from pathlib import Path

from dataflex.spec import Kind
from dataflex.testing.parametrize import ReadyCheck, parametrize_with_checks
from dataflex.testing.tiny import write_model


def cached(folder: Path) -> dict[str, str]:
    return {"reference": str(write_model(folder / "reference", seed=1))}


def live(folder: Path) -> dict[str, str]:
    return {**cached(folder), "reference_losses": "live"}


@parametrize_with_checks("dataflex-weighters-rho/rho", kind=Kind.WEIGHTER, params=live)
def test_the_rho_weighter_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)


@parametrize_with_checks("dataflex-weighters-rho/rho", kind=Kind.SELECTOR, params=cached)
def test_the_rho_selector_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)
