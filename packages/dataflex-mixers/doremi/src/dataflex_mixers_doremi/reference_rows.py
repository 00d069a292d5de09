"""What the reference was trained on, beside what the run mixes: an excess over a model of other rows means little."""

from __future__ import annotations

import logging
import re

from dataflex.components.mix_context import MixContext
from dataflex.errors import ConfigError
from dataflex.made_from import RowsOf
from dataflex.paths import user_path
from dataflex.record.run import RunInfo, RunRecord

logger = logging.getLogger("dataflex")
_CHECKPOINT = re.compile(r"checkpoint-\d+")


def warn_of_other_rows(name: str, context: MixContext, pool: str) -> None:
    """Compare the rows of a run with those its reference was trained on, where the reference has a record of that.

    Args:
        name: The reference.
        context: The run.
        pool: The fingerprint of its pool.
    """
    info = _record(name)
    if info is None:
        return
    then = RowsOf(names=info.domains, keys=info.data, pool=info.pool_fingerprint)
    now = RowsOf(names=context.domain_names, keys=context.data_keys, pool=pool)
    if changed := then.differences(now):
        logger.warning(
            "the reference %s was trained on other rows than this run mixes: %s. DoReMi compares the losses of the "
            "two, so the reference should have seen the same.",
            *(name, "; ".join(changed)),
        )


def _record(name: str) -> RunInfo | None:
    """The record of the run that trained a model, by its output directory or one of its checkpoints."""
    folder = user_path(name)
    try:
        return RunRecord(folder.parent if _CHECKPOINT.fullmatch(folder.name) else folder).info()
    except ConfigError:  # of a run that somebody edited: the model is what counts
        return None
