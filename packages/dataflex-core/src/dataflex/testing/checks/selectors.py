"""Checks of selectors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from dataflex.components.selector import Selection
from dataflex.errors import ComponentError
from dataflex.testing.bench import DOMAINS, STEPS, Bench
from dataflex.testing.check import CheckFailed, NotApplicable
from dataflex.testing.selector_bench import SAMPLES, SelectorBench
from dataflex.testing.trainee import poisoned
from dataflex.trainers.planners.select import valid_rows


def returns_the_count_asked_for(bench: Bench) -> None:
    """It returns exactly ``num_samples`` rows.

    Mend: ``num_samples`` is the number for the whole stage, over all ranks; do not divide it.
    """
    selector = _selector(bench)
    for number in (1, SAMPLES, 2 * SAMPLES):
        rows = selector.flat(_ask(selector, number))
        if rows.ndim != 1 or len(rows) != number:
            raise CheckFailed(f"asked for {number} rows it returned an array of shape {list(rows.shape)}")


def returns_rows_of_the_pool(bench: Bench) -> None:
    """What it returns are row indices: whole numbers from 0 to the size of the pool.

    Mend: return places in ``self.dataset``, not in a list of candidates, and no negative ones.
    """
    selector = _selector(bench)
    answer = _ask(selector, SAMPLES)
    rows = selector.flat(answer)
    if rows.ndim != 1:
        raise NotApplicable("it returns no list: see returns_the_count_asked_for")
    try:
        valid_rows(rows, len(rows), len(bench.rows()))
    except ComponentError as error:
        raise CheckFailed(str(error)) from error


def warms_up(bench: Bench) -> None:
    """It chooses the rows of the warm-up, more of them than the pool has included.

    Mend: inherit from ``dataflex.Selector``, whose ``warmup(num_samples, replacement)`` draws at random.
    """
    component, pool = bench.component(), len(bench.rows())
    for number in (SAMPLES, pool + 1):
        try:
            valid_rows(component.warmup(number, False), number, pool)
        except Exception as error:
            raise CheckFailed(f"warmup({number}): {type(error).__name__}: {error}") from error


def metrics_are_numbers(bench: Bench) -> None:
    """The metrics of a Selection are numbers or lists of numbers, as a Decision records them.

    Mend: turn arrays into lists with ``tolist()`` and tensors into numbers with ``float()``.
    """
    answer = bench.decide(bench.component())
    if not isinstance(answer, Selection):
        raise NotApplicable("it returns rows without metrics")
    wrong = [name for name, value in answer.metrics.items() if not _is_numeric(value)]
    if wrong:
        raise CheckFailed(f"not numbers: {', '.join(f'{name} ({answer.metrics[name]!r})' for name in wrong)}")


def copes_with_a_pool_of_one(bench: Bench) -> None:
    """A pool of one row gives that row, or an error that says what to do.

    Mend: raise ``dataflex.errors.ConfigError`` for what a user has to change; beware of batches of one.
    """
    _copes(_selector(bench), {"web": 1}, 1, "with a pool of one row")


def copes_with_fewer_rows_than_asked_for(bench: Bench) -> None:
    """A pool smaller than the request gives as many rows as asked for, some several times, or an error that says so.

    Mend: draw with replacement, or raise ``dataflex.errors.ConfigError``: a short answer stops the run.
    """
    _copes(_selector(bench), {"web": SAMPLES // 2}, SAMPLES, f"with a pool of {SAMPLES // 2} rows for {SAMPLES}")


def copes_with_scores_that_are_nan(bench: Bench) -> None:
    """A model that computes NaN for some rows, or for all, still gives rows, or an error that says what to do.

    Mend: keep finite scores apart with ``numpy.isfinite``; raise ``dataflex.errors.ComponentError`` if there are none.
    """
    selector = _selector(bench)
    first = selector.rows()[0]["input_ids"][0]
    for tokens, whose in ((frozenset({first}), "some"), (None, "all")):
        broken = poisoned(selector.trainee.model, tokens)
        _copes(selector, DOMAINS, SAMPLES, f"when the model computes NaN for {whose} rows", broken)


def _copes(
    selector: SelectorBench,
    domains: Mapping[str, int],
    number: int,
    circumstance: str,
    around: AbstractContextManager[None] | None = None,
) -> None:
    def ask() -> Any:
        with around or nullcontext():
            return selector.ask(selector.build(domains=domains), STEPS[0], number)

    pool = sum(domains.values())
    selector.copes(ask, lambda answer: selector.validate(answer, number, pool), circumstance)


def _ask(selector: SelectorBench, number: int) -> Any:
    try:
        return selector.ask(selector.component(), STEPS[0], number)
    except NotApplicable:
        raise
    except Exception as error:
        raise NotApplicable("it does not decide: see decides") from error


def _selector(bench: Bench) -> SelectorBench:
    assert isinstance(bench, SelectorBench)
    return bench


def _is_numeric(value: Any) -> bool:
    if isinstance(value, list):
        return all(item is None or _is_numeric(item) for item in value)
    return isinstance(value, (int, float)) and not (isinstance(value, float) and math.isinf(value))


SELECTORS = (
    returns_the_count_asked_for,
    returns_rows_of_the_pool,
    warms_up,
    metrics_are_numbers,
    copes_with_a_pool_of_one,
    copes_with_fewer_rows_than_asked_for,
    copes_with_scores_that_are_nan,
)
