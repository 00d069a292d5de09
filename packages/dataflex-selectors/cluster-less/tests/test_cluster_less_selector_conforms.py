"""The selector cluster_less keeps every promise of the conformance kit."""

from __future__ import annotations

from pathlib import Path

from dataflex.spec import Kind
from dataflex.testing.parametrize import ReadyCheck, parametrize_with_checks


@parametrize_with_checks(
    "dataflex-selectors-cluster-less/cluster_less", kind=Kind.SELECTOR, params={"cluster_rows": 3, "representatives": 2}
)
def test_the_cluster_less_selector_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)
