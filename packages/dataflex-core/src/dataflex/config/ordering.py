"""What can be known before anything loads of scores that no model gives: whether there are any, and from where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dataflex.config.order_params import (
    LISTED,
    LISTED_GIVEN,
    OrdererParams,
    ScoreKind,
    ScoreSource,
    score_source,
    sources_in,
)
from dataflex.errors import ConfigError
from dataflex.kinds import KINDS, Kind, StepKeys
from dataflex.paths import user_path
from dataflex.run_checks import PAIRED_STAGES, packed_by
from dataflex.runs import Problem, RunFacts

if TYPE_CHECKING:
    from dataflex.config.plan import Part

_SUFFIXES = (".npy", ".parquet")
_WITH_PLACE = (ScoreKind.FILE, ScoreKind.COLUMN)
_GROUPING = ("group_by_length", "train_sampling_strategy")


def source_of(part: Part, *, selects: bool) -> ScoreSource | None:
    """Where an orderer's scores come from.

    Args:
        part: The orderer with its parameters.
        selects: Whether a selector is in the run, whose scores it goes by unless told otherwise.

    Returns:
        ``None`` for one that needs none and was not given any.

    Raises:
        ConfigError: where it needs some and ``by`` does not say which; it lists the five.
    """
    given = part.bound.values.get("by")
    if given is not None:
        return score_source(str(given))
    if "by" not in part.bound.values:  # a class that has no such parameter asks for nothing
        return None
    if selects:
        return ScoreSource(ScoreKind.SELECTOR)
    if isinstance(part.bound.params, OrdererParams) and not part.bound.params.needs_scores:
        return None
    raise ConfigError(f"orderer {part.entry.spec.name!r} has to be told what to order by: set by to {LISTED}.")


def problems(facts: RunFacts, parts: Sequence[Part]) -> Iterator[Problem]:
    """Reasons why the orderers of a run, and selectors that go by given numbers, cannot find their scores.

    Args:
        facts: The run.
        parts: All its components, with their parameters.
    """
    selects = any(_selects(part) for part in parts)
    for part in parts:
        if not KINDS[part.entry.spec.kind].orders:
            yield from _of_numbers(facts, part, mixes=any(KINDS[each.entry.spec.kind].mixes for each in parts))
            continue
        title = f"orderer {part.entry.spec.name!r}"
        try:
            source = source_of(part, selects=selects)
        except ConfigError as error:
            yield Problem(f"{error} (from {facts.source})".replace(". (", " ("))
            continue
        if source is not None:
            yield from _of_source(facts, source, title, selects=selects)
        yield from _grouping(facts, title)


def _selects(part: Part) -> bool:
    return part.entry.spec.kind is Kind.SELECTOR


def _of_source(facts: RunFacts, source: ScoreSource, title: str, *, selects: bool) -> Iterator[Problem]:
    said = f"{title}: by: {source} (from {facts.source})"
    if source.kind is ScoreKind.SELECTOR and not selects:
        yield Problem(f"{said} needs a selector in the run.", f"Name one under components, or set by to {LISTED}.")
    if source.kind is ScoreKind.LOSS:
        if facts.stage in PAIRED_STAGES:
            yield Problem(
                f"{said} scores the next-token loss of single answers, and stage: {facts.stage} has another objective.",
                "Use stage: sft or pt, or another source.",
            )
        if facts.step_keys is StepKeys.PASSES and not facts.steps.update:
            yield Problem(f"{said} scores at boundaries, and update_step is missing.", "Set update_step.")
    if source.kind is ScoreKind.COLUMN and (packs := packed_by(facts)):
        yield Problem(
            f"{said} is not known of packed rows: {packs}.", "Set packing: false, or use length or file:PATH."
        )
    if source.kind is ScoreKind.FILE:
        path = user_path(source.name)
        if path.suffix not in _SUFFIXES:
            yield Problem(f"{said} is neither a .npy file nor scores.parquet of dataflex score.", "Convert the scores.")
        elif not path.is_file():
            yield Problem(f"{said}: there is no such file (working directory {Path.cwd()}).", "Correct the path.")


def _of_numbers(facts: RunFacts, part: Part, *, mixes: bool) -> Iterator[Problem]:
    title, spec = f"{part.entry.spec.kind} {part.entry.spec.name!r}", part.entry.spec
    for by in sources_in(spec, part.bound.values):
        try:
            source = score_source(by)
        except ConfigError as error:
            yield Problem(f"{title}: {error}".replace(LISTED, LISTED_GIVEN), f"It is set in {facts.source}.")
            continue
        if source.kind not in (ScoreKind.LENGTH, *_WITH_PLACE):
            yield Problem(f"{title}: by: {source} (from {facts.source}) is no number of a row.", f"Use {LISTED_GIVEN}.")
        elif mixes and source.kind in _WITH_PLACE:
            yield Problem(
                f"{title}: by: {source} (from {facts.source}) is of the whole pool, and beside a mixer each domain is "
                "selected from by itself.",
                "Leave the mixer out, or use by: length.",
            )
        else:
            yield from _of_source(facts, source, title, selects=False)


def _grouping(facts: RunFacts, title: str) -> Iterator[Problem]:
    for key in _GROUPING:
        given = facts.arguments.get(key)
        if given is True or given == "group_by_length":
            yield Problem(
                f"{title} orders the rows, and {key} (from {facts.origin(key)}) would group them by length.",
                "Unset it.",
            )
