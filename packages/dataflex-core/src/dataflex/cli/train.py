"""``dataflex train``: from a run file to LlamaFactory, through every check that can be made on the way."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from dataflex import sharding
from dataflex.cli.early import examine
from dataflex.config import checks
from dataflex.config.plan import PreparedRun
from dataflex.config.run import RunFile, read_run_file
from dataflex.console import SAID, configure_logging
from dataflex.errors import DataFlexError
from dataflex.failures import error_log
from dataflex.plugins.options import PluginOptions
from dataflex.record.alive import at_work
from dataflex.record.run import FOLDER, RunRecord
from dataflex.runs import TrainType

logger = logging.getLogger("dataflex")


def run_train(run_file: Path, overrides: Sequence[str], plugin_values: Sequence[str]) -> None:
    """Train as a run file says, in this process or, where LlamaFactory would, under torchrun.

    Args:
        run_file: YAML or JSON.
        overrides: ``key=value`` items.
        plugin_values: The values of ``-p``.
    """
    rank = int(os.environ.get("RANK", "0"))
    configure_logging(rank)
    run = read_run_file(run_file, overrides)
    with _told_of_an_interrupt(run, rank):
        options, prepared = examine(run, plugin_values)
    if restarts_under_torchrun(["train", str(run_file), *overrides], options):
        return
    if rank == 0:
        for warning in checks.checkpoint_warnings(run):  # here, so that no parent of ranks says it too
            logger.warning(warning)
    from dataflex.bridge import llamafactory

    with _told_of_an_interrupt(run, rank), error_log.kept_in(_output_dir(run) / FOLDER):
        llamafactory.load_training()
        if prepared is None:
            llamafactory.run_static(run.llamafactory, run.path.name)
        else:
            _train_dynamic(prepared, run, rank)


@contextlib.contextmanager
def _told_of_an_interrupt(run: RunFile, rank: int) -> Iterator[None]:
    """Say of Ctrl-C which checkpoint a dynamic run goes on from."""
    try:
        yield
    except KeyboardInterrupt:
        with contextlib.suppress(DataFlexError):  # a train type that is none
            if rank == 0 and run.train_type is not TrainType.STATIC:
                from dataflex.trainers.resume.checkpoint import interrupted

                logger.warning(interrupted(_output_dir(run), run.llamafactory, run.path.name))
        raise


def _output_dir(run: RunFile) -> Path:
    return Path(str(run.llamafactory.get("output_dir") or "trainer_output"))


def _train_dynamic(prepared: PreparedRun, run: RunFile, rank: int) -> None:
    from dataflex.bridge import llamafactory
    from dataflex.checkpoint.folders import newest_first, step_of
    from dataflex.trainers.dynamic import dynamic as make_trainer
    from dataflex.trainers.final_model import require_model
    from dataflex.trainers.resume.repeated import leave_if_ended_without_checkpoints
    from dataflex.trainers.session import Session

    output_dir = prepared.facts.output_dir
    with at_work(output_dir, FOLDER) if rank == 0 else contextlib.nullcontext():
        session = Session(prepared)
        leave_if_ended_without_checkpoints(session)
        os.environ.update(sharding.variables(run.llamafactory, os.environ))
        llamafactory.run_dynamic(session, make_trainer, run.llamafactory)
        if rank == 0 and session.began:
            require_model(output_dir, output_dir)
            RunRecord(output_dir).mark_written(max(map(step_of, newest_first(output_dir)), default=0))


def restarts_under_torchrun(arguments: Sequence[str], options: PluginOptions) -> bool:
    """Start a command's ranks under torchrun, if that is how it is to run, and wait for them.

    Args:
        arguments: The command and all that follows it.
        options: The plugins, which reach the ranks through the environment.

    Returns:
        Whether that was done, so that nothing is left to do.

    Raises:
        SystemExit: with torchrun's exit code, if ranks fail.
    """
    from dataflex.bridge import launch
    from dataflex.bridge.llamafactory import device_count

    if not launch.wants_torchrun(os.environ, device_count):
        return False
    environ = {**os.environ, **options.to_environment(), SAID: "1"}
    command = launch.torchrun_command(arguments, environ, device_count)
    code = launch.run_ranks(command, environ)
    if code:
        sys.exit(code)
    return True
