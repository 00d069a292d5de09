"""``dataflex check-run``: what ``train`` would refuse before it loads anything, for several run files at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from dataflex.cli.train import check_run
from dataflex.config import checks
from dataflex.config.run import read_run_file
from dataflex.console import configure_logging
from dataflex.errors import ConfigError, DataFlexError

logger = logging.getLogger("dataflex")


def check_runs(run_files: Sequence[Path], plugin_values: Sequence[str]) -> None:
    """Check run files without loading a model or data.

    Args:
        run_files: YAML or JSON.
        plugin_values: The values of ``-p``.

    Raises:
        ConfigError: with all that is wrong, one a line, each with the name of its file.
    """
    configure_logging(0)
    problems: list[str] = []
    for path in run_files:
        try:
            _check(path, plugin_values)
        except DataFlexError as error:
            problems += [f"{path.name}: {line}" for line in str(error).splitlines()]
    if problems:
        raise ConfigError("\n".join(problems))


def _check(path: Path, plugin_values: Sequence[str]) -> None:
    from dataflex.bridge import llamafactory
    from dataflex.trainers.session import Session

    run = read_run_file(path)
    _, prepared = check_run(run, plugin_values)
    names = llamafactory.check_dataset_names(run.llamafactory, path.name)
    for warning in checks.checkpoint_warnings(run):
        logger.warning("%s: %s", path.name, warning)
    if prepared is not None:
        Session(prepared).check_domain_names(names)
