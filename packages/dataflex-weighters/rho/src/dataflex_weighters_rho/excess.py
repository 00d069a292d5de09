"""The reference of a run, and what its losses are subtracted for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from dataflex import ConfigError, RunContext
from dataflex.scoring.reference.model import Reference, changed_identities, check_vocabulary, identities
from dataflex.scoring.reference.opening import open_reference
from dataflex_weighters_rho.params import RhoParams


class RunReference:
    """The reference, and the identities of it and of the pool that a checkpoint keeps.

    Args:
        params: Which one, and where its losses come from.
        context: The run.
        who: The component, for messages.

    Attributes:
        losses: Gives its losses.

    Raises:
        ConfigError: when it cannot be loaded or has another vocabulary.
    """

    def __init__(self, params: RhoParams, context: RunContext, who: str) -> None:
        check_vocabulary(params.reference, context)
        self._name, self._who = params.reference, who
        self._hashes = identities(params.reference, context)
        self.losses: Reference = open_reference(
            params.reference, params.reference_losses, context, params.token_budget, self._hashes
        )

    def state_dict(self) -> dict[str, Any]:
        """What tells pool and reference from others."""
        return {"hashes": dict(self._hashes)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Compare.

        Raises:
            ConfigError: when the checkpoint was written beside another pool or another reference.
        """
        changed = changed_identities(state["hashes"], self._hashes, self._name)
        if changed:
            raise ConfigError(
                f"the {' and the '.join(changed)} of {self._who} changed after the checkpoint was written. Restore "
                f"what was there (the reference is {self._name}), or start anew in another output_dir."
            )


def excess_weights(losses_B: torch.Tensor, reference_B: torch.Tensor) -> torch.Tensor:
    """``max(0, loss - reference loss)``, shape [B]; 1 for a loss that is not finite, which so shows in training."""
    return torch.where(torch.isfinite(losses_B), (losses_B - reference_B).clamp(min=0), torch.ones_like(losses_B))
