"""A stage of preferences for a pool of single answers: what stands in for dpo on a component's bench."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from dataflex.components.passes import Floats
from dataflex.math.losses import output_logits, sample_losses
from dataflex.scoring.inputs import batch_labels, model_inputs


class ToyPreferences:
    """Compares the answer of a row with one of even odds: the margin is ln 2 less the answer's mean token loss."""

    width = 2
    settings: Mapping[str, Any] = {"stage": "toy"}
    reference: nn.Module | None = None

    def numbers(self, model: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        """Loss and margin of each row, shape [B, 2]."""
        labels_BT = batch_labels(batch)
        losses = sample_losses(output_logits(model(**model_inputs(model, batch)), labels_BT, model), labels_BT)
        margins_B = torch.log(torch.tensor(2.0)) - losses.means
        return torch.stack([-functional.logsigmoid(margins_B), margins_B], dim=1)

    def scores(self, numbers_NW: Floats) -> tuple[Floats, Floats]:
        """They are in the numbers already."""
        return numbers_NW[:, 0], numbers_NW[:, 1]
