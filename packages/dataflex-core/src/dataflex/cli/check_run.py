"""``dataflex check-run``: what ``train`` would refuse before it loads anything, for several run files at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from dataflex.cli.early import examine
from dataflex.config import run_warnings
from dataflex.config.prepared import PreparedRun
from dataflex.config.run import read_run_file
from dataflex.console import configure_logging, stdout
from dataflex.errors import ConfigError, DataFlexError
from dataflex.kinds import enumerated
from dataflex.runs import TrainType

logger = logging.getLogger("dataflex")


def check_runs(run_files: Sequence[Path], plugin_values: Sequence[str]) -> None:
    """Check run files without loading a model or data, and print what kind of run each was checked as.

    Args:
        run_files: YAML or JSON.
        plugin_values: The values of ``-p``.

    Raises:
        ConfigError: with all that is wrong, one a line, each with the name of its file.
    """
    configure_logging(0)
    problems: list[str] = []
    checked: list[str] = []
    for path in run_files:
        try:
            run = read_run_file(path)
            _, prepared = examine(run, plugin_values, starts=False)
            for warning in run_warnings.checkpoint_warnings(run):
                logger.warning("%s: %s", path.name, warning)
            checked.append(f"{path.name} ({_described(prepared)})")
        except DataFlexError as error:
            problems += [f"{path.name}: {line}" for line in str(error).splitlines()]
    if problems:
        raise ConfigError("\n".join(problems))
    stdout.print(f"Nothing speaks against {', '.join(checked)} before anything loads.", soft_wrap=True, markup=False)


def _described(prepared: PreparedRun | None) -> str:
    if prepared is None:
        return "a static run: trained as LlamaFactory does"
    facts = prepared.facts
    parts = [f"the {part.component.kind} {part.component.name}" for part in facts.parts]
    chosen = "" if facts.train_type is TrainType.STATIC_MIX else f" with {enumerated(parts, 'and')}"
    return f"{facts.train_type}{chosen}"
