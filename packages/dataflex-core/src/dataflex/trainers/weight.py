"""The Weight Trainer's planner: the stock order of the data, and the weights' normaliser from step to step."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dataflex.components.build import call_by_name
from dataflex.components.context import RunContext
from dataflex.components.weighter import Weighter
from dataflex.data.stock_order import StockOrder
from dataflex.errors import ComponentError, ConfigError, reason
from dataflex.math.weighting import HISTOGRAM_EDGES, token_mean_weight
from dataflex.math.window import StepWindow
from dataflex.schedule import Schedule
from dataflex.trainers.session import Session
from dataflex.trainers.weight_log import WeightLog
from dataflex.trainers.weight_seam import TakenStep, WeightSeam

logger = logging.getLogger("dataflex")

LEAST_SAMPLES = 64
"""Samples with targets that the window must hold before weights act: the mean of a handful swings the step size."""


class WeightPlanner:
    """Serves the epochs of the stock Trainer and lets a weighter act on the loss of each step past the warm-up.

    Args:
        trainer: The ``transformers.Trainer``.
        session: The run.
        schedule: Its stages, one an epoch.
        context: What a component may see of the run.

    Attributes:
        component: The weighter.
        domains: None.
        epoch_samples: Samples of one epoch over all ranks.
        loss_seam: Where the loss is weighted; ``None`` if the component does the whole training step.
    """

    domains: Sequence[str] = ()

    def __init__(self, trainer: Any, session: Session, schedule: Schedule, context: RunContext) -> None:
        if trainer.compute_loss_func is not None:
            raise ConfigError(
                "the Trainer has a compute_loss_func of its own, which a weighter would replace. Use one of the two."
            )
        self._trainer = trainer
        self.component = session.component(context)
        self.warmup = session.run.plan.steps.warmup
        samples = session.epoch_samples(trainer.train_dataset, trainer.args)
        self.epoch_samples: int | None = samples
        self._order = StockOrder(
            trainer.stock_sampler(), samples=samples, seed=context.seed, data_seed=trainer.args.data_seed
        )
        self._global_batch = context.global_batch
        self._epoch_steps = math.ceil(samples / context.global_batch)
        self.log = WeightLog()
        self._native, self._total = overrides_weights(self.component), schedule.total
        self._title, self._idle_said, self._too_late = session.title, False, False
        _check(self.component, session.title, native=self._native)
        self._window = StepWindow(_window(self.component), columns=2)
        self._needed = min(LEAST_SAMPLES, self._window.samples)
        self.loss_seam: WeightSeam | None = None
        if self.own_step is None:
            self.loss_seam = WeightSeam(
                trainer, self.component, native=self._native, warmup=self.warmup, title=session.title
            )
            self._normalise(self.loss_seam)
            self.loss_seam.announce = self._say_when

    @property
    def own_step(self) -> Callable[..., Any] | None:
        """The component's own ``training_step``, which then replaces the Trainer's."""
        return self.component.training_step if not self._native and has_own_step(self.component) else None

    def training_step(self, trainer: Any, model: Any, inputs: Any) -> Any:
        """Let the component do a micro-batch, warm-up included.

        It gets no ``num_items_in_batch``, so that the loss is a mean and its division by the accumulation steps right.
        """
        assert self.own_step is not None
        available = {
            "ctx": trainer,
            "model": model,
            "inputs": inputs,
            "num_items_in_batch": None,
            "use_weighter": trainer.state.global_step >= self.warmup,
        }
        loss = self.own_step(**call_by_name(inspect.signature(self.own_step), available))
        if not isinstance(loss, torch.Tensor):
            raise ComponentError(
                f"{self._title}: training_step() returned {type(loss).__name__}; it must return the detached loss."
            )
        return loss

    def plan(self, stage: int, step: int, num_samples: int) -> npt.NDArray[np.int64]:
        """The rest of an epoch from ``step`` on, or its first ``num_samples``; its last step may be a short one."""
        epoch, done = divmod(step, self._epoch_steps)
        start = done * self._global_batch
        rows = self._order.epoch(epoch)[start : start + num_samples]
        self._trainer.recorder.served(step, rows)
        return rows

    def step_end(self, step: int) -> None:
        """Move the window on: the next step's normaliser, and whatever the component keeps.

        Args:
            step: Optimizer steps done.
        """
        seam = self.loss_seam
        taken = seam.take() if seam is not None else None
        if seam is None or taken is None:
            return
        if step > self.warmup:
            self._count(taken, seam)
        if self._native and hasattr(self.component, "on_step"):
            try:
                self.component.on_step(taken.stats)
            except Exception as error:
                raise ComponentError(f"{self._title} failed in on_step() after step {step}: {reason(error)}") from error

    def _count(self, taken: TakenStep, seam: WeightSeam) -> None:
        """Let a weighted step into the log and the normaliser."""
        self.log.add(taken.stats)
        self._say_idle(taken)
        if not self._native or seam.whole_steps:
            return
        self._window.add_step(np.stack([taken.asked, taken.stats.tokens], axis=1))
        acted = seam.acts
        self._normalise(seam)
        if acted or not seam.acts:
            return
        self._too_late = taken.stats.step >= self._total  # there is no further step to act on
        if not self._too_late and self._trainer.is_world_process_zero():
            logger.info(
                "%s: the weights act from step %d on; their window holds %d samples.",
                *(self._title, taken.stats.step + 1, len(self._window)),
            )

    def _normalise(self, seam: WeightSeam) -> None:
        """Set what the weights of the next step are divided by, and whether they act, from the window."""
        if self._native and not seam.whole_steps:
            weights, tokens = self._window.values.T
            seam.normaliser, seam.acts = token_mean_weight(weights, tokens), len(self._window) >= self._needed

    def _say_when(self) -> None:
        """Say before the first step that weighted steps fill the window first; and if they never will."""
        if self.loss_seam is None or self.loss_seam.acts or not self._trainer.is_world_process_zero():
            return
        missing, begins = self._needed - len(self._window), max(self.warmup, int(self._trainer.state.global_step))
        steps = math.ceil(missing / self._global_batch)
        logger.info(
            "%s: until its window holds %d samples with targets, weights are computed and the loss is the plain one: "
            "%d steps past step %d, if each row is one sample.",
            *(self._title, self._needed, steps, begins),
        )
        if begins + steps >= self._total:
            logger.warning(
                "%s: the run ends after %d steps, so its weights will not act, unless rows are packed. %s",
                *(self._title, self._total, self._advice()),
            )

    def _advice(self) -> str:
        steps = self.warmup + math.ceil(self._needed / self._global_batch)
        return (
            f"Train more than {steps} steps, lower warmup_step, or lower the weighter's window "
            f"(component_params.window, if it has it) below {self._needed}."
        )

    def _say_idle(self, taken: TakenStep) -> None:
        stats = taken.stats
        if self._idle_said or not len(taken.asked) or taken.asked.any():
            return
        self._idle_said = True
        if not self._trainer.is_world_process_zero():
            return
        logger.warning(
            "%s: all %d samples of step %d had the weight 0, so nothing was learned from it. Later steps like it are "
            "not announced; dataflex/weight_mean in the log shows them.",
            *(self._title, len(stats.weights), stats.step),
        )

    def state_dict(self) -> dict[str, Any]:
        """Warm-up, window and what is to be logged, as JSON values."""
        window = {name: array.tolist() for name, array in self._window.state_dict().items()}
        step = int(self._trainer.state.global_step)
        return {"step": step, "warmup": self.warmup, "window": window, "log": self.log.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back.

        Raises:
            ConfigError: when steps that are done were weighted then and are not now, or the other way round.
        """
        if state["warmup"] != self.warmup and min(state["warmup"], self.warmup) < state["step"]:
            raise ConfigError(
                f"cannot resume at step {state['step']}: warmup_step was {state['warmup']} and is now {self.warmup}. "
                "Put it back, or start anew in another output_dir."
            )
        self._window.load_state_dict(state["window"])
        self.log.load_state_dict(state["log"])
        if self.loss_seam is not None:
            self._normalise(self.loss_seam)

    def finish(self, step: int) -> None:
        """Say so if the weights never acted."""
        seam = self.loss_seam
        if seam is not None and (self._too_late or not seam.acts) and self._trainer.is_world_process_zero():
            logger.warning(
                "%s: its window holds %d samples with targets after step %d; weights act once it holds %d. They never "
                "acted: the loss was the plain one throughout. %s",
                *(self._title, len(self._window), step, self._needed, self._advice()),
            )

    def log_values(self) -> dict[str, float]:
        """What the weights of the steps since the last log were."""
        return self.log.take()

    def log_histogram(self) -> Mapping[str, Sequence[float]]:
        """The weights of those steps."""
        counts = self.log.take_histogram()
        return {"edges": HISTOGRAM_EDGES.tolist(), "counts": counts} if counts else {}


def overrides_weights(component: Any) -> bool:
    """Whether a component is native: it defines ``weights`` itself."""
    own = getattr(type(component), "weights", None)
    return own is not None and own is not Weighter.weights


def has_own_step(component: Any) -> bool:
    """Whether a component defines ``training_step`` itself: what :class:`Weighter` has is for ``super()`` only."""
    own = getattr(component, "training_step", None)
    return own is not None and getattr(own, "__func__", own) is not Weighter.training_step


def _window(component: Any) -> Any:
    """The window a native weighter asks for, with or without our base class; other styles have no normaliser."""
    return getattr(component, "window", Weighter.window) if overrides_weights(component) else Weighter.window


def _check(component: Any, title: str, *, native: bool) -> None:
    """Refuse, before anything trains, a class whose methods or settings do not go together.

    Raises:
        ComponentError: says what is missing, doubled or out of range.
    """
    own_step = has_own_step(component)
    if native and own_step:
        raise ComponentError(
            f"{title} has both weights() and training_step(), of which only one can make the loss. Leave one out."
        )
    if not native and not own_step and not hasattr(component, "get_weighted_loss"):
        raise ComponentError(f"{title} weighs nothing: it has no weights(), get_weighted_loss() or training_step().")
    chunk = getattr(component, "chunk_tokens", None)
    for name, value in (("window", _window(component)), ("chunk_tokens", 1 if chunk is None else chunk)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ComponentError(f"{title}: its attribute {name} must be a whole number of at least 1, not {value!r}.")
