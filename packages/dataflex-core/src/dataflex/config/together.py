"""Which components may act in one run: what two of them would undo or hide from each other, before anything loads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dataflex.config.keys import COMPONENTS
from dataflex.config.run import RunFile
from dataflex.kinds import KINDS, Kind, load
from dataflex.runs import Problem, TrainType
from dataflex.spec import Need

if TYPE_CHECKING:
    from dataflex.config.parts import Part

_MEASURES_WHOLE_DOMAINS = frozenset({"aioli"})
"""Mixers that compare losses of a domain over time, as if the same rows were trained on."""


def problems(parts: Sequence[Part], source: str, *, composed: bool) -> Iterator[Problem]:
    """Reasons why the components of a run cannot act together.

    Args:
        parts: Found, with their parameters.
        source: The run file.
        composed: Whether it names them under ``components``.
    """
    if not composed:
        return
    kinds = {part.kind: part for part in parts}
    mixer, selector, weighter = (kinds.get(kind) for kind in (Kind.MIXER, Kind.SELECTOR, Kind.WEIGHTER))
    if selector is not None:
        yield from _selector(selector, source, beside=len(parts) > 1 or selector.every > 1 or selector.keep != "stage")
    if selector is not None and mixer is not None and Need.DOMAINS in selector.entry.spec.needs:
        yield Problem(
            f"{_title(selector)} balances the domains itself, and {_title(mixer)} would set their shares beside it.",
            "Leave one of the two out.",
        )
    if (
        selector is not None
        and mixer is not None
        and _defines(selector, "directions")
        and not selector.takes_candidates
    ):
        yield Problem(
            f"{_title(selector)} learns from labels of all rows that were trained on, and beside {_title(mixer)} it "
            "would be asked within each domain.",
            "Have its select() name candidates, so that it is asked once for all domains; or leave one of the two out.",
        )
    if mixer is not None and weighter is not None:
        yield from _losses(mixer, weighter)


def warnings(run: RunFile) -> Iterator[str]:
    """What does not do quite what it says, beside another component."""
    if run.train_type is not TrainType.COMPOSED or not {Kind.MIXER, Kind.SELECTOR} <= set(run.kinds):
        return
    given = run.ours[COMPONENTS]
    mixer = given[Kind.MIXER]
    name = mixer.get("name") if isinstance(mixer, Mapping) else mixer
    if name in _MEASURES_WHOLE_DOMAINS:
        yield (
            f"mixer {name!r} measures by how much losses fall, and beside a selector they fall on other rows than "
            "those it compares them with."
        )
    if run.ours.get("mixture_max_epochs") is not None:
        yield "mixture_max_epochs counts draws: behind a selector they are fewer distinct rows than passes would be."


def _selector(part: Part, source: str, *, beside: bool) -> Iterator[Problem]:
    params, key = part.bound.values, f"{COMPONENTS}.{Kind.SELECTOR}"
    if part.keep != "stage" and params.get("replacement"):
        yield Problem(
            f"{key}.keep: {part.keep} (from {source}) keeps a part of each domain, and replacement: true may draw a "
            "row twice.",
            "Set replacement: false, or leave keep out.",
        )
    passes = params.get("passes", 1)
    if isinstance(passes, int) and passes > 1:
        yield Problem(
            f"{key}.params.passes: {passes} (from {source}) reads the rows of one stage several times.",
            f"Say {key}.keep: SHARE, which keeps a share of each domain and reads it in passes.",
        )
    if beside and params.get("screen") is not None:
        yield Problem(
            f"{key}.params.screen (from {source}) screens the whole pool for a selector that acts alone, and here the "
            "rows come from several queues.",
            "Leave the screen out, or give the selector max_candidates.",
        )


def _losses(mixer: Part, weighter: Part) -> Iterator[Problem]:
    native = _defines(weighter, "weights")
    if native:
        return
    if _defines(weighter, "training_step") and Need.DOMAIN_LOSSES in mixer.entry.spec.needs:
        yield Problem(
            f"{_title(weighter)} does the whole training step itself, so {_title(mixer)} would see no losses.",
            "Use a weighter with weights(), or a mixer that reads no training losses.",
        )
    elif _defines(weighter, "get_weighted_loss") and _defines(mixer, "objective_weights"):
        yield Problem(
            f"{_title(weighter)} reduces the losses of a micro-batch to one number, which cannot be split by the "
            f"domains that {_title(mixer)} weighs.",
            "Use a weighter with weights(), or a mixer without weights for the loss.",
        )


def _defines(part: Part, method: str) -> bool:
    """Whether a class has a method of its own; imports it."""
    own: Any = getattr(part.entry.load(), method, None)
    return own is not None and own is not getattr(load(KINDS[part.kind].base), method, None)


def _title(part: Part) -> str:
    return f"{part.kind} {part.entry.spec.name!r}"
