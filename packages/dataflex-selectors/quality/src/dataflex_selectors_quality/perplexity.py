"""The selector ``perplexity``: rows of one band of the perplexities that a model gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex import RunContext
from dataflex.math.bands import in_band
from dataflex_selectors_quality.base import Floats, Preference
from dataflex_selectors_quality.params import PerplexityParams
from dataflex_selectors_quality.scored import ScoredSelector

if TYPE_CHECKING:
    from torch import nn

_LOSS = "loss"


class PerplexitySelector(ScoredSelector):
    """Draw rows uniformly from one band of the perplexities; rows outside it have no score.

    The perplexity of a row is exp of its mean loss per target token: of the answer after its prompt, and of all tokens
    under ``stage: pt``. Papers: Marion et al. 2023 (arXiv 2309.04564), Ankner et al. 2024 (arXiv 2405.20541).
    """

    params: PerplexityParams

    def spec(self) -> Mapping[str, Any]:
        """Mean losses of rows."""
        return {"score": "perplexity"}

    def measure(self, model: nn.Module, context: RunContext) -> Mapping[str, Floats]:
        """A forward pass of each row."""
        rows = range(len(context.dataset))
        found = context.losses(model, rows, token_budget=self.params.token_budget, key=["perplexity"])
        return {_LOSS: found.means}

    def preferred(self, model: nn.Module, step: int, count: int, free: npt.NDArray[np.bool_]) -> Preference:
        """The rows of the band, in random order."""
        measured, metrics = self.measured(model)
        with np.errstate(over="ignore"):
            scores = np.exp(measured.columns[_LOSS])
        scores[~np.isfinite(scores)] = np.nan
        params, known = self.params, np.isfinite(scores)
        inside = in_band(scores, params.quantiles, params.band) if known.any() else known
        order = self.context.rng(step, "band").permutation(np.flatnonzero(inside))
        why = (
            f"{int((~known).sum())} have no finite perplexity (no target token, or a loss that is not finite), "
            f"{int(known.sum()) - len(order)} lie outside band: {params.band}, which quantiles widen"
        )
        quantiles = np.quantile(scores[known], [0, 0.25, 0.5, 0.75, 1]).tolist() if known.any() else []
        return Preference(order, np.where(inside, scores, np.nan), why, {**metrics, "perplexity_quantiles": quantiles})
