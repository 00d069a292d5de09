"""What the reference was trained on: rows that this run holds back, tokenised as this run's are."""

from __future__ import annotations

import logging

from dataflex import RunContext
from dataflex.scoring.reference.trained_on import trained_on

logger = logging.getLogger("dataflex")

_WHICH_ROWS = frozenset({"max_samples", "val_size", "mix_strategy", "interleave_probs"})


def warn_of_rows(name: str, context: RunContext, pool: str) -> None:
    """Say where the reference has seen the rows of the run, or others in another form.

    Args:
        name: The reference.
        context: The run.
        pool: The fingerprint of its pool.
    """
    then = trained_on(name)
    if then is None:
        return
    if then.pool and then.pool == pool:
        logger.warning(
            "the reference %s was trained on the very rows of this run: it has learnt their noise, too. Train one on "
            "rows that this run does not train on.",
            name,
        )
    if changed := then.made_otherwise(context.data_keys, _WHICH_ROWS):
        logger.warning(
            "the reference %s was trained on rows that were made otherwise: %s. Its losses say less of this run's.",
            *(name, "; ".join(changed)),
        )
