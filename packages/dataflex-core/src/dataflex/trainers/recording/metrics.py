"""The numbers of a decision in the Trainer's own log, so that whatever watches the Trainer shows them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from transformers import Trainer
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from dataflex.decisions import Decision
from dataflex.trainers.host import Host

PREFIX = "dataflex/"
DECIDED = f"{PREFIX}decision_seconds"
"""Stands in every entry a boundary logs."""

_OF_SCORES = ("mean", "std", "nan", "infinite")


def decision_metrics(decision: Decision) -> dict[str, float]:
    """What is logged of a decision; docs/metrics.md lists the names.

    A metric that has a value for each domain gives one entry a domain; other lists and what is not a finite number
    are left out.
    """
    entries: dict[str, Any] = {DECIDED: decision.seconds}
    domains = decision.metrics.get("domains", [])
    names = domains if isinstance(domains, list) else []
    for name, value in decision.metrics.items():
        if name == "domains":
            continue
        if isinstance(value, list) and len(value) == len(names):
            entries |= {f"{PREFIX}{name}/{domain}": part for domain, part in zip(names, value, strict=True)}
        elif not isinstance(value, list):
            entries[PREFIX + name] = value
    entries |= {f"{PREFIX}score/{name}": decision.scores.get(name) for name in _OF_SCORES}
    levels, quantiles = decision.scores.get("levels"), decision.scores.get("quantiles")
    if isinstance(levels, list) and isinstance(quantiles, list):
        entries |= {f"{PREFIX}score/q{level * 100:g}": at for level, at in zip(levels, quantiles, strict=True)}
    return {name: value for name, value in entries.items() if _is_number(value)}


def log_metrics(trainer: Host, entries: Mapping[str, float]) -> None:
    """Put entries into the Trainer's log and history, at its current step. Called on every rank.

    The Trainer's own ``log`` is used, not a subclass's: those add and reset averages of their own, which belong to
    the Trainer's regular entries.
    """
    with _without_echo(trainer):
        Trainer.log(cast(Trainer, trainer), dict(entries))


@contextmanager
def _without_echo(trainer: Host) -> Iterator[None]:
    """Leave out the callbacks that print each entry to the terminal: a boundary prints its own summary."""
    handler = trainer.callback_handler
    callbacks = list(handler.callbacks)
    handler.callbacks = [each for each in callbacks if not isinstance(each, (ProgressCallback, PrinterCallback))]
    try:
        yield
    finally:
        handler.callbacks = callbacks


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
