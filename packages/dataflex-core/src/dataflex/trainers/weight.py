"""The Weight Trainer's planner: the stock order of the data, and the weights' normaliser from step to step."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.components.build import call_by_name
from dataflex.components.context import RunContext
from dataflex.components.weighter import Weighter
from dataflex.data.stock_order import StockOrder
from dataflex.errors import ComponentError, ConfigError
from dataflex.math.weighting import token_mean_weight
from dataflex.math.window import StepWindow
from dataflex.schedule import Schedule
from dataflex.trainers.session import Session
from dataflex.trainers.weight_log import WeightLog
from dataflex.trainers.weight_seam import WeightSeam


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
        self._window = StepWindow(int(getattr(self.component, "window", Weighter.window)), columns=2)
        self.loss_seam: WeightSeam | None = None
        if self.own_step is None:
            if not self._native and not hasattr(self.component, "get_weighted_loss"):
                raise ComponentError(
                    f"{session.title} weighs nothing: it has no weights(), get_weighted_loss() or training_step()."
                )
            self.loss_seam = WeightSeam(
                trainer, self.component, native=self._native, warmup=self.warmup, title=session.title
            )

    @property
    def own_step(self) -> Callable[..., Any] | None:
        """The component's own ``training_step``, which then replaces the Trainer's."""
        return None if self._native else getattr(self.component, "training_step", None)

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
        return self.own_step(**call_by_name(inspect.signature(self.own_step), available))

    def plan(self, stage: int, step: int, num_samples: int) -> npt.NDArray[np.int64]:
        """The rest of an epoch from ``step`` on, or its first ``num_samples``; its last step may be a short one."""
        epoch, done = divmod(step, self._epoch_steps)
        start = done * self._global_batch
        return self._order.epoch(epoch)[start : start + num_samples]

    def step_end(self, step: int) -> None:
        """Move the window on: the next step's normaliser, and whatever the component keeps.

        Args:
            step: Optimizer steps done.
        """
        seam = self.loss_seam
        stats = seam.take() if seam is not None else None
        if seam is None or stats is None:
            return
        self.log.add(stats)
        if not self._native:
            return
        self._window.add_step(np.stack([stats.weights * seam.normaliser, stats.tokens], axis=1))
        seam.normaliser = self._mean_weight()
        if hasattr(self.component, "on_step"):
            self.component.on_step(stats)

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

    def _mean_weight(self) -> float:
        weights, tokens = self._window.values.T
        return token_mean_weight(weights, tokens)


def overrides_weights(component: Any) -> bool:
    """Whether a component is native: it defines ``weights`` itself."""
    own = getattr(type(component), "weights", None)
    return own is not None and own is not Weighter.weights
