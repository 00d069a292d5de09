"""Checks of orderers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.errors import ComponentError
from dataflex.testing.bench import STEPS, Bench
from dataflex.testing.check import CheckFailed, NotApplicable
from dataflex.testing.orderer_bench import ROWS, OrdererBench, ordinary_scores, queue

_INCREASING: dict[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "2 s + 3": lambda scores: 2 * scores + 3,
    "exp(s)": np.exp,
    "s cubed": lambda scores: scores**3,
}


def returns_each_row_once(bench: Bench) -> None:
    """An order holds the same rows, each once; the ranks of a pattern are 0 to n - 1, each once.

    Mend: return the row numbers that were passed as ``rows``, not places among them; leave none out.
    """
    orderer = _orderer(bench)
    component = orderer.component()
    for step in STEPS:
        _refuse(orderer, component, orderer.decide(component, step), queue(ROWS), f"at step {step}")


def orders_an_empty_queue(bench: Bench) -> None:
    """No row and one row are put in order like any others: a domain may have no more.

    Mend: beware of a division by n - 1, and of an argument to ``numpy.concatenate`` that is an empty list.
    """
    orderer = _sound(bench)
    component = orderer.component()
    for count in (0, 1, 2):
        rows = queue(count)
        _refuse(orderer, component, _ask(orderer, component, rows, ordinary_scores(count)), rows, f"for {count} rows")


def orders_equal_and_missing_scores(bench: Bench) -> None:
    """Scores that are equal or NaN, some or all of them, still give each row once.

    Mend: a row without a score is neither high nor low: keep it in the middle, as ``dataflex.math.ordering.ranked``.
    """
    orderer = _sound(bench)
    component = orderer.component()
    orderer.needs_scores(component)
    rows, some = queue(ROWS), ordinary_scores(ROWS)
    some[::3] = np.nan
    for scores, which in (
        (np.ones(ROWS), "when all scores are equal"),
        (np.floor(ordinary_scores(ROWS)), "when some scores are equal"),
        (some, "when some scores are NaN"),
        (np.full(ROWS, np.nan), "when all scores are NaN"),
    ):
        _refuse(orderer, component, _ask(orderer, component, rows, scores), rows, which)


def goes_by_the_order_of_scores_alone(bench: Bench) -> None:
    """Any increasing function of the scores gives the same order: a loss and its exponential mean the same.

    Mend: rank the scores, and work with ranks.
    """
    orderer = _sound(bench)
    orderer.repeatable()
    orderer.needs_scores(orderer.component())
    rows, scores = queue(ROWS), ordinary_scores(ROWS)
    first = orderer.flat(_ask(orderer, orderer.component(), rows, scores))
    for name, function in _INCREASING.items():
        other = orderer.flat(_ask(orderer, orderer.component(), rows, function(scores)))
        if not np.array_equal(first, other):
            raise CheckFailed(f"with {name} in place of the scores s it gives {_few(other)}, not {_few(first)}")


def _refuse(orderer: OrdererBench, component: Any, answer: Any, rows: npt.NDArray[np.int64], where: str) -> None:
    try:
        orderer.validate(answer, rows, pattern=orderer.is_pattern(component))
    except ComponentError as error:
        raise CheckFailed(f"{where}, {error}") from error


def _ask(orderer: OrdererBench, component: Any, rows: npt.NDArray[np.int64], scores: npt.NDArray[np.float64]) -> Any:
    try:
        return orderer.ask(component, STEPS[0], rows, scores)
    except Exception as error:
        raise CheckFailed(f"for {len(rows)} rows it raised {type(error).__name__}: {error}") from error


def _sound(bench: Bench) -> OrdererBench:
    orderer = _orderer(bench)
    component = orderer.component()
    try:
        orderer.validate(orderer.decide(component), pattern=orderer.is_pattern(component))
    except ComponentError as error:
        raise NotApplicable(f"its orders are unusable anyway: {error}") from error
    return orderer


def _orderer(bench: Bench) -> OrdererBench:
    assert isinstance(bench, OrdererBench)
    return bench


def _few(rows: npt.NDArray[Any]) -> str:
    return np.array2string(rows, threshold=8, separator=", ")


ORDERERS = (
    returns_each_row_once,
    orders_an_empty_queue,
    orders_equal_and_missing_scores,
    goes_by_the_order_of_scores_alone,
)
