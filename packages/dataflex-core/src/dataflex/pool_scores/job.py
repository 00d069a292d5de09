"""Scoring the pool of a request and writing down what came out."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dataflex import resumable
from dataflex.bridge import llamafactory
from dataflex.bridge.origins import Tracer
from dataflex.checkpoint import state
from dataflex.config.plan import PreparedRun
from dataflex.data.fingerprint import fingerprint
from dataflex.distributed import leave_group
from dataflex.errors import ConfigError
from dataflex.pool_scores.folder import ScoreFolder
from dataflex.pool_scores.keep import Keep, write_dataset
from dataflex.pool_scores.request import ScoreRequest
from dataflex.pool_scores.scores import PoolScores, read_scores, write_summary
from dataflex.pool_scores.table import show_kept, show_scores
from dataflex.trainers.scoring import Scored, ScoringSession, scoring

logger = logging.getLogger("dataflex")


class ScoringJob:
    """Scores a pool on one rank, and writes what rank 0 writes.

    Args:
        request: What to score.
        prepared: Its checked run.
        asked: What the scores depend on, JSON values.
        folder: Where results go.
        keep: Rows to write as a data set; ``None`` for none.
    """

    def __init__(
        self,
        request: ScoreRequest,
        prepared: PreparedRun,
        asked: Mapping[str, Any],
        folder: ScoreFolder,
        keep: Keep | None,
    ) -> None:
        self.request, self.prepared, self.asked, self.folder, self.keep = request, prepared, asked, folder, keep
        self.tracer = Tracer(())
        draws = keep.count if keep is not None and keep.draw else None
        self.session = ScoringSession(prepared, look=self._look, draws=draws)
        self._pool: Any = None
        self._fingerprint = ""

    def run(self, rank: int) -> None:
        """Score, through LlamaFactory's own run up to its first training step.

        Args:
            rank: Of this process; 0 writes and shows.

        Raises:
            DataFlexError: as a training run, when the folder holds scores of another pool, and when another command
                writes to it.
        """
        if self.request.checkpoint is not None:
            self._check(self.request.checkpoint, rank)
        with self.folder.open(self.asked) if rank == 0 else contextlib.nullcontext():
            try:
                llamafactory.run_dynamic(self.session, scoring, self.prepared.facts.arguments, self.tracer)
            except Scored as scored:
                if rank == 0:
                    self._write(scored)
                leave_group()

    def _check(self, checkpoint: Path, rank: int) -> None:
        """See that the weights of a checkpoint are whole, as far as it says what it holds, and can be loaded."""
        plan = self.prepared.facts
        if reason := resumable.why_not_loaded(plan.arguments):
            raise ConfigError(f"--checkpoint {checkpoint} cannot be scored: {reason}.")
        if not (checkpoint / state.FOLDER).is_dir():
            return  # of LlamaFactory itself
        if reason := state.damage(checkpoint, weights_only=True):
            raise ConfigError(f"--checkpoint {checkpoint} cannot be scored: {reason}. Name another one.")
        unchecked = state.unchecked(checkpoint)
        if unchecked and rank == 0:
            logger.warning(unchecked)

    def _look(self, pool: Any) -> None:
        """See the pool before the model loads; the scores may be there already."""
        self._pool, self._fingerprint = pool, fingerprint(pool)
        if self.keep is not None:
            self.keep.check(len(pool), self.session.origins, self.prepared.facts.params)
        if not self.folder.complete:
            return
        summary = json.loads(self.folder.summary.read_text(encoding="utf-8"))
        if summary["pool_fingerprint"] != self._fingerprint:
            raise ConfigError(
                f"--out {self.folder.path} holds scores of another pool: the data has changed since. Name another "
                "folder, or delete this one."
            )
        there = read_scores(self.folder.scores)
        raise Scored(
            there.scores,
            summary["metrics"],
            summary["seconds"],
            there.tokens,
            targets=there.targets,
            drawn=there.drawn,
        )

    def _write(self, scored: Scored) -> None:
        result = self._result(scored)
        result.write(self.folder.scores)  # before what may still fail: scoring was the expensive part
        kept = np.zeros(0, np.int64) if self.keep is None else self.keep.choose(result.scores, result.drawn)
        write_summary(
            self.folder.summary,
            request=self.asked,
            pool=self._fingerprint,
            seconds=scored.seconds,
            metrics=scored.metrics,
            numbers=result.summary(kept),
        )
        show_scores(self.folder)
        if len(kept):
            assert self.session.origins is not None  # Keep.check has seen to it
            counts = write_dataset(self.folder.kept, kept, self.session.origins, self.tracer.sources)
            show_kept(self.folder.kept, counts, len(self.session.origins.names))
        self.folder.finish()

    def _result(self, scored: Scored) -> PoolScores:
        origins, size = self.session.origins, len(scored.scores)
        if origins is not None:
            names, domains = origins.names, origins.indices
        else:  # packed rows of a single data set are still its own
            names = self.tracer.names
            domains = np.full(size, 0 if len(names) == 1 else -1, np.int64)
        return PoolScores(scored.scores, scored.tokens, names, domains, scored.targets, scored.drawn)
