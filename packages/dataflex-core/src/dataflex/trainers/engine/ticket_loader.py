"""The loader the Trainer sees: it holds tickets, not data.

    Trainer loop ── "next micro-batch" ──> ticket loader ── fetch(k) ──> engine ──> stock loader of the stage

One ticket is one micro-batch. The Trainer may count, skip and restart tickets as it likes: that costs nothing and
reads nothing ahead, so the engine always knows the step a batch is for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler


class _Tickets(Dataset[Any]):
    def __init__(self, fetch: Callable[[int], Any], pool_size: int) -> None:
        self._fetch, self._pool_size = fetch, pool_size

    def __len__(self) -> int:
        return self._pool_size  # the Trainer logs it as "Num examples"

    def __getitem__(self, ticket: int) -> Any:
        return self._fetch(ticket)


class _TicketBatches(Sampler[list[int]]):
    def __init__(self, count: int, batch_size: int) -> None:
        self._count = count
        self.batch_size = batch_size  # read by the Trainer and by accelerate's skip_first_batches
        self.drop_last = False

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[list[int]]:
        return ([ticket] for ticket in range(self._count))


def _only(items: list[Any]) -> Any:
    return items[0]


def ticket_loader(
    fetch: Callable[[int], Any], *, pool_size: int, batch_size: int, tickets_per_epoch: int
) -> DataLoader[Any]:
    """Build the loader that asks ``fetch(k)`` for micro-batch ``k`` of each nominal epoch.

    Args:
        fetch: Returns the micro-batch of a ticket.
        pool_size: Samples of the pool.
        batch_size: Samples of a micro-batch on this rank.
        tickets_per_epoch: Micro-batches of a nominal pass over the pool, a multiple of the accumulation steps.
    """
    return DataLoader(
        _Tickets(fetch, pool_size),
        batch_sampler=_TicketBatches(tickets_per_epoch, batch_size),
        collate_fn=_only,
        num_workers=0,
        generator=torch.Generator(),  # iter() draws a base seed: not from the training run's generator
    )
