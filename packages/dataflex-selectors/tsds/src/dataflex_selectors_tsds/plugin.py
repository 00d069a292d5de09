"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from dataflex import ComponentSpec, Kind, Need, Problem, hookimpl
from dataflex.run_checks import names_targets, needs_single_texts, needs_whole_parameters
from dataflex.runs import RunFacts
from dataflex.scoring.embedding_params import INITIAL, LEGACY, RUN

TARGET = "dataflex_selectors_tsds.selector:TsdsSelector"
_EXACT = "the search goes on until the result is exact"
_REFUSED = {
    "probs_path": "rows are embedded and probabilities computed in the run itself, and numbers of a file need not be "
    "rows of this pool. Leave it out, and set embedding_model to the model the file was made with."
}


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The selector ``tsds``."""
    return [
        ComponentSpec(
            kind=Kind.SELECTOR,
            name="tsds",
            target=TARGET,
            params="dataflex_selectors_tsds.params:TsdsParams",
            api=1,
            summary="Match the eval set by optimal transport in embeddings, spread over rows that are not copies.",
            needs=frozenset({Need.EVAL_SET}),
            stochastic=True,
            gives_scores=True,
            paper="Liu, Karbasi & Rekatsinas 2024, arXiv 2410.11303",
            legacy={**LEGACY, "max_K": _EXACT, "kde_K": _EXACT},
            refused=_REFUSED,
        )
    ]


@hookimpl
def dataflex_check_run(run: RunFacts) -> list[Problem]:
    """Refuse stages whose rows are pairs, targets that are none, and models in pieces."""
    if run.component.kind is not Kind.SELECTOR or run.component.target != TARGET:
        return []
    own_model = run.params.get("embedding_model") in (RUN, INITIAL)
    whole = needs_whole_parameters(run) if own_model else ()
    return [*needs_single_texts(run, "embeds", "span"), *names_targets(run, "TSDS"), *whole]
