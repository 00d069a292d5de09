"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dataflex import ComponentSpec, Kind, Problem, hookimpl
from dataflex.run_checks import needs_single_answers, needs_single_texts, needs_whole_parameters, packed_by
from dataflex.runs import RunFacts
from dataflex.scoring.embedding_params import INITIAL, LEGACY

PACKAGE = "dataflex_selectors_quality"
IFD, PERPLEXITY = f"{PACKAGE}.ifd:IfdSelector", f"{PACKAGE}.perplexity:PerplexitySelector"
DEITA, COLUMN = f"{PACKAGE}.deita:DeitaSelector", f"{PACKAGE}.column:ColumnSelector"


def _by_quality(**own: Any) -> ComponentSpec:
    """A selector of this package: what all of them have, and its own fields."""
    shared: dict[str, Any] = {"kind": Kind.SELECTOR, "api": 1, "stochastic": True}
    return ComponentSpec(**shared, gives_scores=True, gives_weights=False, **own)


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """Four selectors that need no target."""
    return [
        _by_quality(
            name="ifd",
            target=IFD,
            params=f"{PACKAGE}.params:IfdParams",
            summary="Prefer samples whose prompt helps little with the answer (instruction-following difficulty).",
            paper="Li et al. 2024, arXiv 2308.12032; ratio: ppl: Li et al. 2024, arXiv 2402.00530",
        ),
        _by_quality(
            name="perplexity",
            target=PERPLEXITY,
            params=f"{PACKAGE}.params:PerplexityParams",
            summary="Draw samples from the low, medium or high band of perplexities under one model.",
            paper="Marion et al. 2023, arXiv 2309.04564; Ankner et al. 2024, arXiv 2405.20541",
        ),
        _by_quality(
            name="deita",
            target=DEITA,
            params=f"{PACKAGE}.params:DeitaParams",
            summary="Prefer samples by given complexity x quality, without those too much like a better one.",
            numbers_from=("by",),
            paper="Liu et al. 2024, arXiv 2312.15685",
            legacy=LEGACY,
        ),
        _by_quality(
            name="column",
            target=COLUMN,
            params=f"{PACKAGE}.params:ColumnParams",
            summary="Prefer samples by a number of the data, or of a file of scores.",
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
