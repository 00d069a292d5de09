"""Proportions that were found on other rows than a run mixes: said once, by key."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from dataflex.data.fingerprint import fingerprint
from dataflex.made_from import RowsOf

if TYPE_CHECKING:
    from dataflex.trainers.session import Session

logger = logging.getLogger("dataflex")


def warn_of_other_rows(session: Session, pool: Any) -> None:
    """Compare the rows of a mix run with those that its first proportions were found on, as far as both are known.

    They may be taken over all the same: a final model may read longer rows than the proxy did.

    Args:
        session: The run; its domains are known.
        pool: Its tokenised pool.
    """
    settings = session.run.mixture
    found = None if settings is None else settings.found
    if found is None or session.domains is None:
        return
    now = RowsOf(names=session.domains.names, keys=session.data_keys(), pool=fingerprint(pool))
    if changed := found.rows.differences(now):
        logger.warning("%s was found on other rows than this run mixes: %s.", found.origin, "; ".join(changed))
