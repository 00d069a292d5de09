"""Running jobs: so many at once, in order, until there are none left or a signal says stop."""

from __future__ import annotations

import contextlib
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

from dataflex.phases.gpus import Gpus
from dataflex.phases.job import Ended, Executor, Job, Outcome, Running

_POLL_SECONDS = 0.1

OnEnd = Callable[[Job, Outcome], Iterable[Job]]


@dataclass
class _Started:
    job: Job
    running: Running
    gpus: tuple[str, ...]
    began: float
    clock: float
    shared: bool


class Stop:
    """What signals have asked for: SIGTERM and the first Ctrl-C stop the jobs, a second Ctrl-C kills them.

    Attributes:
        signal: The signal; 0 for none.
    """

    def __init__(self) -> None:
        self.signal = 0

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals for as long as the context lasts."""
        before: dict[int, Any] = {number: signal.signal(number, self._note) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = self.signal or number


_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run_jobs(
    jobs: Iterable[Job],
    executor: Executor,
    *,
    at_once: int,
    stop: Stop,
    on_end: OnEnd,
    gpus: Gpus | None = None,
    on_start: Callable[[Job], None] = lambda job: None,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Run jobs, several at once, each when its turn comes and GPUs are free.

    Args:
        jobs: In order.
        executor: Where they run.
        at_once: Most jobs at the same time.
        stop: Ends the running jobs and starts no more, once it has a signal.
        on_end: Told of each end, in the caller's thread; the jobs it returns come next, before those that wait.
        gpus: Dealt to the jobs; by default, none are.
        on_start: Told of each start.
        tick: Called ten times a second.
    """
    waiting, running = deque(jobs), list[_Started]()
    gpus = gpus or Gpus()
    told = False
    try:
        while running or (waiting and not stop.signal):
            while waiting and not stop.signal and len(running) < at_once and (taken := gpus.take()) is not None:
                job = waiting.popleft()
                if not job.takes_gpus:
                    gpus.give_back(taken)
                    taken = ()
                on_start(job)
                running.append(_start(executor, job, taken, running))
            if stop.signal and not told:
                told = True
                for each in running:
                    each.running.stop()
            for each in [one for one in running if (one.running.poll()) is not None]:
                running.remove(each)
                gpus.give_back(each.gpus)
                waiting.extendleft(reversed(list(on_end(each.job, _outcome(each, stopped=told)))))
            tick()
            time.sleep(_POLL_SECONDS if running else 0)
    finally:
        for each in running:
            each.running.kill()


def _start(executor: Executor, job: Job, gpus: tuple[str, ...], beside: list[_Started]) -> _Started:
    for other in beside:
        other.shared = True
    began, clock = time.time(), time.perf_counter()
    return _Started(job, executor.start(job, gpus), gpus, began, clock, shared=bool(beside))


def _outcome(started: _Started, *, stopped: bool) -> Outcome:
    code = started.running.poll()
    assert code is not None
    ended = Ended.WELL if code == 0 else Ended.STOPPED if stopped else Ended.BADLY
    seconds = time.perf_counter() - started.clock
    return Outcome(ended=ended, code=code, began=started.began, seconds=seconds, shared=started.shared)
