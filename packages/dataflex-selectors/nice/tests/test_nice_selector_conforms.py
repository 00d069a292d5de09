"""The selector nice keeps every promise of the conformance kit."""

from __future__ import annotations

from pathlib import Path

from dataflex.spec import Kind
from dataflex.testing.parametrize import ReadyCheck, parametrize_with_checks


@parametrize_with_checks(
    "dataflex-selectors-nice/nice",
    kind=Kind.SELECTOR,
    params={"reward": "dataflex_selectors_nice.rewards:overlap", "mc_samples": 4, "max_new_tokens": 12},
)
def test_the_nice_selector_conforms(check: ReadyCheck, tmp_path: Path) -> None:
    check(tmp_path)
