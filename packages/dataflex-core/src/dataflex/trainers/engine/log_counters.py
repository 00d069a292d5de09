"""Counters behind the Trainer's log that a stock resume resets: with them, a resumed run logs the same numbers.

The Trainer averages the loss since the last log and, at the end, over the whole run; a checkpoint between two logs
would lose the sum so far. transformers 5 keeps the counters as attributes; older versions keep some in local
variables, out of reach, and then only the logs after the next logging step are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dataflex.distributed import all_gather
from dataflex.trainers.host import Host

_SCALARS = ("_total_loss_scalar", "_globalstep_last_logged")


def read(trainer: Host) -> dict[str, Any]:
    """The counters as JSON values, the loss sums of all ranks included. Called on every rank."""
    counters = {name: getattr(trainer, name) for name in _SCALARS if hasattr(trainer, name)}
    loss = getattr(trainer, "_tr_loss", None)
    if loss is not None:
        counters["loss_sums"] = all_gather(float(loss), trainer.accelerator)
    return counters


def write(trainer: Host, counters: Mapping[str, Any]) -> None:
    """Put the counters back, after the Trainer has reset them and before the first step."""
    for name in _SCALARS:
        if name in counters and hasattr(trainer, name):
            setattr(trainer, name, counters[name])
    loss = getattr(trainer, "_tr_loss", None)
    sums = counters.get("loss_sums")
    if loss is not None and sums:
        same_ranks = len(sums) == trainer.accelerator.num_processes
        # Only the mean over ranks is logged, so another number of ranks may share it out evenly.
        loss.fill_(sums[trainer.accelerator.process_index] if same_ranks else sum(sums) / len(sums))
