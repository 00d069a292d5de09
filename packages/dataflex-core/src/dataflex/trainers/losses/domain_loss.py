"""The loss of a mix run whose mixer asked for it: watched, or weighted by domain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dataflex.components.asking import Asking
from dataflex.components.mix_context import DomainLosses, MixtureView, StepStats
from dataflex.errors import ComponentError
from dataflex.mixing.sampler import MixtureSampler
from dataflex.trainers.hooks import loss_not_seen
from dataflex.trainers.host import Host
from dataflex.trainers.losses.domain_tally import DomainTally
from dataflex.trainers.losses.loss_seam import LossSeam
from dataflex.trainers.losses.objective_seam import ObjectiveSeam
from dataflex.trainers.losses.shaper import Batches, PlainLoss, Rows
from dataflex.trainers.losses.step_loss import StepLoss


def refuse_unseen_losses(asking: Asking) -> None:
    """Refuse a mixer that would never be asked about the losses it wants.

    Raises:
        ComponentError: names the method.
    """
    for method in ("objective_weights", "token_scores"):
        if asking.defines(method):
            raise ComponentError(
                f"{asking.title} defines {method}() but does not declare Need.DOMAIN_LOSSES, without which it would "
                "never be called. Add it to the spec's needs."
            )


class DomainLoss(PlainLoss):
    """Adds up the losses of each domain, tells the mixer of each step, and weighs the domains if it says how.

    Args:
        host: The Trainer.
        asking: The mixer.
        view: Of the mixer; its losses are kept up to date.
        sampler: Knows the domain of a row.
        warmup: Optimizer steps before the mixer is told of any.

    Attributes:
        shown: Where the losses of micro-batches are shown.
        objective: The weights of the domains, if the mixer gives any.
    """

    sees_steps = True

    def __init__(self, host: Host, asking: Asking, view: MixtureView, sampler: MixtureSampler, *, warmup: int) -> None:
        self._host, self._asking, self._view, self._warmup = host, asking, view, warmup
        self._tally = DomainTally(sampler, host.accelerator)
        self.shown = LossSeam(self._tally, asking, step=lambda: int(host.state.global_step))
        self.objective = (
            ObjectiveSeam(host, self._tally, asking, domains=view.names, warmup=warmup)
            if asking.defines("objective_weights")
            else None
        )
        self._loss = StepLoss(host, tally=self.shown, objective=self.objective)
        self._untold: StepStats | None = None

    def begin_step(self, batches: Batches, rows: Sequence[Rows]) -> None:
        """Ask for the weights of the domains in the step."""
        self._loss.begin_step(batches, rows)

    def training_step(self, stock: Callable[[], Any], model: Any, inputs: Any, rows: Callable[[], Rows]) -> Any:
        """The Trainer's own, whose loss is looked at."""
        with self._loss.micro_batch(rows(), self.places_B):
            loss = stock()
        if not self._loss.saw_loss:
            raise loss_not_seen(self._host)
        return loss

    def compute_loss(self, stock: Callable[..., Any], model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The stock loss, or the weighted one; in evaluation the stock one."""
        if not self._loss.watching:
            return stock(model, inputs, *args, **kwargs)
        return self._loss.compute_loss(stock, model, inputs, *args, **kwargs)

    def step_end(self, step: int) -> None:
        """Add the step's losses to what the mixer sees; past the warm-up, tell it of them."""
        losses, scores = self._tally.take()
        self._view.update(step=step, losses=self._view.losses + losses)
        if step > self._warmup:
            self._tell(StepStats(step, losses, scores))

    def _tell(self, stats: StepStats) -> None:
        def untold() -> None:
            self._untold = stats

        self._asking.step_ended(stats.step, stats, untold)
        self._untold = None

    def resumed(self) -> None:
        """Tell the mixer of the step whose ``on_step`` failed."""
        if self._untold is not None:
            self._tell(self._untold)

    def state_dict(self) -> dict[str, Any]:
        """The step that the mixer could not be told of, if there is one."""
        untold = self._untold
        if untold is None:
            return {}
        losses = untold.losses
        numbers = [losses.sums.tolist(), losses.tokens.tolist(), losses.samples.tolist(), untold.scores.tolist()]
        return {"untold": {"step": untold.step, "losses": numbers}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        untold = state.get("untold")
        self._untold = None
        if untold is not None:
            sums, tokens, samples, scores = untold["losses"]
            losses = DomainLosses(np.array(sums, np.float64), np.array(tokens, np.int64), np.array(samples, np.int64))
            self._untold = StepStats(int(untold["step"]), losses, np.array(scores, np.float64))
