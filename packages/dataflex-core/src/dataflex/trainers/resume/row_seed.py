"""The seed that rows are drawn by: ``data_seed`` where it is given, else ``seed``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from dataflex.checkpoint.state import EngineState

logger = logging.getLogger("dataflex")


def row_seed(args: Any) -> int:
    """The seed of everything that decides which rows are trained on, and in which order.

    Initialisation, dropout and what a random collator does go by ``seed``.

    Args:
        args: The ``transformers.TrainingArguments``.
    """
    given = getattr(args, "data_seed", None)
    return int(args.seed if given is None else given)


def row_seed_of(saved: EngineState) -> int:
    """The seed a checkpoint's run drew rows by: ``seed``, if it was written before ``data_seed`` had an effect."""
    return saved.seed if saved.data_seed is None else saved.data_seed


def say_ignored(args: Any, saved: EngineState, checkpoint: Path) -> None:
    """Say so if a run goes on with the seed it had, whatever its ``data_seed`` is."""
    if saved.data_seed is None and args.data_seed not in (None, saved.seed):
        logger.warning(
            "data_seed: %d has no effect: %s was written by an earlier dataflex-core, which drew rows by seed: %d, and "
            "the run goes on like that.",
            *(args.data_seed, checkpoint, saved.seed),
        )
