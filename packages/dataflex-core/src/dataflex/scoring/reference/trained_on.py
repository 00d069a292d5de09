"""What a reference model was trained on, where the folder of its run still says so."""

from __future__ import annotations

import re

from dataflex.errors import ConfigError
from dataflex.made_from import RowsOf
from dataflex.paths import user_path
from dataflex.record.run import RunRecord

_CHECKPOINT = re.compile(r"checkpoint-\d+")


def trained_on(name: str) -> RowsOf | None:
    """The rows of the run that trained a model, by its output directory or one of its checkpoints.

    Args:
        name: A folder, or a name on a hub, of which nothing is known.
    """
    folder = user_path(name)
    try:
        info = RunRecord(folder.parent if _CHECKPOINT.fullmatch(folder.name) else folder).info()
    except ConfigError:  # of a run that somebody edited: the model is what counts
        return None
    return None if info is None else RowsOf(names=info.domains, keys=info.data, pool=info.pool_fingerprint)
