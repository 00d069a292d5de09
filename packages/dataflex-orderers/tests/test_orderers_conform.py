"""The orderers keep every promise of the conformance kit."""

from __future__ import annotations

from pathlib import Path

from dataflex.spec import Kind
from dataflex.testing.parametrize import ReadyCheck, parametrize_with_checks


@parametrize_with_checks("dataflex-orderers/shuffle", kind=Kind.ORDERER)
def test_shuffle_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)


@parametrize_with_checks("dataflex-orderers/sorting", kind=Kind.ORDERER)
def test_sorting_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)


@parametrize_with_checks("dataflex-orderers/folding", kind=Kind.ORDERER)
def test_folding_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)


@parametrize_with_checks("dataflex-orderers/zigzag", kind=Kind.ORDERER)
def test_zigzag_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)


@parametrize_with_checks("dataflex-orderers/segment", kind=Kind.ORDERER)
def test_segment_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)


@parametrize_with_checks("dataflex-orderers/stair", kind=Kind.ORDERER)
def test_stair_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)


@parametrize_with_checks("dataflex-orderers/saw", kind=Kind.ORDERER)
def test_saw_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)
