"""Reference losses from a second model in memory: one forward for each training forward.

Shapes: B samples, T tokens.
"""

from __future__ import annotations

import contextlib

import torch

from dataflex import RunContext
from dataflex.components.mix_context import MicroBatch
from dataflex.math.losses import output_logits, token_losses
from dataflex.scoring.inputs import model_inputs
from dataflex_mixers_doremi.reference import load_model, not_finite, vocabulary_of


class LiveReference:
    """The reference model itself, asked about each micro-batch.

    Args:
        name: The model.
        context: The run.

    Raises:
        ConfigError: when it cannot be loaded.
    """

    def __init__(self, name: str, context: RunContext) -> None:
        self._name = name
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
