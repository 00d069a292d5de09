"""The selector ``less``."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex import Selection, Selector
from dataflex.components.context import RunContext, logger
from dataflex.errors import ComponentError, ConfigError
from dataflex.scoring.candidates import check_enough, draw_candidates
from dataflex_selectors_less.history import History
from dataflex_selectors_less.params import LessParams
from dataflex_selectors_less.ranking import choose, combine
from dataflex_selectors_less.reporting import Metrics, report
from dataflex_selectors_less.subtasks import Subtask, subtasks_of

if TYPE_CHECKING:
    from torch import nn

    from dataflex.gradients.coverage import Coverage
    from dataflex.gradients.moments import AdamMoments
    from dataflex.scoring.shards import ShardStore
    from dataflex_selectors_less.scoring import LessScorer, PoolCosines

Scores = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
ACCELERATOR_TOKENS = 8192  # of a batch: gradients of each sample take more memory than its loss
_FELL_BACK, _OBJECTIVE = "fell back", "objective"
_SHARDED = ("FSDP", "MEGATRON_LM")


class LessSelector(Selector):
    """Prefer samples whose gradient points where the gradients of the eval set do.

    Score of a candidate: the highest, over subtasks, of the mean cosine between its Adam step and the gradients of
    the subtask's validation samples, all under the current weights. Exact by default: gradients are compared whole,
    without a projection, and none is stored (see :mod:`dataflex_selectors_less.scoring`).

    Paper: Xia et al. 2024, "LESS: Selecting Influential Data for Targeted Instruction Tuning", arXiv 2402.04333.
    """

    params: LessParams
    context: RunContext

    def __init__(self, params: LessParams, context: RunContext) -> None:
        super().__init__(params, context)
        self._last_rows: Rows = np.zeros(0, np.int64)
        self._history = History()
        self._told: set[str] = set()  # what the log has said already

    def select(self, model: nn.Module, step_id: int, num_samples: int, **kwargs: Any) -> Selection:
        """Score the candidates with the current weights and choose among them.

        Raises:
            ConfigError: when there are fewer candidates than samples to draw, no eval set, or no memory for the
                validation directions.
            ComponentError: when too few candidates have a finite score, or the optimizer holds no moments.
        """
        from dataflex.rng import rng_scope

        began, context = time.monotonic(), self.context
        rng = context.rng(step_id)
        pool_size, limit = len(self.dataset), self.params.max_candidates
        rows = draw_candidates(pool_size, limit, rng, log=context.rank == 0)
        check_enough(len(rows), num_samples, step_id, pool_size=pool_size, limit=limit)
        subtasks = subtasks_of(context.eval_datasets, self.params.subtask_column, self.params.targets)
        with rng_scope(devices=True):
            pool, facts = self._score(model, rows, subtasks, step_id)
        history = self._history
        if self.params.history:
            history = history.plus(step_id, self._learning_rate(), pool.cosines)
        cosines = history.mean(rows) if self.params.history else pool.cosines[rows]
        self._check_scored(pool, rows, cosines, num_samples, step_id)
        chosen = rows[choose(cosines, num_samples, self.params, rng)]
        scores = np.full(pool_size, np.nan)
        scores[rows] = combine(cosines, self.params)
        metrics = facts | self._metrics(pool, rows, scores, chosen)
        metrics["seconds"] = time.monotonic() - began
        if context.rank == 0:
            report(metrics, subtasks, step_id, context.accelerator)
        self._history, self._last_rows = history, chosen
        return Selection(chosen, metrics, scores)

    def state_dict(self) -> dict[str, Any]:
        """The last selection, and with ``history`` the weighted sums of all scores so far."""
        return {"last_rows": self._last_rows, **self._history.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self._last_rows = np.asarray(state["last_rows"], dtype=np.int64)
        self._history = History.from_state(state)

    def _score(
        self, model: nn.Module, rows: Rows, subtasks: Sequence[Subtask], step: int
    ) -> tuple[PoolCosines, Metrics]:
        from dataflex.gradients.coverage import Scope, cover
        from dataflex.scoring.progress import ScoringProgress

        context = self.context
        self._refuse_shards(model)
        coverage = cover(model, Scope(self.params.parameters))
        moments = self._moments(coverage)
        device = next(iter(coverage.parameters.values())).device
        self._check_objective(model, rows)
        total = len(rows) + sum(len(subtask.rows) for subtask in subtasks)
        with ScoringProgress(total, enabled=context.rank == 0, share=context.world_size) as progress:
            scorer = self._scorer(model, coverage, moments, progress)
            self._check_memory(scorer.sizes, len(subtasks))
            stores: list[ShardStore] = []

            def open_store(one_by_one: bool) -> ShardStore:
                key = self._pass_key(model, moments, subtasks, rows, step, one_by_one)
                stores.append(self._store(key, len(subtasks), step))
                return stores[-1]

            scored = scorer.score(subtasks, rows, self.dataset, device, open_store)
            if context.rank == 0:
                stores[-1].drop_others()
        if scorer.engine.reason:
            self._told.add(_FELL_BACK)
        pool, aims = scored.pool, scored.aims
        facts: Metrics = {
            "scored": float(len(rows)),
            "resumed": float(pool.resumed),
            "validation": float(sum(len(subtask.rows) for subtask in subtasks)),
            "validation_non_finite": float(aims.lost),
            "validation_zero": float(aims.flat),
            "validation_seconds": scored.validation_seconds,
            "samples_per_second": (len(rows) - pool.resumed) / max(scored.candidate_seconds, 1e-9),
            "gradient_size": float(coverage.size),
            "excluded_parameters": float(len(coverage.excluded)),
            "one_by_one": float(bool(scorer.engine.reason)),
            "preconditioned": float(bool(moments)),
        }
        if coverage.excluded and context.rank == 0:
            logger.info(
                "parameters: linear leaves %d trainable parameters out of the gradients: %s",
                len(coverage.excluded),
                ", ".join(coverage.excluded),
            )
        return pool, facts

    def _check_objective(self, model: nn.Module, rows: Rows) -> None:
        """Refuse a model that is trained with another loss, and say once which terms beside the loss are left out."""
        from dataflex.scoring.objective import left_out, refuse_own_loss

        context = self.context
        device = context.accelerator.device if context.accelerator is not None else next(model.parameters()).device
        if _OBJECTIVE in self._told:
            return
        refuse_own_loss(model, self.dataset, self.data_collator, rows, device, context.accelerator)
        self._told.add(_OBJECTIVE)
        for term in left_out(model) if context.rank == 0 else ():
            logger.info("less measures gradients of the next-token loss alone: %s is left out.", term)

    def _scorer(
        self, model: nn.Module, coverage: Coverage, moments: dict[str, AdamMoments], progress: Any
    ) -> LessScorer:
        from dataflex.data.scoring_loader import MAX_BATCH, ScoringLoader, default_token_budget
        from dataflex.gradients.engine import GradientEngine
        from dataflex_selectors_less.scoring import LessScorer

        context = self.context
        parameter = next(iter(coverage.parameters.values()))
        device = context.accelerator.device if context.accelerator is not None else parameter.device

        def make_loader(dataset: Any, chosen: Rows, max_batch: int | None, skipped: Rows) -> ScoringLoader:
            return ScoringLoader(
                dataset,
                self.data_collator,
                chosen,
                token_budget=self.params.token_budget or default_token_budget(device, ACCELERATOR_TOKENS),
                max_batch=max_batch or MAX_BATCH,
                rank=context.rank,
                world_size=context.world_size,
                device=device,
                skipped=skipped,
                uneven_first=True,
            )

        return LessScorer(
            GradientEngine(
                model, coverage, context.accelerator, quiet_log=context.rank > 0 or _FELL_BACK in self._told
            ),
            self.params,
            make_loader,
            moments=moments,
            accelerator=context.accelerator,
            seed=context.seed,
            progress=progress,
        )

    def _moments(self, coverage: Coverage) -> dict[str, AdamMoments]:
        from dataflex.gradients.moments import adam_moments

        if self.params.preconditioner == "sgd":
            return {}
        optimizer = self.context.optimizer()
        if optimizer is None:
            raise ComponentError("the run has no optimizer yet. Without one, set component_params.preconditioner: sgd.")
        if self.context.scores_only and not optimizer.state:
            if self.context.rank == 0:
                logger.warning(
                    "there is no optimizer state, so candidates are compared by their plain gradients, as with "
                    "preconditioner: sgd. For LESS's Adam steps, score a checkpoint that holds its optimizer.pt."
                )
            return {}
        return adam_moments(optimizer, coverage.parameters)

    def _store(self, key: str, subtasks: int, step: int) -> ShardStore:
        from dataflex.distributed import all_gather
        from dataflex.scoring.shards import ShardStore

        context = self.context
        folder = context.cache_dir / f"scores-{step:08d}-{all_gather(key, context.accelerator)[0]}"
        return ShardStore(folder, subtasks + 1, rank=context.rank, seconds=self.params.shard_seconds)

    def _pass_key(
        self,
        model: nn.Module,
        moments: dict[str, AdamMoments],
        subtasks: Sequence[Subtask],
        rows: Rows,
        step: int,
        one_by_one: bool,
    ) -> str:
        """Everything the scores depend on; of the data every row that is looked at, which scoring reads anyway."""
        if not self.params.shard_seconds:
            return "none"
        from dataflex.data.fingerprint import fingerprint
        from dataflex.scoring.shards import pass_fingerprint

        settings = {**dataclasses.asdict(self.params), "shard_seconds": 0, "seed": self.context.seed, "step": step}
        settings["one_by_one"] = one_by_one
        settings["precision"] = str(getattr(self.context.accelerator, "mixed_precision", "no"))
        aims = (f"{goal.name} {fingerprint(goal.dataset, goal.rows)}" for goal in subtasks)
        others = [
            (
                f"{name} {memory.step} {memory.beta1} {memory.beta2} {memory.eps} {memory.rate}",
                (memory.first, memory.second),
            )
            for name, memory in moments.items()
        ]
        return pass_fingerprint(model, [fingerprint(self.dataset, rows), *aims], settings, others)

    def _refuse_shards(self, model: nn.Module) -> None:
        kind = str(getattr(getattr(self.context.accelerator, "distributed_type", ""), "value", ""))
        if any(hasattr(parameter, "ds_id") for parameter in model.parameters()):
            kind = "ZeRO-3"
        elif kind not in _SHARDED:
            return
        raise ConfigError(f"LESS reads whole parameters, which {kind} spreads over ranks. Use ZeRO-2 or DDP.")

    def _check_memory(self, sizes: Mapping[str, int], subtasks: int) -> None:
        needed = 4e-9 * subtasks * sum(sizes.values())
        if needed > self.params.direction_memory_gb:
            raise ConfigError(
                f"the validation directions take {needed:.1f} GB ({subtasks} subtasks x {sum(sizes.values())} numbers "
                f"x 4 bytes), above direction_memory_gb={self.params.direction_memory_gb}. Set "
                "component_params.projection: sjlt, or raise it."
            )

    def _check_scored(self, pool: PoolCosines, rows: Rows, cosines: Scores, num_samples: int, step: int) -> None:
        usable = int(np.isfinite(cosines).all(axis=1).sum())
        if usable < num_samples:
            broken, without = _counts(pool, rows)
            raise ComponentError(
                f"only {usable} of {len(rows)} candidates at step {step} have a score and {num_samples} are needed "
                f"({broken} have a gradient that is zero or not finite, {without} no target token). Look at the "
                "training loss: lower the learning rate if the model has diverged, raise cutoff_len if the answers "
                "were cut off; or lower update_step."
            )

    def _metrics(self, pool: PoolCosines, rows: Rows, scores: Scores, chosen: Rows) -> Metrics:
        broken, without = _counts(pool, rows)
        finite = scores[np.isfinite(scores)]
        best = np.nan_to_num(pool.cosines[chosen], nan=-np.inf).argmax(axis=1)
        subtasks = pool.cosines.shape[1]
        metrics: Metrics = {
            "non_finite": float(broken),
            "without_targets": float(without),
            "score_quantiles": np.quantile(finite, _QUANTILES).tolist(),
            "subtask_maxima": np.nanmax(pool.cosines, axis=0).tolist(),
            "subtask_shares": (np.bincount(best, minlength=subtasks) / len(chosen)).tolist(),
        }
        if len(self._last_rows):
            metrics["overlap"] = float(np.isin(chosen, self._last_rows).mean())
        if self.params.max_candidates is not None:
            metrics["max_candidates"] = float(self.params.max_candidates)
        return metrics

    def _learning_rate(self) -> float:
        scheduler, optimizer = self.context.scheduler(), self.context.optimizer()
        if scheduler is not None:
            return float(scheduler.get_last_lr()[0])
        return float(optimizer.param_groups[0]["lr"]) if optimizer is not None else 1.0


def _counts(pool: PoolCosines, rows: Rows) -> tuple[int, int]:
    """Candidates whose gradient is zero or not finite, and those without a target token."""
    targets, cosines = pool.targets[rows], pool.cosines[rows]
    broken = ~np.isfinite(cosines).all(axis=1) & (targets > 0)
    return int(broken.sum()), int((targets == 0).sum())
