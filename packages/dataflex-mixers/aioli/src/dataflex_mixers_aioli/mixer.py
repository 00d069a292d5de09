"""The mixer ``aioli``."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dataflex import ConfigError, Mixer
from dataflex.components.mix_context import MixContext
from dataflex.components.passes import Subtask
from dataflex.scoring.subtasks import subtasks_of
from dataflex.scoring.validation import ValidationRows
from dataflex_mixers_aioli.matrix import Floats, influence, shares_of_influence, turns, updated
from dataflex_mixers_aioli.params import AioliParams, Prior, unfit_domains

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger("dataflex")


class AioliMixer(Mixer):
    """Gives each domain short turns, measures which losses fall, and mixes by it until the next sweep.

    Each boundary ends a turn or begins a round. A sweep has ``rounds`` times as many turns as there are domains; what
    it found holds for the rest of the round.
    Source: Chen et al. 2024, arXiv 2411.05735, Algorithm 2, and the code released with it.

    Raises:
        ConfigError: at construction, for a number of domains that it is not made for, or an unknown target.

    Attributes:
        shares: What each domain has of the influence found by the sweeps so far; ``None`` before the first has ended.
    """

    params: AioliParams
    context: MixContext

    def __init__(self, params: AioliParams, context: MixContext) -> None:
        super().__init__(params, context)
        domains = len(context.domain_names)
        if refusal := unfit_domains(domains, params.hot, params.force):
            raise ConfigError(refusal)
        named = params.targets
        self._targets = subtasks_of(context.eval_datasets, None, named, who="mixer aioli") if named else []
        self._validation = ValidationRows(context, params.max_samples)
        self._measured = list(params.targets or context.domain_names)
        self._turns = turns(domains, params.hot)
        uniform = params.prior is Prior.UNIFORM
        self._proportions: Floats = np.full(domains, 1 / domains) if uniform else context.proportions.copy()
        self.shares: Floats | None = None
        self._influence: Floats | None = None
        self._turn = -1  # of the sweep; -1 between two sweeps
        self._began = -1  # optimizer step at which the round began; -1 before the first
        self._order = np.arange(domains)
        self._before: Floats = np.full(len(self._measured), np.nan)
        self._drops: Floats = np.zeros((len(self._measured), domains))

    def mix(self, model: nn.Module, step_id: int, **kwargs: Any) -> Floats:
        """The mixture of the next turn or, between two sweeps, the proportions found."""
        if self._turn < 0 and self._began >= 0 and step_id < self._began + self.params.round_steps:
            return self._proportions
        losses = self._losses(model)
        domains = len(self._turns)
        if self._turn < 0:
            self._turn, self._began = 0, step_id
            self._drops = np.zeros_like(self._drops)
        else:
            self._drops[:, self._order[self._turn % domains]] += (self._before - losses) / self.params.rounds
            self._turn += 1
            self._require_room(step_id)
        if self._turn == self.params.rounds * domains:
            self._turn = -1
            self._update(step_id)
            return self._proportions
        if self._turn % domains == 0:
            names = self.context.domain_names
            self._order = np.argsort([self.context.domain_rng(step_id, name).random() for name in names])
        self._before = losses
        mixture: Floats = self._turns[self._order[self._turn % domains]]
        return mixture

    def metrics(self) -> dict[str, list[float | None]]:
        """Shares of the influence that the last sweep found, and the proportions found by it."""
        shares = [None] * len(self._proportions) if self.shares is None else self.shares.tolist()
        return {"influence": shares, "found_proportions": self._proportions.tolist()}

    def state_dict(self) -> dict[str, Any]:
        """Where the sweep has come to, what it has measured, and what was found before it."""
        none = np.full(self._drops.shape, np.nan)
        return {
            "measured": list(self._measured),
            "turn": self._turn,
            "began": self._began,
            "order": self._order,
            "before": self._before,
            "drops": self._drops,
            "proportions": self._proportions,
            "influence": none if self._influence is None else self._influence,
            "shares": none[0] if self.shares is None else self.shares,
            **self._validation.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back.

        Raises:
            ConfigError: when a sweep under way has measured other losses.
        """
        if list(state["measured"]) != self._measured:
            raise ConfigError(
                f"mixer 'aioli' has measured the losses of {', '.join(state['measured'])} up to the checkpoint, and "
                f"targets now means {', '.join(self._measured)}. Restore targets, or start anew in another output_dir."
            )
        self._turn, self._began = int(state["turn"]), int(state["began"])
        self._order = np.array(state["order"], np.int64)
        self._before, self._drops, self._proportions = (
            np.array(state[name], np.float64) for name in ("before", "drops", "proportions")
        )
        self._influence, self.shares = _known(state["influence"]), _known(state["shares"])
        self._validation.load_state_dict(state)

    def _update(self, step: int) -> None:
        """Set the proportions by what the sweep measured; they stay where that says nothing."""
        found = influence(self._drops, self._turns)
        if self._influence is not None:
            found = self.params.ema * self._influence + (1 - self.params.ema) * found
        shares = shares_of_influence(found)
        if shares is None:
            if self.context.rank == 0:
                logger.warning(
                    "the sweep of mixer 'aioli' that ended at step %d measured no fall of any loss, or losses that are "
                    "no numbers: the proportions stay as they were.",
                    step,
                )
            return
        self._influence, self.shares = found, shares
        self._proportions = updated(self._proportions, shares, self.params.eta)

    def _losses(self, model: nn.Module) -> Floats:
        """The losses that are to fall, on the same rows at every turn."""
        if self._targets:
            return np.array([self._loss_of_target(model, target) for target in self._validation.of(self._targets)])
        most = self.params.max_samples
        return np.array([self.context.evaluate(name, most, rows="fixed") for name in self._measured])

    def _loss_of_target(self, model: nn.Module, target: Subtask) -> float:
        context = dataclasses.replace(self.context, dataset=target.dataset)
        found = context.passes.losses(context, model, target.rows, token_budget=None, key=None)
        means, targets = found.means[target.rows], found.targets[target.rows]
        return float(np.nansum(means * targets) / targets.sum()) if targets.any() else np.nan

    def _require_room(self, step: int) -> None:
        """Refuse a round that its own sweep fills, after the first turn.

        Raises:
            ConfigError: says how long the sweep is.
        """
        sweep = (step - self._began) * self.params.rounds * len(self._turns)
        if self._turn == 1 and self.params.round_steps <= sweep:
            raise ConfigError(
                f"round_steps: {self.params.round_steps} of mixer 'aioli' is no longer than its sweep of {sweep} steps"
                ". Raise it, or lower rounds or update_step."
            )


def _known(values: Any) -> Floats | None:
    array = np.array(values, np.float64)
    return None if np.isnan(array).any() else array
