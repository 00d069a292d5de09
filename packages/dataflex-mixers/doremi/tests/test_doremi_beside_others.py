"""DoReMi's proxy finds weights for the mixture as it is: beside a selector or a weighter they would be others'."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dataflex.spec import Kind
from dataflex_mixers_doremi.plugin import TARGET, dataflex_check_run


def run(mode: str, *others: Any) -> Any:
    mixer = SimpleNamespace(kind=Kind.MIXER, name="doremi", target=TARGET)
    parts = [SimpleNamespace(component=component) for component in (mixer, *others)]
    given = {"mode": mode, "reference": "someone/model"}
    return SimpleNamespace(
        component=mixer,
        parts=parts,
        params=given,
        source="run.yaml",
        arguments={},
        origin=lambda key: "run.yaml",
    )


@pytest.mark.parametrize("kind", [Kind.SELECTOR, Kind.WEIGHTER])
def test_a_proxy_is_refused_beside_what_changes_the_objective(kind) -> None:
    other = SimpleNamespace(kind=kind, name="loss")
    (problem,) = dataflex_check_run(run("proxy", other))
    assert f"beside {kind} 'loss' they would be those of another objective" in problem.message
    assert ("Set mode: online" in problem.fix) == (kind is Kind.SELECTOR)
    assert dataflex_check_run(run("online", other)) == []
    assert dataflex_check_run(run("proxy")) == []
