"""The weighter ``adapt``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dataflex import ComponentError, RunContext, Weighter
from dataflex.components.weight_context import WeightContext, WeightedStep
from dataflex.math.losses import IGNORE_INDEX
from dataflex.math.window import StepWindow
from dataflex.scoring.subtasks import subtasks_of
from dataflex.scoring.validation import ValidationRows
from dataflex_weighters_adapt.anchors import Direction, mean_direction, unit_vectors
from dataflex_weighters_adapt.params import AdaptParams, Centre, Tokens

WHO = "weighter 'adapt'"
_WINDOW = "scores/"  # what the names of the window begin with in the state


class AdaptWeighter(Weighter):
    """Weigh a sample by the mean cosine of its embedding with those of the eval sets.

    The embedding is pooled from the hidden states of the training forward itself, so weighing costs no forward; the
    eval sets are embedded every ``refresh_steps``, with dropout off. A weight depends on its own sample alone.

    Source: Zhao et al. 2026, arXiv 2605.05227.

    Attributes:
        direction: Mean of the anchors' unit vectors; ``None`` before the first weighted step.
        anchored: The step whose model they were embedded with.
    """

    params: AdaptParams
    context: RunContext

    def __init__(self, params: AdaptParams, context: RunContext) -> None:
        super().__init__(params, context)
        self._anchors = ValidationRows(context, params.max_anchors)
        self._scores = StepWindow(self.window, columns=1)
        self.direction: Direction | None = None
        self.anchored = 0

    def begin_step(
        self, model: nn.Module, step: int, batches: Sequence[Mapping[str, Any]], rows: Sequence[npt.NDArray[np.int64]]
    ) -> None:
        """Embed the eval sets, once every ``refresh_steps`` and never within a step."""
        if self.direction is not None and step - self.anchored < self.params.refresh_steps:
            return
        targets = self._anchors.of(subtasks_of(self.context.eval_datasets, None, who=WHO))
        self.direction, self.anchored = mean_direction(model, targets, self.context, self.params), step

    def weights(self, losses_B: torch.Tensor, context: WeightContext) -> torch.Tensor:
        """``sigmoid((score - centre) / tau)``; the losses are not looked at."""
        if context.hidden_BTH is None or context.segments_BT is None or self.direction is None:
            raise ComponentError(f"{WHO} was shown no hidden states. Train through dataflex, which shows them.")
        samples_BT = context.segments_BT
        if self.params.tokens is Tokens.TARGETS:
            samples_BT = samples_BT.masked_fill(context.inputs["labels"].to(samples_BT.device) == IGNORE_INDEX, -1)
        vectors_Bh = unit_vectors(context.hidden_BTH, samples_BT, len(losses_B), self.params.pooling)
        scores_B = mean_cosines(vectors_Bh, self.direction)
        context.note(scores_B)
        return gate(scores_B, self._centre(), self.params).to(losses_B.device)

    def on_step(self, stats: WeightedStep) -> None:
        """Add the step's scores to the window."""
        if self.params.centre is Centre.WINDOW and stats.noted is not None:
            self._scores.add_step(stats.noted)

    def _centre(self) -> float | None:
        if self.params.centre is Centre.NONE:
            return 0.0
        return float(self._scores.values.mean()) if len(self._scores) else None

    def state_dict(self) -> dict[str, Any]:
        """The direction and the step it is of, the window of scores, and the rows of the eval sets."""
        found = {} if self.direction is None else {"direction": self.direction, "anchored": self.anchored}
        window = {f"{_WINDOW}{name}": values for name, values in self._scores.state_dict().items()}
        return {**found, **window, **self._anchors.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        if "direction" in state:
            self.direction, self.anchored = np.asarray(state["direction"], np.float32), int(state["anchored"])
        named = {name: values for name, values in state.items() if name.startswith(_WINDOW)}
        self._scores.load_state_dict({name.removeprefix(_WINDOW): values for name, values in named.items()})
        self._anchors.load_state_dict(state)


def mean_cosines(vectors_Bh: torch.Tensor, direction: Direction) -> torch.Tensor:
    """The mean cosine of each unit vector with the anchors, fp32, shape [B]; 0 for one that points nowhere."""
    with torch.autocast(vectors_Bh.device.type, enabled=False):
        return (vectors_Bh @ torch.from_numpy(direction).to(vectors_Bh.device)).nan_to_num(0.0)


def gate(scores_B: torch.Tensor, centre: float | None, params: AdaptParams) -> torch.Tensor:
    """Weights of scores; a half for each while there is no centre to compare them with."""
    if centre is None:
        return torch.full_like(scores_B, 0.5)
    weights_B = torch.sigmoid((scores_B - centre) / params.tau)
    return weights_B if params.clip is None else weights_B.clamp(max=params.clip)
