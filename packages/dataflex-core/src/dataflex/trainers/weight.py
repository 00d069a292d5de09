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
from dataflex.components.weight_context import WeightedStep
from dataflex.components.weighter import Weighter
from dataflex.data.stock_order import StockOrder
from dataflex.errors import ComponentError, ConfigError, reason
from dataflex.math.weighting import HISTOGRAM_EDGES, token_mean_weight
from dataflex.math.window import StepWindow
from dataflex.schedule import Schedule
from dataflex.trainers.session import Session
from dataflex.trainers.weight_log import WeightLog
from dataflex.trainers.weight_seam import WeightSeam

logger = logging.getLogger("dataflex")


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
        self._native = overrides_weights(self.component)
        self._title, self._idle_said = session.title, False
        _check(self.component, session.title, native=self._native)
        self._window = StepWindow(_window(self.component), columns=2)
        self.loss_seam: WeightSeam | None = None
        if self.own_step is None:
            self.loss_seam = WeightSeam(
                trainer, self.component, native=self._native, warmup=self.warmup, title=session.title
            )

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
        stats = seam.take() if seam is not None else None
        if seam is None or stats is None:
            return
        if step > self.warmup:
            self._count(stats, seam)
        if self._native and hasattr(self.component, "on_step"):
            try:
                self.component.on_step(stats)
            except Exception as error:
                raise ComponentError(f"{self._title} failed in on_step() after step {step}: {reason(error)}") from error

    def _count(self, stats: WeightedStep, seam: WeightSeam) -> None:
        """Let a weighted step into the log and the normaliser."""
        self.log.add(stats)
        self._say_idle(stats)
        if self._native:
            self._window.add_step(np.stack([stats.weights * seam.normaliser, stats.tokens], axis=1))
            seam.normaliser = self._mean_weight()

    def _say_idle(self, stats: WeightedStep) -> None:
        if self._idle_said or not len(stats.weights) or stats.weights.any():
            return
        self._idle_said = True
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
            self.loss_seam.normaliser = self._mean_weight()

    def finish(self, step: int) -> None:
        """Nothing is left to do after the last step."""

    def log_values(self) -> dict[str, float]:
        """What the weights of the steps since the last log were."""
        return self.log.take()

    def log_histogram(self) -> Mapping[str, Sequence[float]]:
        """The weights of those steps."""
        counts = self.log.take_histogram()
        return {"edges": HISTOGRAM_EDGES.tolist(), "counts": counts} if counts else {}

    def _mean_weight(self) -> float:
        weights, tokens = self._window.values.T
        return token_mean_weight(weights, tokens)


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
