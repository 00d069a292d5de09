"""Dealing the GPUs of a machine to the runs on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dataflex.errors import ConfigError

VISIBLE = "CUDA_VISIBLE_DEVICES"


class Gpus:
    """The devices that are free.

    Args:
        names: All of them, as CUDA_VISIBLE_DEVICES would name them.
        per_run: How many a run takes; 0 leaves the variable alone.
    """

    def __init__(self, names: tuple[str, ...] = (), per_run: int = 0) -> None:
        self._free, self.per_run = list(names), per_run

    def take(self) -> tuple[str, ...] | None:
        """Those for one run; ``None`` if too few are free."""
        if len(self._free) < self.per_run:
            return None
        taken, self._free = tuple(self._free[: self.per_run]), self._free[self.per_run :]
        return taken

    def give_back(self, taken: tuple[str, ...]) -> None:
        """Make them free again."""
        self._free += taken


def deal(
    environ: Mapping[str, str], count: Callable[[], int], *, jobs: int, per_run: int | None, per_run_named: str
) -> Gpus:
    """The GPUs for several jobs at once: those of CUDA_VISIBLE_DEVICES if it is set, else all.

    Args:
        environ: The environment.
        count: Called for the number of devices, if the variable does not tell.
        jobs: Most jobs at once.
        per_run: GPUs of a run; ``None`` takes one where there are any.
        per_run_named: The option that says so, for messages.

    Raises:
        ConfigError: if there are not enough for all jobs.
    """
    listed = environ.get(VISIBLE)
    if listed is None:
        names = tuple(map(str, range(count())))
    else:
        names = tuple(name.strip() for name in listed.split(",") if name.strip())
    wanted = per_run if per_run is not None else min(1, len(names))
    if wanted * jobs > len(names):
        there = f"{VISIBLE}={listed} names" if listed is not None else "this machine has"
        raise ConfigError(
            f"--jobs {jobs} with {wanted} GPUs a run takes {wanted * jobs}, and {there} {len(names)}. Lower --jobs or "
            f"{per_run_named}."
        )
    return Gpus(names, wanted)
