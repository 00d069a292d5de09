"""Writes what a run does, on rank 0: what runs, each plan and decision, the Trainer's log, samples to look at."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.checkpoint.damage import run_id_of
from dataflex.decisions import Decision, DecisionLog
from dataflex.errors import ConfigError, OneRankError, reason
from dataflex.math.score_summary import score_summary
from dataflex.record.plans import find_plans, forget_from, plan_name, result_name, served_plans
from dataflex.record.run import Ending, Logged, RunInfo, RunRecord, hide_secrets
from dataflex.runs import PartFacts, RunSummary
from dataflex.schedule import Schedule
from dataflex.trainers.clock import CHECKPOINTS, Clock
from dataflex.trainers.host import Host
from dataflex.trainers.recording.outcome import Made, Outcome
from dataflex.trainers.recording.run_info import EngineFacts, run_info
from dataflex.trainers.recording.samples import pick_samples
from dataflex.trainers.resume.checkpoint import why_not_from_its_own
from dataflex.trainers.session import Session

logger = logging.getLogger("dataflex")
Rows = npt.NDArray[np.int64]


class Recorder:
    """The record of one call of ``train``. Made on every rank; each method says which ranks write.

    Args:
        trainer: The ``transformers.Trainer``.
        session: The run.
        schedule: Its stages.
        global_batch: Samples of one optimizer step over all ranks.
        data_seed: The seed that rows are drawn by.

    Attributes:
        files: What is written.
        log: The decisions.
        writes: Whether this rank does.
    """

    def __init__(
        self, trainer: Host, session: Session, schedule: Schedule, *, global_batch: int, data_seed: int
    ) -> None:
        self.trainer, self.session, self.schedule, self.global_batch = trainer, session, schedule, global_batch
        self._data_seed = data_seed
        self._selected: Rows | None = None  # the plan before, once a component has made one
        self.files = RunRecord(session.run.facts.output_dir)
        self.log = DecisionLog(session.run.facts.output_dir)
        self.writes = bool(trainer.is_world_process_zero())
        self.clock = Clock(trainer.accelerator)
        self._counts: npt.NDArray[np.int64] | None = None  # how often the plans so far hold each row

    def begin(self, checkpoint: Path | None, engine: EngineFacts) -> None:
        """Drop what an earlier part of the run wrote past ``checkpoint``, and write what runs. Rank 0 writes.

        What another run has written since in the folder goes as a whole.
        """
        self._selected = engine.plan if engine.stage >= 1 else None
        if not self.writes:
            return
        step, entries = 0, 0
        if checkpoint is not None and not self._holds_another(run_id_of(checkpoint)):
            state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
            step, entries = int(state["global_step"]), len(state["log_history"])  # its folder may have another name
        self.log.truncate(step)
        self.files.truncate(entries)
        forget_from(self.files.output_dir, step)
        shown: Mapping[str, float] = {}
        for entry in self.files.log():
            shown = entry.seconds
        self.clock.go_on_from(self.files.keep_seconds(step) or shown)
        self.files.write_info(self._info(engine))

    def _holds_another(self, run_id: str) -> bool:
        """Whether the record in the folder is of another run than the one that goes on, as far as both are known."""
        try:
            info = self.files.info()
        except ConfigError:  # of which nothing can be told
            return False
        return info is not None and "" not in (run_id, info.run_id) and info.run_id != run_id

    def end(self, steps: int, metrics: dict[str, float], ended_by: str = "") -> None:
        """Note that the run has ended by itself, early if ``ended_by`` says by whom. Rank 0 writes."""
        info = self.files.info() if self.writes else None
        if info is not None:
            self.files.write_info(replace(info, ending=Ending(steps=steps, metrics=metrics, ended_by=ended_by)))

    @contextmanager
    def checkpointing(self) -> Iterator[None]:
        """Count the time of the body as spent on checkpoints, and keep what the clock shows after it. Rank 0 writes."""
        with self.clock.spending(CHECKPOINTS):
            yield
        if self.writes:
            with suppress(OSError):  # where there is no room, the log's seconds have to do
                self.files.write_seconds(int(self.trainer.state.global_step), self.clock.read())

    def logged(self, step: int, values: dict[str, Any], histogram: Callable[[], Mapping[str, Sequence[float]]]) -> None:
        """Add an entry of the Trainer's log, and the histogram that goes with it. Rank 0 writes."""
        if self.writes:
            seconds = self.clock.read()
            with self._writing("the log"):
                self.files.append(Logged(step=step, values=values, seconds=seconds, histogram=histogram()))

    def served(self, step: int, rows: Rows) -> None:
        """Keep a plan that no component made: an epoch of the stock order. Rank 0 writes."""
        if self.writes:
            self._save(plan_name(step), rows)

    def undecided(self, step: int, outcome: Outcome, *, stage: int) -> None:
        """Keep a plan that is no decision: the warm-up's, or that of a stage that became longer. Rank 0 writes."""
        self._save(plan_name(step), outcome.rows)
        self._note(step, outcome)
        self._selected = outcome.rows if stage >= 1 else None

    def boundary(
        self, *, stage: int, step: int, outcome: Outcome, seconds: float, component_seconds: float
    ) -> Decision:
        """Write the result, the plan and the decision; then tell the plugins. Rank 0 writes.

        Returns:
            The decision.
        """
        is_plan = outcome.result is outcome.rows
        result_ref, plan_ref = result_name(step), result_name(step) if is_plan else plan_name(step)
        self._save(result_ref, outcome.result)
        if not is_plan:
            self._save(plan_ref, outcome.rows)
        with self._writing("the decision"):
            decision = self._decided(
                step=step,
                stage=stage,
                seconds=seconds,
                result_ref=result_ref,
                plan_ref=plan_ref,
                timing={"component_seconds": component_seconds, "planning_seconds": seconds - component_seconds},
                scores={} if outcome.scores is None else score_summary(outcome.scores, outcome.rows),
                metrics={
                    **(self._overlap(outcome.rows) if is_plan else {}),
                    **self._shares(outcome.rows),
                    **outcome.metrics,
                },
            )
        self._note(step, outcome)
        self._selected = outcome.rows
        return decision

    def together(self, *, stage: int, step: int, made: Sequence[Made], plan: Rows, seconds: float) -> list[Decision]:
        """Write the plan and the decisions of several components that led to it, in their order. Rank 0 writes.

        Only the last of them names the plan. What was spent outside all components counts as the last one's planning.
        """
        self._save(plan_name(step), plan)
        decisions, planning = [], max(0.0, seconds - sum(each.seconds for each in made))
        for each in made:
            last, outcome = each is made[-1], each.outcome
            reference = result_name(step, each.part.component.kind)
            self._save(reference, outcome.result)
            own = each.seconds + (planning if last else 0.0)
            with self._writing("the decision"):
                decision = self._decided(
                    part=each.part,
                    step=step,
                    stage=stage,
                    seconds=own,
                    result_ref=reference,
                    plan_ref=plan_name(step) if last else "",
                    timing={"component_seconds": each.seconds, "planning_seconds": own - each.seconds},
                    scores={} if outcome.scores is None else score_summary(outcome.scores, outcome.rows),
                    metrics=dict(outcome.metrics),
                )
            decisions.append(decision)
        scored = [each.outcome.scores for each in made if each.outcome.scores is not None]
        self._note(step, Outcome(rows=plan, result=plan, scores=scored[-1] if scored else None))
        return decisions

    def closing(
        self, *, stage: int, step: int, result: npt.NDArray[np.generic], metrics: Mapping[str, float | list[float]]
    ) -> None:
        """Write the numbers that a component reports once the run has ended: no plan comes of them. Rank 0 writes."""
        self._save(result_name(step), result)
        with self._writing("the decision"):
            self._decided(
                step=step,
                stage=stage,
                seconds=0.0,
                result_ref=result_name(step),
                metrics=metrics,
            )

    def finished(self, *, steps: int, started: float, metrics: Mapping[str, float], ended_by: str = "") -> None:
        """Tell the plugins that the run has ended, early if ``ended_by`` says by whom. Rank 0 only."""
        run = self.session.run
        summary = RunSummary(
            run=run.facts,
            steps=steps,
            decisions=sum(1 for _ in self.log),
            seconds=time.perf_counter() - started,
            metrics=metrics,
            ended_by=ended_by,
        )
        run.plugins.call("dataflex_run_finished", summary=summary)

    def _decided(
        self, *, step: int, stage: int, seconds: float, part: PartFacts | None = None, **results: Any
    ) -> Decision:
        """Append a decision to the log, then tell the plugins; ``results`` are fields of the record."""
        part = self.session.run.facts.parts[0] if part is None else part
        decision = Decision(
            step=step,
            stage=stage,
            kind=part.component.kind,
            component=part.component.name,
            dist=part.dist,
            version=part.version,
            params=hide_secrets(part.params),
            seconds=seconds,
            seed=int(self.trainer.args.seed),
            data_seed=self._data_seed,
            **results,
        )
        self.log.append(decision)
        self.session.run.plugins.call("dataflex_decision", decision=decision)
        return decision

    def _overlap(self, rows: Rows) -> dict[str, Any]:
        """Share of the distinct rows that the selection before held too; nothing after the warm-up."""
        if self._selected is None:
            return {}
        return {"overlap": float(np.isin(np.unique(rows), np.unique(self._selected), assume_unique=True).mean())}

    def _shares(self, rows: Rows) -> dict[str, Any]:
        """Share of each domain, where domains are known."""
        domains = self.session.sources
        if domains is None:
            return {}
        samples = np.bincount(domains.of(rows), minlength=len(domains.names))
        shares = (samples / max(len(rows), 1)).tolist()
        return {"domains": list(domains.names), "samples": samples.tolist(), "realised_samples": shares}

    def _note(self, step: int, outcome: Outcome) -> None:
        if self._counts is None:
            self._counts = self._counts_before(step)
        self._counts += np.bincount(outcome.rows, minlength=len(self._counts))
        try:
            self.files.write_samples(pick_samples(self.trainer, self._counts, outcome.scores, self.session.sources))
        except Exception as error:  # a look at the data must not end a run
            logger.warning("the samples to look at could not be written: %s: %s", type(error).__name__, error)

    def _counts_before(self, step: int) -> Rows:
        """How often the plans before ``step`` hold each row, as far as they are in the output directory."""
        counts = np.zeros(len(self.trainer.train_dataset), np.int64)
        folder, recorded = (
            self.files.output_dir,
            {record.step: record.plan_ref for record in self.log if record.plan_ref},
        )
        for plan in served_plans(folder, find_plans(folder, recorded), end=step, global_batch=self.global_batch):
            counts += np.bincount(plan.rows, minlength=len(counts))
        return counts

    def _save(self, reference: str, values: npt.NDArray[np.generic]) -> None:
        path = self.files.output_dir / reference
        with self._writing("the plan"):
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, values, allow_pickle=False)

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        """Say in one sentence that the output directory is not writable."""
        try:
            yield
        except OSError as error:
            raise OneRankError(
                f"{what} of step {int(self.trainer.state.global_step)} could not be written to "
                f"{self.files.output_dir}: {reason(error)}. Make room or fix it; {self._after_failure()}."
            ) from error

    def _after_failure(self) -> str:
        in_vain = why_not_from_its_own(self.session.run.facts)
        return f"the run then starts anew: {in_vain}" if in_vain else "the checkpoints before are whole"

    def _info(self, engine: EngineFacts) -> RunInfo:
        return run_info(
            self.trainer,
            self.session,
            self.schedule,
            engine,
            global_batch=self.global_batch,
            data_seed=self._data_seed,
        )
