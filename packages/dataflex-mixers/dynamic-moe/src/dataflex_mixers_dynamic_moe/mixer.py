"""The mixer ``dynamic_moe``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex import ComponentError, Mixer
from dataflex.components.mix_context import MixContext
from dataflex.data.scoring_loader import ScoringLoader
from dataflex.data.view import rows_of
from dataflex_mixers_dynamic_moe.params import DynamicMoeParams, Layer

if TYPE_CHECKING:
    from torch import nn

Floats = npt.NDArray[np.float64]


class DynamicMoeMixer(Mixer):
    """Give more to the domains whose tokens are sent to other experts than those of the others.

    At each boundary the same rows of each domain are run through the model, dealt out over the ranks. The proportions
    in force are what is moved.

    Source: algorithm 1 of Zhu et al. 2025 (arXiv 2406.11256).
    """

    params: DynamicMoeParams
    context: MixContext

    def __init__(self, params: DynamicMoeParams, context: MixContext) -> None:
        super().__init__(params, context)
        self._rows = [context.fixed_rows(name, params.max_samples) for name in context.domain_names]
        self._shape: tuple[int, int] | None = None
        self._metrics: dict[str, list[float]] = {}

    def mix(self, model: nn.Module, step_id: int, **kwargs: Any) -> Floats:
        """Count, compare and move.

        Raises:
            ConfigError: for a model without router logits.
            ComponentError: when the model has diverged.
        """
        from dataflex_mixers_dynamic_moe.loads import differences, reweighted, without_new_hooks

        params = self.params
        with without_new_hooks(model):
            loads = self._loads(model)
        apart = np.mean([differences(of_layer) for of_layer in loads], axis=0)
        self._metrics = {"load_difference": apart.tolist()}
        return reweighted(self.context.proportions, apart, eta=params.eta, smoothing=params.smoothing)

    def _loads(self, model: nn.Module) -> Floats:
        """Tokens that each expert is sent by each domain's rows, shape [layers, domains, experts]."""
        from dataflex.scoring.passes import device_of
        from dataflex_mixers_dynamic_moe.loads import chosen_experts, counting, experts_of

        context, rows = self.context, np.concatenate(self._rows)
        view = rows_of(context.dataset, rows.tolist())
        if self._shape is None:
            loader = ScoringLoader(view, context.data_collator, [0], device=device_of(context, model))
            self._shape = experts_of(model, next(iter(loader))[1])
        layers, experts = self._shape
        used = slice(-1, None) if self.params.layer is Layer.LAST else slice(None)
        width = len(range(layers)[used]) * experts
        looked_at = dataclasses.replace(context, dataset=view)
        found = looked_at.score(
            model,
            np.arange(len(rows)),
            counting(used, chosen_experts(model)),
            width=width,
            token_budget=self.params.token_budget,
            what="counted the experts of",
        )
        if found.non_finite:
            raise ComponentError(
                f"the router of the model gives no finite numbers for {found.non_finite} rows. Lower learning_rate or "
                "train in bf16."
            )
        ends = np.cumsum([len(own) for own in self._rows])[:-1]
        by_domain = [part.sum(axis=0) for part in np.split(found.values.reshape(len(rows), -1), ends)]
        loads: Floats = np.stack(by_domain).reshape(len(by_domain), -1, experts).transpose(1, 0, 2)
        return loads

    def metrics(self) -> dict[str, list[float]]:
        """How far each domain's loads lie from the others'."""
        return self._metrics
