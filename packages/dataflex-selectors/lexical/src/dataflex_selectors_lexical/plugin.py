"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from dataflex import ComponentSpec, Kind, Need, Problem, hookimpl
from dataflex.run_checks import names_targets, needs_single_texts
from dataflex.runs import RunFacts

TARGET = "dataflex_selectors_lexical.selector:LexicalSelector"
_PAPER = "Xie et al. 2023, arXiv 2302.03169"


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The selectors ``lexical`` and ``dsir``: one class, two sets of defaults."""
    return [
        ComponentSpec(
            kind=Kind.SELECTOR,
            name="lexical",
            target=TARGET,
            params="dataflex_selectors_lexical.params:LexicalParams",
            api=1,
            summary="Prefer samples whose words are those of the eval set; asks no model.",
            needs=frozenset({Need.EVAL_SET}),
            stochastic=True,
            gives_scores=True,
            paper=_PAPER,
        ),
        ComponentSpec(
            kind=Kind.SELECTOR,
            name="dsir",
            target=TARGET,
            params="dataflex_selectors_lexical.params:DsirParams",
            api=1,
            summary="DSIR: importance resampling by hashed n-grams, with the released code's settings.",
            needs=frozenset({Need.EVAL_SET}),
            stochastic=True,
            gives_scores=True,
            paper=_PAPER,
        ),
    ]


@hookimpl
def dataflex_check_run(run: RunFacts) -> list[Problem]:
    """Refuse stages whose rows are pairs, eval sets merged into one, and prompts where there are none."""
    if run.component.kind is not Kind.SELECTOR or run.component.target != TARGET:
        return []
    return [*needs_single_texts(run, "counts the tokens of", "part"), *names_targets(run, run.component.name)]
