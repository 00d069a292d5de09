"""What a study is refused for before its first run: all problems of all arms at once."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dataflex.config.gathering import Gathered
from dataflex.config.metric_names import SPEED, eval_sets, lacks_eval_set, listed, metric_names, prefixes
from dataflex.config.prepared import PreparedRun
from dataflex.config.run import RunFile
from dataflex.errors import ConfigError, DataFlexError
from dataflex.hints import did_you_mean
from dataflex.runs import TrainType
from dataflex.study.identity import Identity, alike
from dataflex.study.plan import PlannedRun
from dataflex.study.study_file import StudyFile
from dataflex.study.study_run import Cost

_OWN = ("seed", "output_dir")
_EPOCH = "epoch"


class Check(Protocol):
    """Every check that ``dataflex check-run`` makes of a run file."""

    def __call__(self, run: RunFile) -> PreparedRun | None:
        """Make them.

        Returns:
            The checked run; ``None`` for a static one.

        Raises:
            DataFlexError: with all that is wrong, one a line.
        """
        ...


class CheckCommand(Protocol):
    """Asks a command whether it would train a file."""

    def __call__(self, command: str, run: RunFile) -> None:
        """Ask it.

        Raises:
            DataFlexError: with what it refuses.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What the study asks others for.

    Attributes:
        check: Checks a run.
        check_command: Checks an arm that is a command.
        defaults: LlamaFactory's keys with their defaults.
    """

    check: Check
    check_command: CheckCommand
    defaults: Mapping[str, Any]


Checked = Mapping[str, PreparedRun | None]
"""Runs that passed every check, by name, with their parameters bound; ``None`` for a static one, or a command's."""


class Checker:
    """Checks the runs of a study; of those that differ in seed and place alone, one.

    Args:
        study: The study.
        tools: Who checks.
    """

    def __init__(self, study: StudyFile, tools: Tools) -> None:
        self._study, self._tools = study, tools
        self._seen: dict[str, tuple[Mapping[str, Any], PreparedRun | None]] = {}

    def check(self, runs: Iterable[PlannedRun]) -> Checked:
        """Check runs.

        Raises:
            ConfigError: with every problem of every run, one a line, each with the names of the arms that have it.
        """
        problems, found = _OfArms(), dict[str, PreparedRun | None]()
        with _each_warning_once():
            for run in runs:
                keys = {**run.run.ours, **run.run.llamafactory}
                content = {key: value for key, value in keys.items() if key not in _OWN}
                if self._seen.get(run.series, (None,))[0] != content:
                    self._seen[run.series] = (content, self._checked(run, problems))
                found[run.name] = self._seen[run.series][1]
        problems.refuse()
        return found

    def _checked(self, run: PlannedRun, problems: _OfArms) -> PreparedRun | None:
        prepared = None
        with problems.of(run):
            if run.arm.command:
                self._tools.check_command(run.arm.command, run.run)
            else:
                prepared = self._tools.check(run.run)
        with problems.of(run):
            _refuse_all(_own_problems(run, self._study))
        return prepared


class _OfArms:
    """What was refused, and of which arms."""

    def __init__(self) -> None:
        self._arms: dict[str, list[str]] = {}

    @contextlib.contextmanager
    def of(self, run: PlannedRun) -> Iterator[None]:
        """Keep what the body refuses of a run, line by line."""
        try:
            yield
        except DataFlexError as error:
            for line in str(error).splitlines():
                self._arms.setdefault(line, []).append(run.series)

    def refuse(self) -> None:
        """Raise it, if there is any."""
        if self._arms:
            lines = [f"arm{'s' * (len(arms) > 1)} {', '.join(arms)}: {said}" for said, arms in self._arms.items()]
            raise ConfigError("\n".join(lines))


def refuse_alike(found: Mapping[str, Identity], runs: Sequence[PlannedRun]) -> None:
    """Refuse arms that are alike but for their names, by the runs of one seed.

    Raises:
        ConfigError: names the pairs.
    """
    problems = Gathered()
    of_arms = {run.arm.name: found[run.name] for run in runs if run.name in found and run.length in (None, 1)}
    for first, second in alike(of_arms):
        problems.errors.append(
            ConfigError(
                f"arms {first} and {second} are alike but for their names: they would train the same. Drop one."
            )
        )
    problems.refuse()


def _own_problems(run: PlannedRun, study: StudyFile) -> Iterator[str]:
    """What a study asks of a run beyond what ``check-run`` does."""
    keys = run.run.llamafactory
    if not study.evaluate:
        lacks = lacks_eval_set(keys)
        if not _evaluates(keys) or lacks:
            yield (
                f"it does not evaluate: {lacks or 'neither do_eval nor eval_strategy is set'}. Set eval_dataset or "
                "val_size and do_eval: true in base, or name a command as evaluate."
            )
        else:
            yield from _metric_problems(study.metric, keys, study.path.name)
    if study.cost is Cost.CPU_SECONDS and not run.arm.command and run.run.train_type is TrainType.STATIC:
        yield (
            "cost: cpu_seconds is not known of a static run, which records no CPU time. Use cost: steps or seconds, or "
            "train it under dynamic_select with the selector random, or static_mix."
        )


def _evaluates(keys: Mapping[str, Any]) -> bool:
    return bool(keys.get("do_eval")) or keys.get("eval_strategy") not in (None, "no", False)


def _metric_problems(metric: str, keys: Mapping[str, Any], source: str) -> Iterator[str]:
    names = metric_names(keys)
    if names is None:
        return
    speeds = [f"{prefix}{name}" for prefix in prefixes(eval_sets(keys) or ()) for name in SPEED]
    if metric not in (*names, *speeds, _EPOCH):
        hint = did_you_mean(metric, names) or f" There will be {listed(names)}."
        yield f"metric: {metric} (from {source}) will not be measured.{hint}"


def _refuse_all(problems: Iterable[str]) -> None:
    gathered = Gathered()
    gathered.errors += [ConfigError(said) for said in problems]
    gathered.refuse()


@contextlib.contextmanager
def _each_warning_once() -> Iterator[None]:
    """Let a warning that several arms have be said once."""
    said: set[str] = set()

    def first(record: logging.LogRecord) -> bool:
        known = record.getMessage() in said
        said.add(record.getMessage())
        return not known

    logger = logging.getLogger("dataflex")
    logger.addFilter(first)
    try:
        yield
    finally:
        logger.removeFilter(first)
