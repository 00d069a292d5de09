"""DoReMi's proxy finds weights for the mixture as it is: beside a selector or a weighter they would be others'."""

from __future__ import annotations

import pytest
from prepared_runs import run_facts

from dataflex.runs import RunFacts
from dataflex.spec import API, ComponentSpec, Kind
from dataflex_mixers_doremi.plugin import TARGET, dataflex_check_run

MIXER = ComponentSpec(kind=Kind.MIXER, name="doremi", target=TARGET, api=API)


def run(mode: str, *others: ComponentSpec) -> RunFacts:
    return run_facts(MIXER, *others, params={"mode": mode, "reference": "someone/model"})


@pytest.mark.parametrize("kind", [Kind.SELECTOR, Kind.WEIGHTER])
def test_a_proxy_is_refused_beside_what_changes_the_objective(kind: Kind) -> None:
    other = ComponentSpec(kind=kind, name="loss", target="m:M", api=API)
    (problem,) = dataflex_check_run(run("proxy", other))
    assert f"beside {kind} 'loss' they would be those of another objective" in problem.message
    assert ("Set mode: online" in problem.fix) == (kind is Kind.SELECTOR)
    assert dataflex_check_run(run("online", other)) == []
    assert dataflex_check_run(run("proxy")) == []
