"""Scoring a pool without training: the Trainer comes up as for training and is stopped at its first batch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import DataLoader

from dataflex.checkpoint import state
from dataflex.data.trained_tokens import trained_tokens
from dataflex.errors import ComponentError, ConfigError
from dataflex.failures.foreign import foreign
from dataflex.rng import key_seed, rng_scope
from dataflex.schedule import Schedule
from dataflex.trainers.context import run_context
from dataflex.trainers.engine.ticket_loader import ticket_loader
from dataflex.trainers.layout import refuse_data_parallel
from dataflex.trainers.loading import CheckedLoads
from dataflex.trainers.parts import Parts
from dataflex.trainers.planners.select import SelectPlanner
from dataflex.trainers.resume import run_keys
from dataflex.trainers.resume.row_seed import row_seed, row_seed_of
from dataflex.trainers.session import Session
from dataflex.trainers.token_counts import count_tokens

logger = logging.getLogger("dataflex")


class Scored(Exception):
    """Raised on every rank as soon as the scores are there: LlamaFactory's run is left before it trains or saves.

    Attributes:
        scores: Score of every row, fp64, shape ``[pool]``, NaN where a row was not scored; the same on every rank.
        metrics: Numbers that the component reports with them.
        seconds: Wall-clock seconds inside the component.
        tokens: Trained tokens of every row, shape ``[pool]``.
        targets: Score of every row for each target, by its name; the same on every rank.
        drawn: The rows that the component chose, where some were to be drawn.
    """

    def __init__(
        self,
        scores: npt.NDArray[np.float64],
        metrics: Mapping[str, float | list[float]],
        seconds: float,
        tokens: npt.NDArray[np.int64],
        *,
        targets: Mapping[str, npt.NDArray[np.float64]] | None = None,
        drawn: npt.NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__("the pool has been scored")
        self.scores, self.metrics, self.seconds, self.tokens = scores, metrics, seconds, tokens
        self.targets, self.drawn = targets or {}, drawn


@dataclass
class ScoringSession(Session):
    """The session of a pool that is only scored.

    Attributes:
        look: Called with the pool on every rank as soon as it is tokenised, before the model loads; may raise.
        draws: From the rows of the pool to how many the component is to choose; ``None`` if only scores are wanted.
    """

    look: Callable[[Any], None] = field(default=lambda pool: None)
    draws: Callable[[int], int] | None = None

    def check(self, pool: Any, args: Any, *, resumes: bool = True) -> None:
        """Check what can be checked now; there are no stages to fill, and the job has seen to the checkpoint."""
        refuse_data_parallel(args)
        self.check_given_scores(pool)
        self.look(pool)


class ScoringMixin(CheckedLoads):
    """Asks the session's selector for scores in place of the first training step, as at a run's own boundary.

    Model, optimizer, scheduler and random state come from the checkpoint by the Trainer's own resuming.
    """

    session: ScoringSession
    parts: Parts

    def train(self, resume_from_checkpoint: str | None = None, *args: Any, **kwargs: Any) -> Any:
        """Score.

        Raises:
            Scored: with the result.
            ComponentError: as a training run's boundary, or when the component gives no scores.
        """
        step = self.session.run.facts.steps.warmup
        schedule = Schedule(step, 1, step + 1)
        saved = self._saved(resume_from_checkpoint)
        self.session.data_seed = row_seed(self.args) if saved is None else row_seed_of(saved.engine)
        run = self.session.run
        context = run_context(
            self,
            run,
            data_seed=self.session.data_seed,
            global_batch=1,
            data_keys=self.session.data_keys(),
            columns=self.session.columns,
            answer_header=self.session.answer_header,
        )
        self.parts = Parts(self.accelerator, run.timeout)
        asking = self.parts.open(run.parts[0], context)
        self._planner = SelectPlanner(self, self.session, schedule, context, None, asking)
        self._planner.screen = None if self.parts.screen is None else self.parts.screen.asking
        self._goes_on_from = saved
        self.args.max_steps = schedule.total
        self.args.ignore_data_skip = True  # there is one batch, and it is never served
        with foreign("scoring failed"):
            super().train(resume_from_checkpoint, *args, **kwargs)
        raise RuntimeError("the training loop ended without asking for a batch; please report it")

    def get_train_dataloader(self) -> DataLoader[Any]:
        """A loader whose first batch is the moment to score."""
        accumulation = int(self.args.gradient_accumulation_steps)
        return ticket_loader(
            self._score, pool_size=len(self.train_dataset), batch_size=1, tickets_per_epoch=accumulation
        )

    def stock_train_dataloader(self) -> DataLoader[Any]:
        """The loader of the Trainer as it would be if it trained."""
        stock: DataLoader[Any] = super().get_train_dataloader()
        return stock

    def _score(self, ticket: int) -> Any:
        tokens = self._tokens()
        step, began, saved = int(self.state.global_step), time.perf_counter(), self._goes_on_from
        draws = self.session.draws
        rows = 1 if draws is None else draws(len(self.train_dataset))
        self._planner.begin()
        stage = 1 if saved is None else self._restore_component(saved)
        with rng_scope(key_seed(self.session.data_seed, "plan", step), devices=True):
            outcome = self._planner.outcome(stage, step, rows)
        if outcome.scores is None:
            raise ComponentError(
                f"{self._planner.asking.title} gives no scores: its select() returned rows without Selection.scores."
            )
        raise Scored(
            outcome.scores,
            outcome.metrics,
            time.perf_counter() - began,
            tokens,
            targets=outcome.target_scores,
            drawn=None if draws is None else outcome.rows,
        )

    def _tokens(self) -> npt.NDArray[np.int64]:
        """Trained tokens of each row. Called on every rank."""
        columns, workers = trained_tokens(self.train_dataset), int(self.args.dataloader_num_workers)
        return count_tokens(self._planner.context, columns, (len(columns),), workers=workers).counts

    def _saved(self, checkpoint: str | None) -> state.Saved | None:
        """What the engine left in a checkpoint; ``None`` for one of LlamaFactory itself, or without one."""
        if checkpoint is None or not (Path(checkpoint) / state.FOLDER).is_dir():
            return None
        saved = state.load(Path(checkpoint), weights_only=True)
        self._refuse_other_model(saved, Path(checkpoint))
        return saved

    def _restore_component(self, saved: state.Saved) -> int:
        """Give the component its state, if the checkpoint is of a run with it.

        Returns:
            The stage that the run would open at the checkpoint.
        """
        if saved.engine.component != self.session.identity:
            return 1
        self.parts.load_state_dict(saved.component, f"step {saved.engine.step}")
        return saved.engine.stage + 1

    def _refuse_other_model(self, saved: state.Saved, checkpoint: Path) -> None:
        """Refuse a run file whose model is not the one that the checkpoint's weights belong to."""
        if not saved.keys:
            return
        now = run_keys.gather(self, self.session)
        changes = run_keys.changes_since(saved, now, checkpoint, of_interest=lambda group: group.model)
        if changes.refused:
            raise ConfigError(
                f"--checkpoint {checkpoint} belongs to another model than this run file has: "
                f"{'; '.join(map(str, changes.refused))}. Score it with the run file it was trained with."
            )


def scoring(base: type, session: ScoringSession) -> type:
    """Derive the Trainer class of ``base`` that scores."""
    return type(f"Scoring{base.__name__}", (ScoringMixin, base), {"session": session})
