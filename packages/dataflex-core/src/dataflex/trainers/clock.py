"""Wall-clock and CPU seconds of a run, and what they were spent on; CPU seconds are those of all ranks.

    elapsed      decisions      checkpoints      evaluation        seconds
    cpu_elapsed  cpu_decisions  cpu_checkpoints  cpu_evaluation    CPU seconds, loader workers included

All that is neither deciding nor writing checkpoints nor evaluating is training. A run that goes on from a checkpoint
goes on from what the clock showed when that was written, so steps that a kill lost are not counted.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Iterator, Mapping
from typing import Any

import psutil

DECISIONS, CHECKPOINTS, EVALUATION, ELAPSED = "decisions", "checkpoints", "evaluation", "elapsed"
CPU = "cpu_"
_PARTS = (DECISIONS, CHECKPOINTS, EVALUATION)
_TIMES = ("user", "system", "children_user", "children_system")


class Clock:
    """Begins when it is made.

    Args:
        accelerator: Brings the ranks together; ``None`` for a single process.
    """

    def __init__(self, accelerator: Any = None) -> None:
        self._accelerator = accelerator
        self._process = psutil.Process()
        self._began, self._began_cpu = time.perf_counter(), self.cpu()
        self._before: Mapping[str, float] = {}
        self._spent = dict.fromkeys((*_PARTS, *(CPU + part for part in _PARTS)), 0.0)
        self._others = dict.fromkeys((CPU + ELAPSED, *(CPU + part for part in _PARTS)), 0.0)
        self._inside = ""

    def go_on_from(self, shown: Mapping[str, float]) -> None:
        """Add what an earlier part of the run took."""
        self._before = dict(shown)

    @contextlib.contextmanager
    def spending(self, part: str) -> Iterator[None]:
        """Count the body as one of the parts; within another part, it is that one's."""
        if self._inside:
            yield
            return
        self._inside, began, cpu = part, time.perf_counter(), self.cpu()
        try:
            yield
        finally:
            self._inside = ""
            self.add(part, time.perf_counter() - began, self.cpu() - cpu)

    def add(self, part: str, seconds: float, cpu: float) -> None:
        """Count seconds and CPU seconds of this process as one of the parts."""
        self._spent[part] += seconds
        self._spent[CPU + part] += cpu

    def meet(self) -> None:
        """Learn the CPU seconds of the other ranks: an exchange, to be called on every rank at the same step."""
        if self._accelerator is None or self._accelerator.num_processes == 1:
            return
        import torch

        own = self._own_cpu()
        mine = torch.tensor([*own.values()], device=self._accelerator.device)
        summed = self._accelerator.reduce(mine, reduction="sum").tolist()
        self._others = {name: total - own[name] for name, total in zip(own, summed, strict=True)}

    def read(self) -> dict[str, float]:
        """All numbers, the parts of the run before this one included."""
        wall = {ELAPSED: time.perf_counter() - self._began, **{part: self._spent[part] for part in _PARTS}}
        cpu = {name: value + self._others[name] for name, value in self._own_cpu().items()}
        return {name: value + self._before.get(name, 0.0) for name, value in (wall | cpu).items()}

    def _own_cpu(self) -> dict[str, float]:
        parts = {CPU + part: self._spent[CPU + part] for part in _PARTS}
        return {CPU + ELAPSED: self.cpu() - self._began_cpu, **parts}

    def cpu(self) -> float:
        """CPU seconds of this process so far, and of its loader workers, ended or not."""
        total = sum(getattr(self._process.cpu_times(), name, 0.0) for name in _TIMES)  # not all systems have all
        for worker in multiprocessing.active_children():
            with contextlib.suppress(psutil.Error):
                spent = psutil.Process(worker.pid).cpu_times()
                total += spent.user + spent.system
        return float(total)
