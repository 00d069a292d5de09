"""Reference losses computed once for the whole pool, before training: no second model in memory afterwards.

Shapes: B samples, T tokens.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dataflex.components.context import RunContext
from dataflex.components.mix_context import MicroBatch
from dataflex.data.fingerprint import content_fingerprint
from dataflex.data.scoring_loader import ScoringLoader
from dataflex.data.trained_tokens import trained_tokens
from dataflex.distributed import together
from dataflex.errors import ComponentError
from dataflex.math.losses import output_logits, token_losses
from dataflex.scoring.inputs import batch_labels, model_inputs, trimmed
from dataflex.scoring.progress import ScoringProgress
from dataflex.scoring.quiet import evaluating
from dataflex.scoring.reference.loss_file import LossFile
from dataflex.scoring.reference.model import load_model, vocabulary_of
from dataflex.scoring.rope import length_scaling

logger = logging.getLogger("dataflex")


class CachedReference:
    """The reference's losses in a file, keyed by pool, model and precision. What is there is not computed again.

    All ranks share the folder. The model is loaded only if losses are missing, and let go once they are written.

    Args:
        name: The model.
        context: The run; files lie in its ``cache_dir``.
        token_budget: Padded tokens of one batch; ``None`` for what suits the device.
        hashes: What :func:`~dataflex.scoring.reference.model.identities` gave.

    Raises:
        ConfigError: when the model cannot be loaded.
        ComponentError: on every rank, when it fails on one or has a loss that is not finite.
    """

    def __init__(self, name: str, context: RunContext, token_budget: int | None, hashes: Mapping[str, str]) -> None:
        counted = getattr(context, "row_tokens", None)
        capacity = trained_tokens(context.dataset) if counted is None else counted
        key = hashlib.blake2b(digest_size=12)
        for part in (content_fingerprint(context.dataset), hashes["reference"], _precision(context)):
            key.update(part.encode())
        key.update(capacity.tobytes())  # what a collator makes of each row
        self._file = LossFile(context.cache_dir / f"reference-{key.hexdigest()}", capacity, name)
        self._fill(name, context, token_budget)
        self.vocabulary = self._file.vocabulary

    def token_losses(self, batch: MicroBatch) -> torch.Tensor:
        """Look the micro-batch's rows up."""
        targets = batch.mask_BT.sum(dim=1).tolist()
        flat_N = torch.from_numpy(self._file.read(batch.rows_B.tolist(), targets))
        losses_BT = torch.zeros_like(batch.losses_BT)
        return losses_BT.masked_scatter_(batch.mask_BT, flat_N.to(losses_BT.device).to(losses_BT.dtype))

    def row_means(self, context: RunContext, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Look the rows up; see :class:`~dataflex.scoring.reference.model.Reference`."""
        return self._file.means(rows)

    def _fill(self, name: str, context: RunContext, token_budget: int | None) -> None:
        model = None
        if not self._file.exists:
            model = load_model(name, context)
            if context.rank == 0:
                self._file.create(vocabulary_of(model))
        _wait(context)
        missing = self._file.missing()
        _wait(context)  # nobody writes before everybody has read
        if not len(missing):
            logger.info("reference losses of %s: all %d rows are in %s", name, len(context.dataset), self._file.folder)
            return
        logger.info("reference losses of %s: %d of %d rows to compute", name, len(missing), len(context.dataset))
        self._score(model if model is not None else load_model(name, context), missing, context, token_budget)
        left = self._file.missing()
        if len(left):
            raise ComponentError(
                f"{len(left)} rows have no reference loss in {self._file.folder} after all ranks have written theirs. "
                "Do all ranks see the same folder? Set component_params.cache_dir to one they share."
            )

    def _score(self, model: nn.Module, rows: Any, context: RunContext, token_budget: int | None) -> None:
        accelerator, by_length = context.accelerator, length_scaling(model) is not None
        loader = ScoringLoader(
            context.dataset,
            context.data_collator,
            rows,
            token_budget=token_budget,
            rank=context.rank,
            world_size=context.world_size,
            device=accelerator.device if accelerator is not None else None,
            same_length=by_length,
        )
        progress = ScoringProgress(len(rows), enabled=context.rank == 0, share=context.world_size)
        with together("computing reference losses", accelerator):
            with progress, evaluating(model):
                for batch_rows, batch in loader:
                    with accelerator.autocast() if accelerator is not None else contextlib.nullcontext():
                        losses = _score_batch(model, trimmed(batch) if by_length else batch)
                    self._file.write(batch_rows.tolist(), losses[: len(batch_rows)])
                    progress.advance(len(batch_rows))
            self._file.flush()


def _score_batch(model: nn.Module, batch: Mapping[str, Any]) -> list[Any]:
    """Losses of the targets of each row, fp32."""
    labels_BT = batch_labels(batch)
    outputs = model(**model_inputs(model, batch))
    losses_BT, mask_BT = token_losses(output_logits(outputs, labels_BT, model), labels_BT)
    flat = losses_BT[mask_BT].float().cpu().numpy()
    ends = np.cumsum(mask_BT.sum(dim=1).cpu().numpy())
    return np.split(flat, ends[:-1])


def _precision(context: RunContext) -> str:
    """The precision the model is run in: the losses depend on it."""
    return "no" if context.accelerator is None else str(context.accelerator.mixed_precision)


def _wait(context: RunContext) -> None:
    if context.accelerator is not None:
        context.accelerator.wait_for_everyone()
