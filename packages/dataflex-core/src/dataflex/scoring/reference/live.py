"""Reference losses from a second model in memory: one forward for each training forward.

Shapes: B samples, T tokens.
"""

from __future__ import annotations

import contextlib

import numpy as np
import numpy.typing as npt
import torch

from dataflex.components.context import RunContext
from dataflex.components.mix_context import MicroBatch
from dataflex.math.losses import output_logits, token_losses
from dataflex.scoring.inputs import model_inputs
from dataflex.scoring.reference.model import load_model, not_finite, vocabulary_of


class LiveReference:
    """The reference model itself, asked about each micro-batch.

    Args:
        name: The model.
        context: The run.
        token_budget: Padded tokens of one batch, where rows of the pool are scored.

    Raises:
        ConfigError: when it cannot be loaded.
    """

    def __init__(self, name: str, context: RunContext, token_budget: int | None = None) -> None:
        self._name, self._token_budget = name, token_budget
        self._model = load_model(name, context)
        self._accelerator = context.accelerator
        self.vocabulary = vocabulary_of(self._model)

    def token_losses(self, batch: MicroBatch) -> torch.Tensor:
        """Run the reference on the micro-batch, without gradient.

        Raises:
            ComponentError: when a loss is not finite; names the rows.
        """
        autocast = self._accelerator.autocast() if self._accelerator is not None else contextlib.nullcontext()
        labels_BT = batch.inputs["labels"]
        with torch.no_grad(), autocast:
            outputs = self._model(**model_inputs(self._model, batch.inputs))
            losses_BT, _ = token_losses(output_logits(outputs, labels_BT, self._model), labels_BT)
        unknown_B = (~torch.isfinite(losses_BT) & batch.mask_BT).any(dim=1)
        if bool(unknown_B.any()):
            raise not_finite(self._name, batch.rows_B[unknown_B.cpu().numpy()].tolist())
        return losses_BT

    def row_means(self, context: RunContext, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Score the rows now; see :class:`~dataflex.scoring.reference.model.Reference`.

        Raises:
            ComponentError: when a loss is not finite; names the rows.
        """
        found = context.losses(self._model, rows, token_budget=self._token_budget)
        unknown = rows[~np.isfinite(found.means[rows]) & (found.targets[rows] > 0)]
        if len(unknown):
            raise not_finite(self._name, unknown.tolist())
        return found.means[rows]
