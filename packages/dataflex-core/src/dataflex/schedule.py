"""The stages of a run: pure arithmetic over optimizer steps.

    step  0 ........ warmup ........ warmup+update ........ total
          | stage 0 | stage 1        | stage 2             |
                    ^ boundary 0     ^ boundary 1           (no boundary at the end)

Stage 0 is the warm-up (empty when ``warmup`` is 0). Boundary ``k`` opens stage ``k + 1``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from dataflex.errors import ConfigError
from dataflex.runs import Steps


@dataclass(frozen=True)
class Schedule:
    """Stages of a select or mix run, in optimizer steps. Without a boundary, the warm-up is the whole run.

    Attributes:
        warmup: Steps before the first boundary.
        update: Steps between boundaries.
        total: Steps of the whole run; the last stage may be shorter than ``update``.
    """

    warmup: int
    update: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.warmup <= self.total or self.update < 1 or self.total < 1:
            raise ValueError(f"not a schedule: {self!r}")

    def __str__(self) -> str:
        """In words, for messages."""
        if not self.boundaries:
            return f"none in {self.total} steps"
        return f"at step {self.warmup} and every {self.update} steps, of {self.total} in all"

    @property
    def boundaries(self) -> range:
        """Steps at which a component decides."""
        return range(self.warmup, self.total, self.update)

    @property
    def longest_update(self) -> int:
        """Steps of the longest stage after the warm-up; 0 without a boundary."""
        return min(self.update, self.total - self.warmup)

    def stage_at(self, step: int) -> int:
        """The stage that optimizer step ``step`` (0-based) belongs to."""
        if not 0 <= step < self.total:
            raise ValueError(f"step {step} is outside 0..{self.total - 1}")
        return 0 if step < self.warmup else 1 + (step - self.warmup) // self.update

    def bounds(self, stage: int) -> tuple[int, int]:
        """First step of a stage and the step after its last."""
        if stage == 0:
            return 0, self.warmup
        start = self.warmup + (stage - 1) * self.update
        return start, min(start + self.update, self.total)

    def stages(self) -> Iterator[tuple[int, int]]:
        """``bounds`` of every stage, the possibly empty warm-up first."""
        return (self.bounds(stage) for stage in range(len(self.boundaries) + 1))

    def agrees_up_to(self, earlier: Schedule, step: int) -> bool:
        """Whether both schedules have the same boundaries at or before ``step``: the condition for extending a run.

        Where the earlier run ended, it had none yet, and this one may have one.
        """
        mine = [boundary for boundary in self.boundaries if boundary <= step and boundary != earlier.total]
        return mine == [boundary for boundary in earlier.boundaries if boundary <= step]


def by_epochs(total: int, samples: int, global_batch: int) -> Schedule:
    """Lay out a run without decisions, a stage an epoch, as the stock Trainer counts epochs.

    Args:
        total: Steps of the whole run.
        samples: Samples of one epoch.
        global_batch: Samples per optimizer step over all ranks; an epoch's last step may have fewer.
    """
    epoch = math.ceil(samples / global_batch)
    return Schedule(min(epoch, total), epoch, total)


def by_passes(
    steps: Steps, *, epochs: float, pool_size: int, global_batch: int, max_steps: int = -1, moves: bool = False
) -> Schedule:
    """Lay out a run of passes in an order: as long as a stock run, a stage for each pass past the warm-up.

    Args:
        steps: The user's keys. ``train``, else ``max_steps``, else ``epochs`` is the length.
        epochs: ``num_train_epochs``.
        pool_size: Samples of the training pool.
        global_batch: Samples per optimizer step over all ranks; every step is full.
        max_steps: The run's own ``max_steps``.
        moves: Whether scores change while the model trains: the stages are then ``steps.update`` steps each.

    Raises:
        ConfigError: when the warm-up is the whole run, or the length is no number above 0.
    """
    total = steps.train or (max_steps if max_steps > 0 else _steps_of_epochs(epochs, pool_size, global_batch))
    if total <= steps.warmup:
        raise ConfigError(
            f"the run ends after {total} steps, before the first boundary at warmup_step={steps.warmup}. Lower "
            "warmup_step, or train longer: train_step, max_steps or num_train_epochs."
        )
    update = steps.update if moves and steps.update else math.ceil(pool_size / global_batch)
    return Schedule(steps.warmup, update, total)


def resolve(steps: Steps, *, epochs: float, pool_size: int, global_batch: int, max_steps: int = -1) -> Schedule:
    """Turn the step keys into a schedule once the pool is known.

    Args:
        steps: The user's keys. ``train > 0`` replaces the total; ``times == -1`` takes as many boundaries as
            ``epochs`` passes over the pool hold.
        epochs: ``num_train_epochs``; only read for ``times == -1``.
        pool_size: Samples of the training pool.
        global_batch: Samples per optimizer step over all ranks.
        max_steps: The run's own ``max_steps``; only read where there are no step keys.

    Raises:
        ConfigError: when boundaries were asked for and the total leaves room for none, or epochs that are no number
            above 0 decide.
    """
    if steps.update == 0:
        total = steps.train or (max_steps if max_steps > 0 else _steps_of_epochs(epochs, pool_size, global_batch))
        return Schedule(total, 1, total)
    if steps.train > 0:
        total = steps.train
    elif steps.times == -1:
        total = _steps_of_epochs(epochs, pool_size, global_batch)
    else:
        total = steps.warmup + steps.update * steps.times
    if total <= steps.warmup:
        raise ConfigError(
            f"the schedule has no boundary: warmup_step={steps.warmup}, update_step={steps.update}, {total} steps in "
            "all. Raise update_times (or train_step), or use train_type: static."
        )
    return Schedule(steps.warmup, steps.update, total)


def _steps_of_epochs(epochs: float, pool_size: int, global_batch: int) -> int:
    if not 0 < epochs < math.inf:
        raise ConfigError(f"num_train_epochs: {epochs} sets the length of this run, so it must be a number above 0.")
    return math.ceil(epochs * math.ceil(pool_size / global_batch))
