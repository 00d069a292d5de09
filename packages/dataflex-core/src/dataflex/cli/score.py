"""``dataflex score``: the scores of a component over a pool, without training."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataflex.cli.train import check_keys, restarts_under_torchrun
from dataflex.config import checks
from dataflex.config.plan import PreparedRun, prepare
from dataflex.console import configure_logging, print_table, stdout
from dataflex.errors import ConfigError
from dataflex.offline.folder import ScoreFolder
from dataflex.offline.request import ScoreRequest, identity, read_request
from dataflex.plugins.manager import PluginManager
from dataflex.plugins.options import PluginOptions

if TYPE_CHECKING:
    from dataflex.bridge.origins import Tracer
    from dataflex.offline.keep import Keep
    from dataflex.offline.scores import PoolScores
    from dataflex.trainers.scoring import Scored, ScoringSession

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
    """

    component: str | None
    out: Path
    checkpoint: Path | None
    keep_top: float | None
    keep: int | None

    def arguments(self) -> list[str]:
        """The options as they stand on a command line."""
        named = {
            "--component": self.component,
            "--out": self.out,
            "--checkpoint": self.checkpoint,
            "--keep-top": self.keep_top,
            "--keep": self.keep,
        }
        return [text for name, value in named.items() if value is not None for text in (name, str(value))]


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
    for warning in checks.warnings(request.run):
        logger.warning(warning)
    plugins = PluginOptions.gather([*request.run.plugins(), *plugin_values], os.environ)
    prepared = prepare(request.run, PluginManager.load(plugins), scores_only=True)
    _refuse_silent(prepared)
    check_keys(request.run)
    asked, folder = identity(request, prepared), ScoreFolder(options.out)
    if rank == 0:
        folder.open(asked)
    if folder.complete and keep is None:
        logger.info("%s holds these scores already.", options.out)
        _show(options.out, json.loads(folder.summary.read_text(encoding="utf-8")), prepared)
        return
    command = ["score", str(run_file), *overrides, *options.arguments()]
    if not restarts_under_torchrun(command, plugins):
        _Scoring(request, prepared, asked, folder, keep).run(rank)


class _Scoring:
    """One request on one rank."""

    def __init__(
        self,
        request: ScoreRequest,
        prepared: PreparedRun,
        asked: Mapping[str, Any],
        folder: ScoreFolder,
        keep: Keep | None,
    ) -> None:
        from dataflex.bridge.origins import Tracer
        from dataflex.trainers.scoring import ScoringSession

        self.request, self.prepared, self.asked, self.folder, self.keep = request, prepared, asked, folder, keep
        self.tracer: Tracer = Tracer(())
        self.session: ScoringSession = ScoringSession(prepared, look=self._look)
        self._pool: Any = None
        self._fingerprint = ""

    def run(self, rank: int) -> None:
        from dataflex import checkpoints, state
        from dataflex.bridge import llamafactory
        from dataflex.distributed import leave_group
        from dataflex.trainers.scoring import Scored, scoring

        checkpoint = self.request.checkpoint
        if checkpoint is not None and (checkpoint / state.FOLDER).is_dir():
            checkpoints.require_valid(checkpoint)
        try:
            llamafactory.run_dynamic(self.session, scoring, self.prepared.plan.arguments, self.tracer)
        except Scored as scored:
            if rank == 0:
                self._write(scored)
            leave_group()

    def _look(self, pool: Any) -> None:
        """See the pool before the model loads; the scores may be there already."""
        from dataflex.data.fingerprint import fingerprint
        from dataflex.offline.scores import read_scores
        from dataflex.trainers.scoring import Scored

        self._pool, self._fingerprint = pool, fingerprint(pool)
        if self.keep is not None:
            self.keep.check(len(pool), self.session.origins, self.prepared.plan.params)
        if not self.folder.complete:
            return
        summary = json.loads(self.folder.summary.read_text(encoding="utf-8"))
        if summary["pool_fingerprint"] != self._fingerprint:
            raise ConfigError(
                f"--out {self.folder.path} holds scores of another pool: the data has changed since. Name another "
                "folder, or delete this one."
            )
        raise Scored(read_scores(self.folder.scores), summary["metrics"], summary["seconds"])

    def _write(self, scored: Scored) -> None:
        import numpy as np

        from dataflex.offline.keep import write_dataset
        from dataflex.offline.scores import write_summary

        result = self._result(scored)
        result.write(self.folder.scores)  # before what may still fail: scoring was the expensive part
        kept = np.zeros(0, np.int64) if self.keep is None else self.keep.choose(result.scores)
        write_summary(
            self.folder.summary,
            request=self.asked,
            pool=self._fingerprint,
            seconds=scored.seconds,
            metrics=scored.metrics,
            numbers=result.summary(kept),
        )
        _show(self.folder.path, json.loads(self.folder.summary.read_text(encoding="utf-8")), self.prepared)
        if len(kept):
            assert self.session.origins is not None  # Keep.check has seen to it
            counts = write_dataset(self.folder.kept, kept, self.session.origins, self.tracer.sources)
            _say_kept(self.folder.kept, counts, len(self.session.origins.names))
        self.folder.finish()

    def _result(self, scored: Scored) -> PoolScores:
        import numpy as np

        from dataflex.data.trained_tokens import trained_tokens
        from dataflex.offline.scores import PoolScores

        origins, size = self.session.origins, len(scored.scores)
        if origins is not None:
            names, domains = origins.names, origins.indices
        else:  # packed rows of a single data set are still its own
            names = self.tracer.names
            domains = np.full(size, 0 if len(names) == 1 else -1, np.int64)
        return PoolScores(scored.scores, trained_tokens(self._pool), names, domains)


def _keep(options: ScoreOptions) -> Keep | None:
    from dataflex.offline.keep import Keep

    if options.keep is not None and options.keep_top is not None:
        raise ConfigError("--keep and --keep-top were both given. Use one of them.")
    if options.keep is not None:
        return Keep(f"--keep {options.keep}", rows=options.keep)
    return None if options.keep_top is None else Keep(f"--keep-top {options.keep_top:g}", share=options.keep_top)


def _refuse_silent(prepared: PreparedRun) -> None:
    spec = prepared.entry.spec
    if spec.gives_scores is False:
        raise ConfigError(
            f"selector {spec.name!r} of {prepared.plan.dist} gives no scores, so there is nothing to write. Name one "
            "that does: loss, less, or one of yours that returns Selection.scores."
        )


def _show(out: Path, summary: Mapping[str, Any], prepared: PreparedRun) -> None:
    from dataflex.offline.table import histogram, score_table

    where = f"step {summary['step']} of {summary['checkpoint']}" if summary["checkpoint"] else str(summary["model"])
    print_table(score_table(f"Scores of {summary['component']} at {where}", summary))
    unicode = (stdout.encoding or "").lower().startswith("utf")
    for line in histogram(summary["scores"], block="█" if unicode else "#"):
        stdout.print(line, soft_wrap=True, markup=False)
    stdout.print(f"Scores: {out}", soft_wrap=True, markup=False)


def _say_kept(folder: Path, counts: Mapping[str, int], data_sets: int) -> None:
    stdout.print(f"Kept: {sum(counts.values()):,} rows in {folder}", soft_wrap=True, markup=False)
    stdout.print("Train on them with the same run file and these keys:", soft_wrap=True)
    stdout.print(f"  dataset_dir={folder.absolute()}", soft_wrap=True, markup=False)
    if len(counts) < data_sets:
        stdout.print(f"  dataset={','.join(counts)}", soft_wrap=True, markup=False)
