"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from dataflex import ComponentSpec, Kind, Need, Problem, hookimpl
from dataflex.run_checks import fills_a_stage, names_targets, needs_single_texts, needs_whole_parameters
from dataflex.runs import RunFacts
from dataflex.scoring.embedding_params import INITIAL, LEGACY, RUN

TARGET = "dataflex_selectors_near.selector:NearSelector"
_LEGACY = {**LEGACY, "max_K": "as many neighbours are looked up as are needed"}
_REFUSED = {
    "indices_path": "rows are embedded and compared in the run itself, and numbers of a file need not be rows of this "
    "pool. Leave it out, and set embedding_model to the model the file was made with."
}


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The selectors ``near`` and ``rds``: one class, two sets of defaults."""
    return [
        ComponentSpec(
            kind=Kind.SELECTOR,
            name="near",
            target=TARGET,
            params="dataflex_selectors_near.params:NearParams",
            api=1,
            summary="Prefer samples whose embedding lies near those of the eval set, its rows choosing in turn.",
            needs=frozenset({Need.EVAL_SET}),
            stochastic=True,
            gives_scores=True,
            legacy=_LEGACY,
            refused=_REFUSED,
        ),
        ComponentSpec(
            kind=Kind.SELECTOR,
            name="rds",
            target=TARGET,
            params="dataflex_selectors_near.params:RdsParams",
            api=1,
            summary="Prefer samples near the eval set in the hidden states of the model as training began.",
            needs=frozenset({Need.EVAL_SET}),
            stochastic=True,
            gives_scores=True,
            paper="Ivison et al. 2025, arXiv 2503.01807",
            legacy=_LEGACY,
            refused=_REFUSED,
        ),
    ]


@hookimpl
def dataflex_check_run(run: RunFacts) -> list[Problem]:
    """Refuse stages whose rows are pairs, targets that are none, models in pieces, and a pool that is too small."""
    if run.component.kind is not Kind.SELECTOR or run.component.target != TARGET:
        return []
    own_model = run.params.get("embedding_model") in (RUN, INITIAL)
    whole = needs_whole_parameters(run) if own_model else ()
    return [
        *needs_single_texts(run, "embeds", "span"),
        *fills_a_stage(run),
        *names_targets(run, run.component.name),
        *whole,
    ]
