"""A context for tests that construct a component by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dataflex.components.context import RunContext
from dataflex.gradients.passes import PoolPasses


def make_context(dataset: Any, data_collator: Callable[[Sequence[Any]], Mapping[str, Any]], **facts: Any) -> RunContext:
    """A context as a run hands it in: :meth:`~dataflex.RunContext.score` and its siblings work.

    Args:
        dataset: The pool, map-style.
        data_collator: A list of rows to one batch.
        facts: Other attributes of the context: ``seed``, ``eval_datasets``, ``optimizer``, ...

    Example:
        >>> context = make_context(pool, collator, seed=3, cache_dir=tmp_path)
        >>> MySelector(MyParams(), context).select(model, step_id=10, num_samples=4)
    """
    return RunContext(dataset=dataset, data_collator=data_collator, passes=PoolPasses(), **facts)
