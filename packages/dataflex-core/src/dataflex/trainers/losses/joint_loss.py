"""The loss of a run with several components that look at it: one cross entropy, all their factors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dataflex.trainers.hooks import loss_not_seen
from dataflex.trainers.host import Host
from dataflex.trainers.losses.domain_loss import DomainLoss
from dataflex.trainers.losses.shaper import Batches, PlainLoss, Rows
from dataflex.trainers.losses.step_loss import StepLoss
from dataflex.trainers.losses.weighing import Weighing

_MIXER, _WEIGHTER = "mixer_steps", "weighter"


class JointLoss(PlainLoss):
    """Shows the mixer the losses of its domains and trains on them weighted by domain, place in the plan and sample.

    Args:
        host: The Trainer.
        domains: Of a mixer that asked for losses.
        weighing: Of a weighter.
    """

    def __init__(
        self,
        host: Host,
        *,
        domains: DomainLoss | None = None,
        weighing: Weighing | None = None,
    ) -> None:
        self._host, self._domains, self._weighing = host, domains, weighing
        self.sees_steps = domains is not None or weighing is not None
        self._loss = StepLoss(
            host,
            tally=None if domains is None else domains.shown,
            objective=None if domains is None else domains.objective,
            weighing=None if weighing is None else weighing.seam,
        )

    def begin_step(self, batches: Batches, rows: Sequence[Rows]) -> None:
        """Ask for the weights of the domains in the step; take the micro-batches that weights may depend on."""
        self._loss.begin_step(batches, rows)

    def training_step(self, stock: Callable[[], Any], model: Any, inputs: Any, rows: Callable[[], Rows]) -> Any:
        """The Trainer's own, whose loss is looked at or weighted."""
        with self._loss.micro_batch(rows(), self.places_B):
            loss = stock()
        if not self._loss.saw_loss:
            raise loss_not_seen(self._host)
        return loss

    def compute_loss(self, stock: Callable[..., Any], model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The weighted loss; the stock one in evaluation, and where nobody weighs."""
        if not self._loss.watching:
            return stock(model, inputs, *args, **kwargs)
        return self._loss.compute_loss(stock, model, inputs, *args, **kwargs)

    def step_end(self, step: int) -> None:
        """Tell the mixer, then the weighter.

        What the weighter is to be told is kept before the mixer is: if the mixer fails, a repaired run tells it too.
        """
        if self._weighing is not None:
            self._weighing.note_step(step)
        if self._domains is not None:
            self._domains.step_end(step)
        if self._weighing is not None:
            self._weighing.resumed()

    def resumed(self) -> None:
        """Tell both what they were not told before the checkpoint."""
        for _, part in self._parts():
            part.resumed()

    def finish(self, step: int) -> None:
        """Let the weighter note the end of the run."""
        if self._weighing is not None:
            self._weighing.finish(step)

    def log_values(self) -> Mapping[str, float]:
        """What the weights were."""
        return {} if self._weighing is None else self._weighing.log_values()

    def log_histogram(self) -> Mapping[str, Sequence[float]]:
        """Likewise."""
        return {} if self._weighing is None else self._weighing.log_histogram()

    def state_dict(self) -> dict[str, Any]:
        """What both must remember, each under a name of its own."""
        return {name: part.state_dict() for name, part in self._parts()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        for name, part in self._parts():
            part.load_state_dict(state[name])

    def _parts(self) -> list[tuple[str, DomainLoss | Weighing]]:
        parts: list[tuple[str, DomainLoss | Weighing]] = []
        if self._domains is not None:
            parts.append((_MIXER, self._domains))
        if self._weighing is not None:
            parts.append((_WEIGHTER, self._weighing))
        return parts
