"""Losses of a pool's rows under the current model, which is left exactly as it was found.

Shapes: B samples of a batch, T tokens, N rows this rank scored.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dataflex.data.scoring_loader import ScoringLoader
from dataflex.distributed import first_failure, gather_scores
from dataflex.errors import ComponentError
from dataflex.math.losses import IGNORE_INDEX, SampleLosses, output_logits, sample_losses
from dataflex_selectors_loss.progress import ScoringProgress


@dataclass(frozen=True)
class PoolLosses:
    """Losses of a pool's rows, the same on every rank.

    Attributes:
        means: Mean loss per target token, fp64, shape [pool]; NaN where a row was not scored or has no target.
        targets: Target tokens of each row, fp64, shape [pool]; NaN where a row was not scored.
    """

    means: npt.NDArray[np.float64]
    targets: npt.NDArray[np.float64]


def score_pool(
    model: nn.Module, loader: ScoringLoader, pool_size: int, accelerator: Any, progress: ScoringProgress
) -> PoolLosses:
    """Score this rank's batches and gather what the others scored.

    Args:
        model: The unwrapped model.
        loader: This rank's batches.
        pool_size: Rows of the whole pool.
        accelerator: The run's accelerator, whose autocast is used; or ``None``.
        progress: Told of every batch.

    Raises:
        ComponentError: on every rank, when the batches have no labels, the model returns no logits, or memory runs
            out on one of them.
    """
    batches: list[tuple[npt.NDArray[np.int64], SampleLosses]] = []
    cause: Exception | None = None
    try:
        with progress, evaluating(model):
            for rows, batch in loader:
                with accelerator.autocast() if accelerator is not None else contextlib.nullcontext():
                    losses = _score_batch(model, batch)
                if len(rows):
                    batches.append((rows, losses))
                progress.advance(len(rows))
    except Exception as error:  # the other ranks are told first: they would wait for our scores
        cause = error
    failure = first_failure("" if cause is None else f"{type(cause).__name__}: {cause}", accelerator)
    if cause is not None:
        raise cause
    if failure:
        raise ComponentError(f"scoring failed: {failure}")
    rows_N = np.concatenate([np.zeros(0, np.int64), *(rows for rows, _ in batches)])
    means_N = _concatenate([losses.means for _, losses in batches])
    targets_N = _concatenate([losses.counts_B for _, losses in batches])
    return PoolLosses(
        gather_scores(rows_N, means_N, pool_size, accelerator),
        gather_scores(rows_N, targets_N, pool_size, accelerator),
    )


def _concatenate(parts: Sequence[torch.Tensor]) -> npt.NDArray[np.float64]:
    return torch.cat([torch.zeros(0), *(part.detach().cpu().double() for part in parts)]).double().numpy()


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradient; afterwards each module's own train flag is back, mixed ones included.

    Flags are set one by one: ``model.eval()`` calls overridden ``train`` methods, and some of those merge weights.
    Accelerate's mixed-precision wrapper turns the logits of a whole batch into fp32; the forward below it is called
    meanwhile.
    """
    flags = [(module, module.training) for module in model.modules()]
    wrapped, bare = model.__dict__.get("forward"), model.__dict__.get("_original_forward")
    try:
        for module, _ in flags:
            module.training = False
        if wrapped is not None and bare is not None:
            model.__dict__["forward"] = bare
        with torch.no_grad():
            yield
    finally:
        if wrapped is not None and bare is not None:
            model.__dict__["forward"] = wrapped
        for module, training in flags:
            module.training = training


def _score_batch(model: nn.Module, batch: Mapping[str, Any]) -> SampleLosses:
    labels_BT = _labels(batch)
    try:
        outputs = model(**_inputs(model, batch))
        return sample_losses(output_logits(outputs, labels_BT, model), labels_BT)
    except torch.cuda.OutOfMemoryError as error:
        rows, tokens = labels_BT.shape
        raise ComponentError(
            f"scoring ran out of memory on a batch of {rows} x {tokens} tokens. Lower component_params.token_budget "
            "(a single long row may exceed it: lower cutoff_len then)."
        ) from error


def _labels(batch: Mapping[str, Any]) -> torch.Tensor:
    labels_BT = batch.get("labels")
    if not isinstance(labels_BT, torch.Tensor) or labels_BT.ndim != 2:
        raise ComponentError(
            f"the collator's batches hold no labels (they hold: {', '.join(batch)}), so they have no loss. The loss "
            "selector works for stages sft and pt; use component_name: random for others."
        )
    mask = batch.get("attention_mask")
    if isinstance(mask, torch.Tensor) and mask.shape == labels_BT.shape:
        return labels_BT.masked_fill(mask.eq(0), IGNORE_INDEX)  # padding is no target, whatever its label
    return labels_BT


def _inputs(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
    """The batch without labels: with them the model would compute a second cross entropy."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    accepted = _arguments(model)
    if "use_cache" in accepted:
        inputs["use_cache"] = False
    mask = inputs.get("attention_mask")
    if (
        "position_ids" in accepted
        and inputs.get("position_ids") is None
        and isinstance(mask, torch.Tensor)
        and mask.ndim == 2
        and bool(mask[:, 0].eq(0).any())
    ):
        # Padded on the left: positions count from the first token, as they do for the row alone.
        inputs["position_ids"] = (mask.ne(0).long().cumsum(dim=-1) - 1).clamp(min=0)
    return inputs


def _arguments(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    below_adapter = getattr(model, "get_base_model", None)  # PEFT
    base = below_adapter() if callable(below_adapter) else model
    return inspect.signature(type(base).forward).parameters
