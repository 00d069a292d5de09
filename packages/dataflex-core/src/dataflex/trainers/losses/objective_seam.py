"""A mixer's weights of the domains, as weights of the rows of a step.

get_batch_samples ── labels of the step's micro-batches ──> tokens of each domain, over all ranks
                                                            └─> objective_weights(tokens): once a step
compute_loss      ── weights of its rows, in the loss that :mod:`.step_loss` puts in place of the stock one
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dataflex.components.asking import Asking
from dataflex.errors import ComponentError, ConfigError
from dataflex.math.domain_weights import token_weights
from dataflex.math.losses import IGNORE_INDEX
from dataflex.trainers.host import Host
from dataflex.trainers.losses.domain_tally import DomainTally, sum_dtype
from dataflex.trainers.losses.loss_seam import row_labels


class ObjectiveSeam:
    """Weighs the domains past the warm-up: ``sum_d weight_d * (mean token loss of domain d)``, over whole steps.

    Args:
        trainer: The ``transformers.Trainer``.
        tally: Knows the domain of a row.
        asking: The mixer.
        domains: Names of the domains.
        warmup: Optimizer steps before it acts.

    Raises:
        ConfigError: when the Trainer's loss is not the plain one.
    """

    def __init__(
        self,
        trainer: Host,
        tally: DomainTally,
        asking: Asking,
        *,
        domains: Sequence[str],
        warmup: int,
    ) -> None:
        if trainer.compute_loss_func is not None:
            raise ConfigError(
                "the Trainer has a compute_loss_func of its own, which the weights of the domains would replace. Use "
                "one of the two."
            )
        if trainer.args.label_smoothing_factor:
            raise ConfigError(
                f"label_smoothing_factor: {trainer.args.label_smoothing_factor} changes the losses that the domains "
                "are weighted by. Set it to 0."
            )
        self._trainer, self._domain_tally = trainer, tally
        self._asking, self._names, self._warmup = asking, tuple(domains), warmup
        self._token_weights_K: torch.Tensor | None = None
        self._tokens = 0

    @property
    def acts(self) -> bool:
        """Whether the domains are weighed in the current step."""
        return self._token_weights_K is not None

    def begin_step(self, batches: Sequence[Mapping[str, Any]], rows: Sequence[npt.NDArray[np.int64]]) -> None:
        """Ask for the step's weights. Called on every rank, once all micro-batches of the step are there.

        Args:
            batches: This rank's micro-batches.
            rows: Their rows in the pool.
        """
        self._token_weights_K = None
        if self._trainer.state.global_step < self._warmup or not batches:
            return
        tokens_K = self._count(batches, rows)
        with self._asking.alone(f"step {int(self._trainer.state.global_step)}"):
            weights_K = self._asking.call("objective_weights", tokens=tokens_K)
            if weights_K is None:
                return
            checked_K = self._check(weights_K)
        self._tokens = int(tokens_K.sum())
        self._token_weights_K = torch.from_numpy(token_weights(checked_K, tokens_K))

    def weights(self, rows_B: npt.NDArray[np.int64], like: torch.Tensor) -> torch.Tensor:
        """What each row's summed loss counts for in the step; shape [B], device and type of ``like``."""
        assert self._token_weights_K is not None
        return self._token_weights_K.to(like.device, like.dtype)[self._domain_tally.domains(rows_B, like.device)]

    def target_tokens(self, num_items_in_batch: torch.Tensor | int | None) -> torch.Tensor | float:
        """What a micro-batch's sum is divided by, so that stock scaling leaves the mean over the whole step.

        The stock count covers all ranks only with ``average_tokens_across_devices``; where it does not, stock code
        takes the mean over ranks, and without a count also over micro-batches.
        """
        trainer = self._trainer
        ranks = int(trainer.accelerator.num_processes)
        if num_items_in_batch is None:
            return self._tokens / ranks / int(trainer.current_gradient_accumulation_steps)
        if ranks == 1 or trainer.args.average_tokens_across_devices:
            return num_items_in_batch
        return self._tokens / ranks

    def _count(
        self, batches: Sequence[Mapping[str, Any]], rows: Sequence[npt.NDArray[np.int64]]
    ) -> npt.NDArray[np.int64]:
        accelerator = self._trainer.accelerator
        device = accelerator.device
        tokens_K = torch.zeros(len(self._names), dtype=sum_dtype(device), device=device)
        for batch, rows_B in zip(batches, rows, strict=True):
            targets_B = (row_labels(batch, rows_B)[:, 1:] != IGNORE_INDEX).sum(dim=1).to(tokens_K)
            tokens_K.index_add_(0, self._domain_tally.domains(rows_B, device), targets_B)
        counted: npt.NDArray[np.int64] = (
            accelerator.reduce(tokens_K, reduction="sum").cpu().numpy().round().astype(np.int64)
        )
        return counted

    def _check(self, answer: Any) -> npt.NDArray[np.float64]:
        weights_K = np.asarray(answer, np.float64)
        if weights_K.shape != (len(self._names),):
            raise ComponentError(
                f"objective_weights() returned shape {list(weights_K.shape)} for {len(self._names)} domains "
                f"({', '.join(self._names)})"
            )
        if not (np.isfinite(weights_K) & (weights_K >= 0)).all():
            listed = ", ".join(f"{name}: {weight:g}" for name, weight in zip(self._names, weights_K, strict=True))
            raise ComponentError(f"objective_weights() returned {listed}; weights are finite and not negative")
        return weights_K
