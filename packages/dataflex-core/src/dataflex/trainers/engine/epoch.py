"""Steps, micro-batches and samples of an epoch: where a step begins, in micro-batches of one rank."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """An epoch of the Trainer's loop.

    Attributes:
        global_batch: Samples of a whole step over all ranks.
        accumulation: Micro-batches of a whole step.
        steps: Steps of the epoch.
        tickets: Micro-batches of the epoch.
        samples: Samples of the epoch over all ranks, if its last step may be short; ``None`` if every step is whole.
    """

    global_batch: int
    accumulation: int
    steps: int
    tickets: int
    samples: int | None

    @classmethod
    def of(cls, pool_size: int, samples: int | None, global_batch: int, accumulation: int) -> Epoch:
        """The epoch over a pool; ``samples`` as the attribute."""
        steps = math.ceil((pool_size if samples is None else samples) / global_batch)
        tickets = steps * accumulation if samples is None else math.ceil(samples * accumulation / global_batch)
        return cls(global_batch, accumulation, steps, tickets, samples)

    def first_position(self, step: int) -> int:
        """Micro-batches before an optimizer step, since step 0."""
        epoch, done = divmod(step, self.steps)
        return epoch * self.tickets + done * self.accumulation

    def samples_between(self, start: int, end: int) -> int:
        """Samples of the optimizer steps from ``start`` to ``end`` of one stage; an epoch may end in a short step."""
        whole = (end - start) * self.global_batch
        if self.samples is None:
            return whole
        return min(whole, self.samples - start % self.steps * self.global_batch)
