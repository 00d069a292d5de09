"""The runs of a study, each with the run file that trains it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dataflex.config.run import RunFile
from dataflex.errors import ConfigError
from dataflex.study.arms import Base, run_of_arm
from dataflex.study.lengths import LENGTH_KEYS, names_a_length, planned_steps, steps_at
from dataflex.study.study_file import Arm, StudyFile
from dataflex.study.study_run import run_name

FILES, LOGS, RUNS = "files", "logs", "runs"


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One run to make.

    Attributes:
        arm: Its arm.
        seed: Its seed.
        length: Its multiple of T; ``None`` for an arm with a length of its own.
        steps: Optimizer steps by its keys; ``None`` where only the data tells.
        run: Its run file, resolved.
        out: The study's folder.
    """

    arm: Arm
    seed: int
    length: float | None
    steps: int | None
    run: RunFile
    out: Path

    @property
    def series(self) -> str:
        """Arm and length: what runs of all seeds share."""
        return run_name(self.arm.name, self.length)

    @property
    def name(self) -> str:
        """What tells it from the others, fit for a file name."""
        return f"{self.series}-{self.seed}"

    @property
    def folder(self) -> str:
        """Its output directory, relative to the study's folder."""
        return folder_of(self.series, self.seed)

    @property
    def output_dir(self) -> Path:
        """Its output directory."""
        return self.out / self.folder

    @property
    def file(self) -> Path:
        """Its run file."""
        return self.out / FILES / f"{self.name}.yaml"

    @property
    def log(self) -> Path:
        """What it prints."""
        return self.out / LOGS / f"{self.name}.log"


def folder_of(series: str, seed: int) -> str:
    """The output directory of a run, relative to the study's folder."""
    return f"{RUNS}/{series}/{seed}"


class Plan:
    """What a study trains.

    Args:
        study: The study.
        base: Its base.
        lengths: Multiples of T at which the baseline is trained: those of the file, and those it was extended by.
        total: T, if a run has told it; by default it is read from the baseline's keys.
    """

    def __init__(self, study: StudyFile, base: Base, lengths: Sequence[float], total: int | None = None) -> None:
        self.study, self.base, self.lengths = study, base, sorted({*lengths, 1})
        self.total = total or planned_steps(self._compose(self._baseline, study.seeds[0], 1, steps=None))
        self._refuse_lengths()

    @property
    def count(self) -> int:
        """How many runs there are."""
        return (len(self.study.arms) + len(self.lengths) - 1) * len(self.study.seeds)

    @property
    def _baseline(self) -> Arm:
        return self.study.arms[self.study.baseline]

    def runs(self, *, stand_in: int | None = None) -> list[PlannedRun]:
        """All runs whose run file is known, seed by seed, the baseline first.

        Without T these are the baseline's own and those of arms with a length of their own.

        Args:
            stand_in: Steps in T's place while it is not known, for checks of what else is in the files.
        """
        return [run for seed in self.study.seeds for run in self.runs_of(seed, stand_in=stand_in)]

    def runs_of(self, seed: int, *, stand_in: int | None = None) -> Iterator[PlannedRun]:
        """The runs of one seed."""
        total = self.total or stand_in
        others = [arm for name, arm in self.study.arms.items() if name != self.study.baseline]
        yield self._planned(self._baseline, seed, 1, total)
        for arm in others:
            own = names_a_length(arm.keys) and not arm.command
            if own or total is not None:
                yield self._planned(arm, seed, None if own else 1, total)
        for length in self.lengths:
            if length != 1 and total is not None:
                yield self._planned(self._baseline, seed, length, steps_at(length, total))

    def _planned(self, arm: Arm, seed: int, length: float | None, steps: int | None) -> PlannedRun:
        run = self._compose(arm, seed, length, steps=steps)
        known = self.total if arm.command else planned_steps(run)
        return PlannedRun(arm=arm, seed=seed, length=length, steps=known, run=run, out=self.study.out)

    def _compose(self, arm: Arm, seed: int, length: float | None, *, steps: int | None) -> RunFile:
        series = run_name(arm.name, length)
        if length not in (None, 1):
            arm = Arm(name=arm.name, keys=_without_length(arm), written=arm.written, command=arm.command)
        return run_of_arm(
            self.base,
            arm,
            seed=seed,
            file=self.study.out / FILES / f"{series}-{seed}.yaml",
            output_dir=self.study.out / folder_of(series, seed),
            steps=steps,
            keeps=arm.name == self.study.baseline and length == 1,
        )

    def _refuse_lengths(self) -> None:
        if self.total is None:
            return
        steps = [steps_at(length, self.total) for length in self.lengths]
        if min(steps) < 1 or len(set(steps)) < len(steps):
            said = ", ".join(f"{length:g} gives {number}" for length, number in zip(self.lengths, steps, strict=True))
            raise ConfigError(
                f"baseline_lengths: of T = {self.total} optimizer steps, {said}. Each needs steps of its own, at least "
                "1."
            )


def _without_length(arm: Arm) -> dict[str, object]:
    return {key: value for key, value in arm.keys.items() if key not in LENGTH_KEYS}
