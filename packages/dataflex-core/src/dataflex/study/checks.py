"""What a study is refused for before its first run: all problems of all arms at once."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dataflex.config.gathering import Gathered
from dataflex.config.metric_names import SPEED, eval_sets, lacks_eval_set, listed, metric_names, prefixes
from dataflex.config.plan import PreparedRun
from dataflex.config.run import RunFile
from dataflex.errors import ConfigError, DataFlexError
from dataflex.hints import did_you_mean
from dataflex.runs import TrainType
from dataflex.study.file import StudyFile
from dataflex.study.identity import Identity, alike
from dataflex.study.plan import PlannedRun
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


def check_runs(runs: Iterable[PlannedRun], study: StudyFile, tools: Tools) -> Checked:
    """Check the runs of one seed or more.

    Args:
        runs: The runs; of those that differ in seed and place alone, one is checked.
        study: The study.
        tools: Who checks.

    Raises:
        ConfigError: with every problem of every run, one a line, each with the arm's name.
    """
    problems, found = Gathered(), dict[str, PreparedRun | None]()
    seen: dict[str, tuple[Mapping[str, Any], PreparedRun | None]] = {}
    with _each_warning_once():
        for run in runs:
            keys = {**run.run.ours, **run.run.llamafactory}
            content = {key: value for key, value in keys.items() if key not in _OWN}
            prepared = None
            if run.series in seen and seen[run.series][0] == content:
                prepared = seen[run.series][1]
            else:
                before = len(problems.errors)
                prepared = _checked(run, study, tools, problems)
                seen[run.series] = (content, prepared)
                if len(problems.errors) > before:
                    continue
            found[run.name] = prepared
    _refuse(problems)
    return found


def _checked(run: PlannedRun, study: StudyFile, tools: Tools, problems: Gathered) -> PreparedRun | None:
    with _of(run, problems):
        if run.arm.command:
            tools.check_command(run.arm.command, run.run)
        else:
            prepared = tools.check(run.run)
            _refuse_all(_own_problems(run, study))
            return prepared
        _refuse_all(_own_problems(run, study))
    return None


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
def _of(run: PlannedRun, problems: Gathered) -> Iterator[None]:
    """Keep what the body refuses, with the arm's name before each line."""
    try:
        yield
    except DataFlexError as error:
        arm = run.series if run.length in (None, 1) else f"{run.series} (of baseline_lengths)"
        problems.errors += [type(error)(f"arm {arm}: {line}") for line in str(error).splitlines()]


def _refuse(problems: Gathered) -> None:
    """Raise what was kept; the same line of several seeds comes once."""
    problems.errors = list({str(error): error for error in problems.errors}.values())
    problems.refuse()


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
