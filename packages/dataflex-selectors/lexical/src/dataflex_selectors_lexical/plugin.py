"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from dataflex import ComponentSpec, Kind, Need, Problem, hookimpl
from dataflex.run_checks import PAIRED_STAGES, names_targets
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
    return [*_stages(run), *names_targets(run, run.component.name)]


def _stages(run: RunFacts) -> Iterator[Problem]:
    if run.stage in PAIRED_STAGES:
        yield Problem(
            f"the {run.component.name} selector counts the tokens of single texts, and the rows of stage: {run.stage} "
            f"(from {run.source}) are answers with something to compare them with.",
            "Use stage: sft or pt, or component_name: random.",
        )
    if run.stage == "pt" and run.params.get("part") == "prompt":
        yield Problem(
            f"component_params.part is prompt, and rows of stage: pt (from {run.source}) have none: every token is "
            "learnt.",
            "Set part: all.",
        )
