"""Every check of a run file that loads neither model nor data: what ``train``, ``score`` and ``check-run`` share."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from dataflex.bridge.importing import uncollected
from dataflex.config import checks, legacy, run_warnings
from dataflex.config.gathering import Gathered
from dataflex.config.names import repeated, take_names
from dataflex.config.prepared import PreparedRun, prepare_what_fits
from dataflex.config.run import RunFile
from dataflex.config.theirs import choices_of, unknown_keys, wrong_values
from dataflex.console import said_once
from dataflex.errors import DataFlexError
from dataflex.hints import nearest
from dataflex.plugins.manager import PluginManager
from dataflex.plugins.options import PluginOptions
from dataflex.record import lock as run_lock
from dataflex.runs import TrainType

logger = logging.getLogger("dataflex")


@said_once(os.environ)
def examine(
    run: RunFile, plugin_values: Sequence[str], *, scores_only: bool = False, starts: bool = True
) -> tuple[PluginOptions, PreparedRun | None]:
    """Make every check of a run file that loads neither model nor data, and log what it warns of.

    Args:
        run: The run file.
        plugin_values: The values of ``-p``.
        scores_only: Whether the pool will only be scored.
        starts: Whether the run starts in this process or below it if nothing is wrong.

    Returns:
        What was asked of the plugins, and the checked run; ``None`` for a static one.

    Raises:
        DataFlexError: with all that is wrong, one a line.
    """
    problems, options, prepared = Gathered(), PluginOptions(), None
    kind: TrainType | None = None
    theirs: _Theirs | None = None
    with problems.taking():
        theirs = _ask_llamafactory()
    run = _as_meant(run, theirs)
    with problems.taking():
        kind = run.train_type
    with contextlib.suppress(DataFlexError):  # what is wrong with the keys it reads is told below
        for warning in run_warnings.warnings(run, scores_only=scores_only) if kind is not None else ():
            logger.warning(warning)
    nameless = take_names({**run.ours, **run.llamafactory}, run.written)[1]
    problems.errors += nameless.values()
    dynamic = kind not in (None, TrainType.STATIC)
    plugins = None
    with problems.taking():
        options = PluginOptions.gather([*(run.plugins() if dynamic else ()), *plugin_values], os.environ)
        plugins = PluginManager.load(options) if dynamic else None
    if dynamic:
        prepared = prepare_what_fits(run, plugins, problems, scores_only=scores_only)
    else:
        problems.add(checks.static_problems(run))
    if theirs is not None:
        _check_theirs(run, theirs, problems, nameless=nameless, starts=starts, prepared=prepared)
    if prepared is not None and not scores_only and int(os.environ.get("RANK", "0")) == 0:
        with problems.taking():  # here, since under torchrun every failure is code 1
            run_lock.require_writable(prepared.facts.output_dir)
    problems.refuse()
    return options, prepared


@dataclasses.dataclass(frozen=True)
class _Theirs:
    """What LlamaFactory says of itself.

    Attributes:
        known: Its keys with their types.
        takes_others: Whether it was told to take any others, too.
    """

    known: Mapping[str, Any]
    takes_others: bool


def _as_meant(run: RunFile, theirs: _Theirs | None) -> RunFile:
    """The run that a file of dataflex 1.x means, so that one misplaced key does not make ten others wrong."""
    refused = theirs is not None and not theirs.takes_others  # the key itself, which says what it means
    if not refused or run.llamafactory.get(legacy.STATIC_MIX) is not True:
        return run
    return dataclasses.replace(run, ours={**run.ours, "train_type": TrainType.STATIC_MIX.value})


@uncollected()
def _ask_llamafactory() -> _Theirs:
    """Load LlamaFactory's parser.

    Raises:
        IncompatibleError: for a LlamaFactory that is not known to work here.
    """
    from dataflex.bridge import versions

    versions.require()
    from dataflex.bridge import llamafactory

    return _Theirs(llamafactory.known_keys(), llamafactory.allows_extra_keys())


@uncollected()
def _check_theirs(
    run: RunFile,
    theirs: _Theirs,
    problems: Gathered,
    *,
    nameless: Collection[str],
    prepared: PreparedRun | None,
    starts: bool,
) -> None:
    """Check what is LlamaFactory's: its keys, its data sets and templates by name, and what its parser says.

    Args:
        run: The run file.
        theirs: LlamaFactory's keys.
        problems: Takes all that is wrong.
        nameless: Keys with something in a name's place that is none, which has been told.
        prepared: The run, if it is a dynamic one and whole.
        starts: Whether the run starts if nothing is wrong, and its ranks then ask the parser themselves.
    """
    from dataflex.bridge import launch, llamafactory
    from dataflex.bridge.adapters import of_other_bases
    from dataflex.bridge.lookups import find_datasets, find_template
    from dataflex.bridge.reporting import check_report_to
    from dataflex.bridge.reward_model import check_reward_model

    keys, known = dict(run.llamafactory), theirs.known
    if not theirs.takes_others:
        unknown, wrong = unknown_keys(run, known), wrong_values(run, known)
        problems.errors += [*unknown.values(), *wrong.values()]
        keys = {key: _stand_in(key, value, known) if key in wrong else value for key, value in keys.items()}
        keys = {key: value for key, value in keys.items() if key not in unknown and value is not _NOTHING}
    named = {key: value for key, value in keys.items() if key not in nameless}
    look, templates = llamafactory.lookups()
    with problems.taking():
        names = find_datasets(look, named, run.path.name)
        if prepared is not None and not repeated(names):
            from dataflex.trainers.session import Session

            Session(prepared).check_domain_names(names)
    with problems.taking():
        find_template(templates, named, run.path.name)
    with problems.taking():
        check_report_to(run.llamafactory, run.path.name)
    for warning in of_other_bases(run.llamafactory, run.path.name):
        logger.warning(warning)
    with problems.taking():
        if prepared is None or not prepared.facts.scores_only:
            check_reward_model(run.llamafactory, run.path.name)
    if launch.is_rank(os.environ):
        return  # the parser speaks for itself in a moment, and would join the ranks here
    if starts and prepared is not None and _has_ended(prepared):
        return  # the parser refuses an output directory with a model in it, and there is nothing left to train
    as_ranks = launch.wants_torchrun(os.environ, llamafactory.device_count)
    if not (as_ranks and starts) or problems:  # a parent of ranks is to hold no device
        keys = named | {key: str(keys[key]) for key in nameless if key in keys}
        problems.errors += llamafactory.parser_refusals(keys, run.path.name, as_ranks=as_ranks)


def _has_ended(prepared: PreparedRun) -> bool:
    from dataflex.trainers.resume.repeated import end_without_checkpoints
    from dataflex.trainers.session import Session

    return not prepared.facts.scores_only and end_without_checkpoints(Session(prepared)) is not None


_NOTHING = object()


def _stand_in(key: str, value: Any, known: Mapping[str, Any]) -> Any:
    """What is meant by a word that is none of those a key may be, if that is plain."""
    meant = nearest(str(value), [str(choice) for choice in choices_of(known[key])])
    return _NOTHING if meant is None else meant
