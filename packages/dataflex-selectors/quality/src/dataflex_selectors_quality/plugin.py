"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from dataflex import ComponentSpec, Kind, Problem, hookimpl
from dataflex.run_checks import needs_single_answers, needs_single_texts, needs_whole_parameters, packed_by
from dataflex.runs import RunFacts
from dataflex.scoring.embedding_params import INITIAL, LEGACY

PACKAGE = "dataflex_selectors_quality"
IFD, PERPLEXITY = f"{PACKAGE}.ifd:IfdSelector", f"{PACKAGE}.perplexity:PerplexitySelector"
DEITA, COLUMN = f"{PACKAGE}.deita:DeitaSelector", f"{PACKAGE}.column:ColumnSelector"


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """Four selectors that need no target."""
    return [
        ComponentSpec(
            kind=Kind.SELECTOR,
            name="ifd",
            target=IFD,
            params=f"{PACKAGE}.params:IfdParams",
            api=1,
            summary="Prefer samples whose prompt helps little with the answer (instruction-following difficulty).",
            stochastic=True,
            gives_scores=True,
            gives_weights=False,
            paper="Li et al. 2024, arXiv 2308.12032; ratio: ppl: Li et al. 2024, arXiv 2402.00530",
        ),
        ComponentSpec(
            kind=Kind.SELECTOR,
            name="perplexity",
            target=PERPLEXITY,
            params=f"{PACKAGE}.params:PerplexityParams",
            api=1,
            summary="Draw samples from the low, medium or high band of perplexities under one model.",
            stochastic=True,
            gives_scores=True,
            gives_weights=False,
            paper="Marion et al. 2023, arXiv 2309.04564; Ankner et al. 2024, arXiv 2405.20541",
        ),
        ComponentSpec(
            kind=Kind.SELECTOR,
            name="deita",
            target=DEITA,
            params=f"{PACKAGE}.params:DeitaParams",
            api=1,
            summary="Prefer samples by given complexity x quality, without those too much like a better one.",
            stochastic=True,
            gives_scores=True,
            gives_weights=False,
            numbers_from=("by",),
            paper="Liu et al. 2024, arXiv 2312.15685",
            legacy=LEGACY,
        ),
        ComponentSpec(
            kind=Kind.SELECTOR,
            name="column",
            target=COLUMN,
            params=f"{PACKAGE}.params:ColumnParams",
            api=1,
            summary="Prefer samples by a number of the data, or of a file of scores.",
            stochastic=True,
            gives_scores=True,
            gives_weights=False,
            numbers_from=("by",),
        ),
    ]


@hookimpl
def dataflex_check_run(run: RunFacts) -> list[Problem]:
    """Refuse stages and rows that a selector cannot score, and models in pieces."""
    target = run.component.target
    if run.component.kind is not Kind.SELECTOR or target not in (IFD, PERPLEXITY, DEITA):
        return []
    if target == DEITA:
        own = run.params.get("embedding_model") == INITIAL
        return [*needs_single_texts(run, "embeds", "span"), *(needs_whole_parameters(run) if own else ())]
    own = run.params.get("score_model") == INITIAL
    return [
        *needs_single_answers(run),
        *(needs_whole_parameters(run) if own else ()),
        *(_needs_prompts(run) if target == IFD else ()),
    ]


def _needs_prompts(run: RunFacts) -> Iterator[Problem]:
    said = "ifd compares the loss of an answer with and without its prompt"
    if run.stage == "pt":
        yield Problem(
            f"{said}, and rows of stage: pt (from {run.origin('stage')}) have none.",
            "Use component_name: perplexity.",
        )
        return
    if run.arguments.get("train_on_prompt"):
        yield Problem(
            f"{said}, and under train_on_prompt (from {run.origin('train_on_prompt')}) labels do not tell them apart.",
            "Unset train_on_prompt, or use component_name: perplexity.",
        )
    if packs := packed_by(run):
        yield Problem(f"{said}, and packed rows hold several: {packs}.", "Set packing: false, and unset neat_packing.")
