"""The mixer ``doremi``."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex import ComponentError, ConfigError, Mixer
from dataflex.components.mix_context import MicroBatch, MixContext, StepStats
from dataflex.scoring.reference.model import changed_identities, check_vocabulary, identities
from dataflex.scoring.reference.opening import open_reference
from dataflex_mixers_doremi.group_dro import GroupDro, official_weights
from dataflex_mixers_doremi.params import DoremiParams, Mode, Normalizer
from dataflex_mixers_doremi.reference_rows import warn_of_other_rows
from dataflex_mixers_doremi.weights import WEIGHTS_NAME, answer, write_weights

if TYPE_CHECKING:
    import torch
    from torch import nn

logger = logging.getLogger("dataflex")
Floats = npt.NDArray[np.float64]
_LISTED = 5  # domains a message names


class DoremiMixer(Mixer):
    """Weighs the domains in the loss by how far the model lags behind a reference model; moves after every step.

    The loss of step ``t`` uses the weights after step ``t - 1``, whatever the accumulation and the number of ranks.
    Source: Xie et al. 2023, arXiv 2305.10429.

    Raises:
        ConfigError: at construction, when the reference cannot be loaded or has another vocabulary.
    """

    params: DoremiParams
    context: MixContext

    def __init__(self, params: DoremiParams, context: MixContext) -> None:
        super().__init__(params, context)
        check_vocabulary(params.reference, context)
        self._hashes = identities(params.reference, context)
        self._reference = open_reference(
            params.reference, params.reference_losses, context, params.token_budget, self._hashes
        )
        self.dro = GroupDro.begin(len(context.domain_names), math.log(self._reference.vocabulary))
        if context.rank == 0:
            warn_of_absent_domains(context)
            warn_of_other_rows(params.reference, context, self._hashes["pool"])

    def token_scores(self, batch: MicroBatch) -> torch.Tensor:
        """Excess losses, clipped at 0 for each token."""
        return (batch.losses_BT - self._reference.token_losses(batch)).clamp(min=0)

    def on_step(self, stats: StepStats) -> None:
        """Move the weights by the excess losses of a whole optimizer step.

        Raises:
            ComponentError: when the loss of a domain is not finite: its excess is unknown, and the model is spoilt.
        """
        unknown = np.flatnonzero(~np.isfinite(stats.scores))
        if len(unknown):
            named = ", ".join(self.context.domain_names[k] for k in unknown)
            raise ComponentError(
                f"the training loss of {named} is not finite at step {stats.step}, so its excess over the reference is "
                "unknown. Lower learning_rate or train in bf16."
            )
        params = self.params
        self.dro.step(
            stats.scores,
            stats.losses.tokens,
            eta=params.eta,
            smoothing=params.smoothing,
            decay=params.online_decay,
        )

    def objective_weights(self, tokens: npt.NDArray[np.int64]) -> Floats:
        """The weights after the step before, for the mean loss of each domain."""
        if self.params.normalizer is Normalizer.PAPER:
            return self.dro.alpha
        return official_weights(self.dro.alpha, self.context.proportions, tokens)

    def mix(self, model: nn.Module, step_id: int, **kwargs: Any) -> Floats:
        """Proxy: those in force. Online: the moving average of the weights. The model is not used."""
        return self.dro.moving if self.params.mode is Mode.ONLINE else self.context.proportions

    def metrics(self) -> dict[str, Any]:
        """Weights now and on average, and the mean excess loss of the last step."""
        return {
            "alpha": self.dro.alpha.tolist(),
            "alpha_average": answer(self.dro, self.params).tolist(),
            "excess": self.dro.excess.tolist(),
        }

    def finished(self, step_id: int) -> None:
        """Leave the result in ``weights.json`` in the output directory; a run without a weighted step has none."""
        if self.context.rank or not self.dro.steps:
            return
        write_weights(
            self.context.output_dir / WEIGHTS_NAME,
            self.context.domain_names,
            self.dro,
            self.params,
            hashes=self._hashes,
            data=self.context.data_keys,
        )

    def state_dict(self) -> dict[str, Any]:
        """Where the weights have come to, and against which pool and reference."""
        return {**self.dro.state_dict(), "hashes": dict(self._hashes)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back.

        Raises:
            ConfigError: when it was found against another pool or another reference.
        """
        changed = changed_identities(state["hashes"], self._hashes, self.params.reference)
        if changed:
            raise ConfigError(
                f"the {' and the '.join(changed)} of mixer 'doremi' changed after the checkpoint was written, so its "
                f"weights would be averages over two. Restore what was there (the reference is "
                f"{self.params.reference}), or start anew in another output_dir."
            )
        self.dro = GroupDro.from_state(state)


def warn_of_absent_domains(context: MixContext) -> None:
    """Say so if the optimizer steps cannot hold every domain: what an absent one counts with is not measured."""
    samples = context.global_batch
    shares = zip(context.domain_names, context.proportions * samples, strict=True)
    rare = [name for name, share in shares if 0 < share < 1 - 1e-9]
    if not rare:
        return
    listed = ", ".join(rare[:_LISTED]) + (f" and {len(rare) - _LISTED} more" if len(rare) > _LISTED else "")
    logger.warning(
        "a step holds %d samples, so some steps have none of %s. DoReMi counts an absent domain with the excess "
        "of its last step, and until it is first seen with ln(vocabulary), which can decide the result. Raise "
        "gradient_accumulation_steps or the batch size.",
        *(samples, listed),
    )
