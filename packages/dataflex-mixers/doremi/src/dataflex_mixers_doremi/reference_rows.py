"""What the reference was trained on, beside what the run mixes: an excess over a model of other rows means little."""

from __future__ import annotations

import logging

from dataflex.components.mix_context import MixContext
from dataflex.made_from import RowsOf
from dataflex.scoring.reference.trained_on import trained_on

logger = logging.getLogger("dataflex")


def warn_of_other_rows(name: str, context: MixContext, pool: str) -> None:
    """Compare the rows of a run with those its reference was trained on, where the reference has a record of that.

    Args:
        name: The reference.
        context: The run.
        pool: The fingerprint of its pool.
    """
    then = trained_on(name)
    if then is None:
        return
    now = RowsOf(names=context.domain_names, keys=context.data_keys, pool=pool)
    if changed := then.differences(now):
        logger.warning(
            "the reference %s was trained on other rows than this run mixes: %s. DoReMi compares the losses of the "
            "two, so the reference should have seen the same.",
            *(name, "; ".join(changed)),
        )
