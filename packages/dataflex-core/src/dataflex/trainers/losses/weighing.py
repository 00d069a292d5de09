"""The loss of a weight run: the weights' normaliser from step to step, and whoever does the training step."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataflex.components.asking import Asking
from dataflex.components.weight_context import WeightedStep
from dataflex.components.weighter import Weighter
from dataflex.config.plan import Part
from dataflex.errors import ComponentError, ConfigError
from dataflex.math.weighting import HISTOGRAM_EDGES, domain_normalisers
from dataflex.math.window import StepWindow
from dataflex.spec import Need
from dataflex.trainers.hooks import loss_not_seen
from dataflex.trainers.host import Host
from dataflex.trainers.losses.own_step import OwnStep, check_warmup, kept_state, kept_window
from dataflex.trainers.losses.shaper import Batches, PlainLoss, Rows
from dataflex.trainers.losses.step_loss import StepLoss
from dataflex.trainers.losses.units import TakenStep
from dataflex.trainers.losses.weight_log import WeightLog
from dataflex.trainers.losses.weight_seam import DomainOf, WeightSeam, sees_whole_steps
from dataflex.trainers.slots import Filled, Opening

logger = logging.getLogger("dataflex")

LEAST_SAMPLES = 64
"""Samples with targets that the window must hold before weights act: the mean of a handful swings the step size."""

LEAST_OF_DOMAIN = 32
"""Samples that a domain must have shown before its weights are divided by a mean of their own."""


def fill(opening: Opening, part: Part, domains: WeighedDomains | None = None) -> Filled:
    """Let a weighter shape the loss; ``domains`` are those of a run with a mixer.

    Raises:
        ConfigError: when the Trainer has a loss function of its own.
        ComponentError: when methods or settings of the class do not go together.
    """
    host, warmup = opening.host, opening.session.run.facts.steps.warmup
    if host.compute_loss_func is not None:
        raise ConfigError(
            "the Trainer has a compute_loss_func of its own, which a weighter would replace. Use one of the two."
        )
    asking = opening.parts.open(part, opening.context)
    _check(asking)
    if not asking.defines("weights") and asking.defines("training_step"):
        return Filled(loss=OwnStep(host, asking, warmup=warmup))
    total, global_batch = opening.schedule.total, opening.context.global_batch
    sees_hidden = Need.HIDDEN_STATES in part.entry.spec.needs
    if sees_hidden and sees_whole_steps(asking):
        raise ComponentError(
            f"{asking.title} asks for hidden states (Need.HIDDEN_STATES) and for all losses of a step before any "
            "sample is weighed (statistics: batch). Only one of the two is to be had."
        )
    weighing = Weighing(
        host,
        asking,
        warmup=warmup,
        total=total,
        global_batch=global_batch,
        domains=domains,
        sees_hidden=sees_hidden,
    )
    return Filled(loss=weighing)


@dataclass(frozen=True)
class WeighedDomains:
    """The domains of a run with a mixer, in each of which weights are normalised by themselves.

    Attributes:
        names: Theirs.
        of: Index of the domain of each of some rows.
    """

    names: tuple[str, ...]
    of: DomainOf


class Weighing(PlainLoss):
    """Normalises the weights of samples over windows of steps, tells the weighter of each, and logs.

    Without domains there is one window. With them there is one for each: see
    :func:`~dataflex.math.weighting.domain_normalisers`.

    Args:
        host: The Trainer.
        asking: The weighter.
        warmup: Optimizer steps before it acts.
        total: Optimizer steps of the run.
        global_batch: Samples of one optimizer step over all ranks.
        domains: The domains, in a run with a mixer.
        sees_hidden: Whether the weighter is shown hidden states.

    Attributes:
        log: What the weights were.
        seam: Where they act.
    """

    sees_steps = True

    def __init__(
        self,
        host: Host,
        asking: Asking,
        *,
        warmup: int,
        total: int,
        global_batch: int,
        domains: WeighedDomains | None = None,
        sees_hidden: bool = False,
    ) -> None:
        self._host, self._asking, self._warmup = host, asking, warmup
        self._total, self._global_batch = total, global_batch
        self.log = WeightLog()
        self._native = asking.defines("weights")
        self._idle_said, self._too_late = False, False
        self._names = () if domains is None else domains.names
        self._windows = [StepWindow(_window(asking), columns=2) for _ in self._names or ("",)]
        self._needed = min(LEAST_SAMPLES, _window(asking))
        self._untold: WeightedStep | None = None
        domain_of = None if domains is None else domains.of
        self.seam = WeightSeam(
            host, asking, warmup=warmup, domain_of=domain_of, domains=len(self._windows), sees_hidden=sees_hidden
        )
        self._loss = StepLoss(host, weighing=self.seam)
        self._normalise()
        self.seam.announce = self._say_when

    def begin_step(self, batches: Batches, rows: Sequence[Rows]) -> None:
        """Take the micro-batches, on which the weights may depend."""
        self._loss.begin_step(batches, rows)

    def training_step(self, stock: Callable[[], Any], model: Any, inputs: Any, rows: Callable[[], Rows]) -> Any:
        """The Trainer's own, whose loss is weighted."""
        with self._loss.micro_batch(rows(), self.places_B):
            loss = stock()
        if not self._loss.saw_loss:
            raise loss_not_seen(self._host)
        return loss

    def compute_loss(self, stock: Callable[..., Any], model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The weighted loss; in the warm-up and in evaluation the stock one."""
        if not self._loss.watching:
            return stock(model, inputs, *args, **kwargs)
        return self._loss.compute_loss(stock, model, inputs, *args, **kwargs)

    def step_end(self, step: int) -> None:
        """Move the window on: the next step's normaliser, and whatever the component keeps."""
        self.note_step(step)
        self.resumed()

    def note_step(self, step: int) -> None:
        """Take up the step that has ended; the weighter has yet to be told of it."""
        taken = self.seam.take()
        if taken is None:
            return
        if step > self._warmup:
            self._count(taken)
        if self._native:
            self._untold = taken.stats

    def _tell(self, stats: WeightedStep) -> None:
        def untold() -> None:
            self._untold = stats

        self._untold = None
        self._asking.step_ended(stats.step, stats, untold)

    def resumed(self) -> None:
        """Tell the weighter of the step that it has not been told of."""
        if self._untold is not None:
            self._tell(self._untold)

    def _count(self, taken: TakenStep) -> None:
        """Let a weighted step into the log and the normaliser."""
        seam = self.seam
        self.log.add(taken.stats)
        self._say_idle(taken)
        if not self._native or seam.whole_steps:
            return
        samples = np.stack([taken.asked, taken.stats.tokens], axis=1)
        for domain, window in enumerate(self._windows):
            window.add_step(samples[taken.domains == domain])
        acted = seam.acts
        self._normalise()
        if acted or not seam.acts:
            return
        self._too_late = taken.stats.step >= self._total  # there is no further step to act on
        if not self._too_late and self._host.is_world_process_zero():
            logger.info(
                "%s: the weights act from step %d on; their window holds %d samples.",
                *(self._asking.title, taken.stats.step + 1, self._held),
            )

    def _normalise(self) -> None:
        """Set what the weights of the next step are divided by, and whether they act, from the window."""
        seam = self.seam
        if self._native and not seam.whole_steps:
            windows = [window.values for window in self._windows]
            least = min(LEAST_OF_DOMAIN, self._windows[0].samples)
            seam.normalisers, seam.acts = domain_normalisers(windows, least=least), self._held >= self._needed

    @property
    def _held(self) -> int:
        """Samples that the windows hold, of all domains."""
        return sum(map(len, self._windows))

    def _say_when(self) -> None:
        """Say before the first step that weighted steps fill the window first; and if they never will."""
        if self.seam.acts or not self._host.is_world_process_zero():
            return
        missing, begins = self._needed - self._held, max(self._warmup, int(self._host.state.global_step))
        steps = math.ceil(missing / self._global_batch)
        logger.info(
            "%s: until its window holds %d samples with targets, weights are computed and the loss is the plain one: "
            "%d steps past step %d, if each row is one sample.",
            *(self._asking.title, self._needed, steps, begins),
        )
        if begins + steps >= self._total:
            logger.warning(
                "%s: the run ends after %d steps, so its weights will not act, unless rows are packed. %s",
                *(self._asking.title, self._total, self._advice()),
            )

    def _advice(self) -> str:
        steps = self._warmup + math.ceil(self._needed / self._global_batch)
        return (
            f"Train more than {steps} steps, lower warmup_step, or lower the weighter's window "
            f"(component_params.window, if it has it) below {self._needed}."
        )

    def _say_idle(self, taken: TakenStep) -> None:
        stats = taken.stats
        if self._idle_said or not len(taken.asked) or taken.asked.any():
            return
        self._idle_said = True
        if not self._host.is_world_process_zero():
            return
        logger.warning(
            "%s: all %d samples of step %d had the weight 0, so nothing was learned from it. Later steps like it are "
            "not announced; dataflex/weight_mean in the log shows them.",
            *(self._asking.title, len(stats.weights), stats.step),
        )

    def state_dict(self) -> dict[str, Any]:
        """Warm-up, window and what is to be logged, as JSON values; and the step that was not told, if there is one."""
        state = kept_state(int(self._host.state.global_step), self._warmup, self._windows[0], self.log)
        if self._names:
            del state["window"]
            state["windows"] = {name: kept_window(one) for name, one in zip(self._names, self._windows, strict=True)}
        stats = self._untold
        if stats is not None:
            named = ("losses", "tokens", "weights") if stats.noted is None else ("losses", "tokens", "weights", "noted")
            numbers = {name: getattr(stats, name).tolist() for name in named}
            state["untold"] = {"step": stats.step, **numbers}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back.

        Raises:
            ConfigError: when steps that are done were weighted then and are not now, or the other way round.
        """
        check_warmup(state, self._warmup)
        saved = [state["windows"][name] for name in self._names] if self._names else [state["window"]]
        for window, kept in zip(self._windows, saved, strict=True):
            window.load_state_dict(kept)
        self.log.load_state_dict(state["log"])
        untold = state.get("untold")
        self._untold = None
        if untold is not None:
            numbers = {name: np.array(values, np.float64) for name, values in untold.items() if name != "step"}
            self._untold = WeightedStep(step=int(untold["step"]), **numbers)
        self._normalise()

    def finish(self, step: int) -> None:
        """Say so if the weights never acted."""
        if (self._too_late or not self.seam.acts) and self._host.is_world_process_zero():
            logger.warning(
                "%s: its window holds %d samples with targets after step %d; weights act once it holds %d. They never "
                "acted: the loss was the plain one throughout. %s",
                *(self._asking.title, self._held, step, self._needed, self._advice()),
            )

    def log_values(self) -> dict[str, float]:
        """What the weights of the steps since the last log were."""
        return self.log.take()

    def log_histogram(self) -> Mapping[str, Sequence[float]]:
        """The weights of those steps."""
        counts = self.log.take_histogram()
        return {"edges": HISTOGRAM_EDGES.tolist(), "counts": counts} if counts else {}


def _window(asking: Asking) -> Any:
    """The window a native weighter asks for, with or without our base class; other styles have no normaliser."""
    return asking.attribute("window") if asking.defines("weights") else Weighter.window


def _check(asking: Asking) -> None:
    """Refuse, before anything trains, a class whose methods or settings do not go together.

    Raises:
        ComponentError: says what is missing, doubled or out of range.
    """
    native, own_step, title = asking.defines("weights"), asking.defines("training_step"), asking.title
    if native and own_step:
        raise ComponentError(
            f"{title} has both weights() and training_step(), of which only one can make the loss. Leave one out."
        )
    if not native and not own_step and not asking.defines("get_weighted_loss"):
        raise ComponentError(f"{title} weighs nothing: it has no weights(), get_weighted_loss() or training_step().")
    chunk = asking.attribute("chunk_tokens")
    for name, value in (("window", _window(asking)), ("chunk_tokens", 1 if chunk is None else chunk)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ComponentError(f"{title}: its attribute {name} must be a whole number of at least 1, not {value!r}.")
