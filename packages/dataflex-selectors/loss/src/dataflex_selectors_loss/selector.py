"""The selector ``loss``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex import Selection, Selector
from dataflex.components.context import RunContext, logger
from dataflex.errors import ComponentError
from dataflex.scoring.candidates import check_enough, draw_candidates
from dataflex_selectors_loss.params import LossParams

if TYPE_CHECKING:
    from torch import nn

    from dataflex.scoring.shards import ShardStore

Scores = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


class LossSelector(Selector):
    """Prefer samples by their mean next-token loss under the current model.

    ``mode: sample`` draws at random with weight ``focus_weight`` inside one band of the losses and 1 outside, raised
    to 1/temperature; without replacement by the Gumbel-top-k trick. ``mode: top`` takes the highest losses.
    Loss is the mean over a sample's target tokens: a sum would rank long answers first.

    Papers: Loshchilov & Hutter 2016 (arXiv 1511.06343), online batch selection by loss; Kool et al. 2019
    (arXiv 1903.06059), Gumbel-top-k.
    """

    params: LossParams
    context: RunContext
    _objective_checked = False

    def select(self, model: nn.Module, step_id: int, num_samples: int, **kwargs: Any) -> Selection:
        """Score the candidates with the current weights and choose among them.

        Raises:
            ConfigError: when there are fewer candidates than samples to draw without replacement.
            ComponentError: when no candidate has a finite loss.
        """
        rng = self.context.rng(step_id)
        pool_size, limit = len(self.dataset), self.params.max_candidates
        candidates = draw_candidates(pool_size, limit, rng, log=self.context.rank == 0)
        least = 1 if self.params.replacement else num_samples
        advice = ", or set component_params.replacement: true"
        check_enough(len(candidates), least, step_id, pool_size=pool_size, limit=limit, advice=advice)
        scores, metrics = self._score(model, candidates, step_id)
        chosen = self._choose(scores[candidates], num_samples, rng)
        return Selection(candidates[chosen], metrics, scores)

    def _score(self, model: nn.Module, candidates: Rows, step: int) -> tuple[Scores, dict[str, float | list[float]]]:
        from dataflex.data.scoring_loader import ScoringLoader
        from dataflex.scoring.losses import score_pool
        from dataflex.scoring.objective import refuse_own_loss
        from dataflex.scoring.progress import ScoringProgress
        from dataflex.scoring.rope import length_scaling

        context, began = self.context, time.monotonic()
        device = _device(model, context.accelerator)
        if not self._objective_checked:
            refuse_own_loss(model, self.dataset, self.data_collator, candidates, device, context.accelerator)
            self._objective_checked = True
        store = self._store(model, candidates, step) if context.scores_only else None
        done = candidates[:0] if store is None else store.resume(candidates, context.accelerator)
        loader = ScoringLoader(
            self.dataset,
            self.data_collator,
            candidates,
            token_budget=self.params.token_budget,
            rank=context.rank,
            world_size=context.world_size,
            device=device,
            skipped=done,
            same_length=length_scaling(model) is not None,  # else a row's loss would depend on its batch
        )
        progress = ScoringProgress(len(candidates) - len(done), enabled=context.rank == 0, share=context.world_size)
        pool = score_pool(model, loader, len(self.dataset), context.accelerator, progress, store)
        seconds = time.monotonic() - began
        losses, targets = pool.means[candidates], pool.targets[candidates]
        finite = losses[np.isfinite(losses)]
        broken = int(np.count_nonzero(~np.isfinite(losses) & (targets > 0)))
        if not len(finite):
            raise ComponentError(
                f"none of the {len(candidates)} candidates at step {step} has a finite loss ({broken} are NaN or "
                "infinite, the others have no target token). Look at the training loss: lower the learning rate if "
                "the model has diverged, raise cutoff_len if the answers were cut off."
            )
        metrics: dict[str, float | list[float]] = {
            "scored": float(len(candidates)),
            "non_finite": float(broken),
            "without_targets": float(np.count_nonzero(targets == 0)),
            "score_quantiles": np.quantile(finite, [0, 0.25, 0.5, 0.75, 1]).tolist(),
            "seconds": seconds,
            "samples_per_second": (len(candidates) - len(done)) / max(seconds, 1e-9),
        }
        if self.params.max_candidates is not None:
            metrics["max_candidates"] = float(self.params.max_candidates)
        if context.rank == 0:
            self._report(metrics, step)
        return pool.means, metrics

    def _store(self, model: nn.Module, candidates: Rows, step: int) -> ShardStore:
        """Where the scores of a pool that is only scored are kept meanwhile: nothing else would survive a kill.

        They are known by every row that is looked at, which scoring reads anyway.
        """
        from dataflex.data.fingerprint import fingerprint
        from dataflex.distributed import all_gather
        from dataflex.scoring.losses import STORE_WIDTH
        from dataflex.scoring.shards import ShardStore, pass_fingerprint

        context = self.context
        settings = {"step": step, "precision": str(getattr(context.accelerator, "mixed_precision", "no"))}
        key = all_gather(
            pass_fingerprint(model, [fingerprint(self.dataset, candidates)], settings), context.accelerator
        )[0]
        return ShardStore(context.cache_dir / f"scores-{step:08d}-{key}", STORE_WIDTH, rank=context.rank)

    def _report(self, metrics: dict[str, float | list[float]], step: int) -> None:
        logger.info(
            "loss selector at step %d: scored %d samples in %.1f s (%.1f samples/s).",
            step,
            metrics["scored"],
            metrics["seconds"],
            metrics["samples_per_second"],
        )
        if metrics["non_finite"] or metrics["without_targets"]:
            logger.warning(
                "%d samples have a NaN or infinite loss and %d have no target token; they are chosen last.",
                metrics["non_finite"],
                metrics["without_targets"],
            )
        if getattr(self.data_collator, "neat_packing", False) or "packing_params" in _columns(self.dataset):
            logger.info("The pool is packed: a row of several samples is scored and chosen as one.")

    def _choose(self, losses: Scores, num_samples: int, rng: np.random.Generator) -> Rows:
        from dataflex.math.topk import gumbel_top_k, top_k, weighted_with_replacement

        # Both choices come ranked; shuffled, every part of the stage sees the same mix.
        if self.params.mode == "top":
            return rng.permutation(top_k(losses, num_samples))
        log_weights = focus_log_weights(losses, self.params)
        if self.params.replacement:
            return weighted_with_replacement(np.exp(log_weights - log_weights.max()), num_samples, rng)
        return rng.permutation(gumbel_top_k(log_weights, num_samples, rng))


def focus_log_weights(losses: Scores, params: LossParams) -> Scores:
    """Log of each sample's weight, shape as ``losses``; -inf for a loss that is not finite.

    Bands lie between the quantiles q1 < q2 of the finite losses: low is ``loss <= q1``, medium ``q1 < loss <= q2``,
    high ``loss > q2``.
    """
    finite = np.isfinite(losses)
    low, high = np.quantile(losses[finite], params.quantiles)
    band = {"low": losses <= low, "medium": (losses > low) & (losses <= high), "high": losses > high}[params.focus]
    log_weights = np.where(band, np.log(params.focus_weight) / params.temperature, 0.0)
    return np.where(finite, log_weights, -np.inf)


def _device(model: nn.Module, accelerator: Any) -> Any:
    return accelerator.device if accelerator is not None else next(model.parameters()).device


def _columns(dataset: Any) -> list[str]:
    return list(getattr(dataset, "column_names", None) or [])
