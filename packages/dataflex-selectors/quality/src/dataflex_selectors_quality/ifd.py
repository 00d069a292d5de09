"""The selector ``ifd``: instruction-following difficulty, how little a prompt helps with its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from dataflex import ConfigError, RunContext
from dataflex_selectors_quality.base import Floats, Preference, ranked
from dataflex_selectors_quality.params import IfdParams
from dataflex_selectors_quality.scored import ScoredSelector

if TYPE_CHECKING:
    from torch import nn

_AFTER, _ALONE, _TOKENS = "loss", "loss_without_prompt", "tokens"


@dataclass(frozen=True, eq=False)
class Difficulty:
    """Difficulties of rows.

    Attributes:
        scores: fp64, shape ``[N]``; NaN for a row without one.
        above_one: Rows without a score because the prompt made the answer less likely.
        too_short: Rows without a score because they have too few answer tokens.
    """

    scores: Floats
    above_one: int
    too_short: int


def difficulty(
    after: npt.ArrayLike,
    alone: npt.ArrayLike,
    tokens: npt.ArrayLike,
    *,
    ratio: Literal["loss", "ppl"] = "loss",
    least_tokens: int = 4,
) -> Difficulty:
    """Compare the loss of each answer after its prompt with that without it.

    Cherry_LLM (Li et al. 2024, arXiv 2308.12032) divides the losses; Superfiltering (Li et al. 2024, arXiv 2402.00530)
    the perplexities.

    Args:
        after: Mean losses after the prompt, shape ``[N]``.
        alone: Mean losses without it, of the same tokens.
        tokens: How many tokens.
        ratio: ``loss`` for ``after / alone``, ``ppl`` for ``exp(after - alone)``.
        least_tokens: Fewest tokens of a row with a score.
    """
    losses, bare, counts = (np.asarray(each, np.float64) for each in (after, alone, tokens))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        values = losses / bare if ratio == "loss" else np.exp(losses - bare)
    long_enough = counts >= least_tokens
    known = long_enough & np.isfinite(values) & (bare != 0)
    above = known & (values > 1)
    scores = np.where(known & ~above, values, np.nan)
    return Difficulty(scores, int(above.sum()), int((~long_enough).sum()))


class IfdSelector(ScoredSelector):
    """Take the rows whose prompt helps least with the answer, but does help: the highest ratios up to 1."""

    params: IfdParams
    forward = 2.0

    def spec(self) -> Mapping[str, Any]:
        """Losses of answers with and without prompt; what is made of them is not part of it."""
        return {"score": "ifd"}

    def measure(self, model: nn.Module, context: RunContext) -> Mapping[str, Floats]:
        """Two forward passes: each row, and its answers alone.

        Raises:
            ConfigError: for rows whose prompts are trained on, or with pictures.
        """
        from dataflex.scoring.cutting import has_media
        from dataflex.scoring.objective import refuse_own_loss
        from dataflex.scoring.passes import device_of
        from dataflex_selectors_quality.answers import answer_losses

        if context.stage == "pt":
            raise ConfigError("ifd compares an answer with and without its prompt; rows of stage: pt have none.")
        if has_media(context.dataset):
            raise ConfigError(
                "ifd compares an answer with and without its prompt, and these prompts hold pictures, films or sound, "
                "which it cannot leave out. Use component_name: perplexity, loss or column."
            )
        begin = getattr(getattr(context.tokenizer, "tokenizer", context.tokenizer), "bos_token_id", None)
        header, rows = context.answer_header, np.arange(len(context.dataset))
        device = device_of(context, model)
        refuse_own_loss(model, context.dataset, context.data_collator, rows, device, context.accelerator)
        found = context.score(
            model,
            rows,
            lambda model, batch: answer_losses(model, batch, header, begin),
            width=3,
            token_budget=self.params.token_budget,
            key=["ifd", list(header), begin],
        ).values
        return {_AFTER: found[:, 0], _ALONE: found[:, 1], _TOKENS: found[:, 2]}

    def preferred(self, model: nn.Module, step: int, count: int, free: npt.NDArray[np.bool_]) -> Preference:
        """The highest ratios first."""
        measured, metrics = self.measured(model)
        columns, params = measured.columns, self.params
        found = difficulty(
            columns[_AFTER], columns[_ALONE], columns[_TOKENS], ratio=params.ratio, least_tokens=params.least_tokens
        )
        order = ranked(found.scores)
        others = len(found.scores) - len(order) - found.above_one - found.too_short
        why = (
            f"{found.above_one} have a ratio above 1, {found.too_short} fewer than least_tokens={params.least_tokens} "
            f"answer tokens, {others} no prompt or no loss"
        )
        counts = {"above_one": float(found.above_one), "too_short": float(found.too_short)}
        return Preference(order, found.scores, why, {**metrics, **counts})
