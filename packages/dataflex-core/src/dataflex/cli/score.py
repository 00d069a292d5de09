"""``dataflex score``: the scores of a component over a pool, without training."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dataflex.cli.early import examine
from dataflex.cli.train import restarts_under_torchrun
from dataflex.config.prepared import PreparedRun
from dataflex.console import configure_logging
from dataflex.errors import ConfigError
from dataflex.failures import error_log
from dataflex.pool_scores.draw import that_draws
from dataflex.pool_scores.folder import ScoreFolder
from dataflex.pool_scores.request import WORK, identity, read_request
from dataflex.pool_scores.table import show_scores

if TYPE_CHECKING:
    from dataflex.pool_scores.keep import Keep

logger = logging.getLogger("dataflex")


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """The options of ``dataflex score``.

    Attributes:
        component: Name of a selector; ``None`` takes the run file's.
        out: Folder of the results.
        checkpoint: Where weights and optimizer state come from.
        keep_top: Share of the pool to write as a data set.
        keep: Number of rows to write as a data set.
        draw: Draw them as the selector does, in place of the best.
    """

    component: str | None
    out: Path
    checkpoint: Path | None
    keep_top: float | None
    keep: int | None
    draw: bool = False

    def arguments(self) -> list[str]:
        """The options as they stand on a command line."""
        named = {
            "--component": self.component,
            "--out": self.out,
            "--checkpoint": self.checkpoint,
            "--keep-top": self.keep_top,
            "--keep": self.keep,
        }
        given = [text for name, value in named.items() if value is not None for text in (name, str(value))]
        return [*given, *(["--draw"] if self.draw else [])]


def run_score(run_file: Path, overrides: Sequence[str], plugin_values: Sequence[str], options: ScoreOptions) -> None:
    """Score a pool, in this process or under torchrun as ``dataflex train`` does.

    Args:
        run_file: YAML or JSON.
        overrides: ``key=value`` items.
        plugin_values: The values of ``-p``.
        options: The command's options.
    """
    rank = int(os.environ.get("RANK", "0"))
    configure_logging(rank)
    keep = _keep(options)
    request = read_request(run_file, overrides, options.component, options.checkpoint, options.out)
    plugins, prepared = examine(request.run, plugin_values, scores_only=True)
    assert prepared is not None  # the request's train type is dynamic_select
    _refuse_silent(prepared)
    if options.draw:
        prepared = that_draws(prepared)
    asked, folder = identity(request, prepared, keep), ScoreFolder(options.out)
    if rank == 0:
        folder.check(asked)
    if folder.complete and keep is None:
        logger.info("%s holds these scores already.", options.out)
        show_scores(folder)
        return
    command = ["score", str(run_file), *overrides, *options.arguments()]
    if not restarts_under_torchrun(command, plugins):
        from dataflex.bridge import llamafactory

        with _told_of_an_interrupt(rank), error_log.kept_in(options.out / WORK):
            llamafactory.load_training()
            from dataflex.pool_scores.job import ScoringJob

            ScoringJob(request, prepared, asked, folder, keep).run(rank)


@contextlib.contextmanager
def _told_of_an_interrupt(rank: int) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        if rank == 0:
            logger.warning("interrupted. The same command goes on with the scores that are there.")
        raise


def _keep(options: ScoreOptions) -> Keep | None:
    from dataflex.pool_scores.keep import Keep

    if options.keep is not None and options.keep_top is not None:
        raise ConfigError("--keep and --keep-top were both given. Use one of them.")
    how = " --draw" if options.draw else ""
    if options.keep is not None:
        return Keep(f"--keep {options.keep}{how}", rows=options.keep, draw=options.draw)
    if options.keep_top is not None:
        return Keep(f"--keep-top {options.keep_top:g}{how}", share=options.keep_top, draw=options.draw)
    if options.draw:
        raise ConfigError("--draw says how the rows to keep are chosen. Say how many: --keep N or --keep-top SHARE.")
    return None


def _refuse_silent(prepared: PreparedRun) -> None:
    spec = prepared.entry.spec
    if spec.gives_scores is False:
        raise ConfigError(
            f"selector {spec.name!r} of {prepared.facts.dist} gives no scores, so there is nothing to write. Name one "
            "that does: loss, less, or one of yours that returns Selection.scores."
        )
