"""The Mix Trainer's planner: a mixer's proportions, sampled, are the plan of a stage."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.components.build import call_by_name
from dataflex.components.mix_context import MixtureView
from dataflex.config.mixture import MixtureSettings, Rule
from dataflex.data.domains import Domains
from dataflex.data.mixture import MixtureSampler, MixtureState, permute_global_batches
from dataflex.data.proportions import check_proportions, stratified, temperature, uniform, unimax
from dataflex.schedule import Schedule
from dataflex.trainers.planner import ComponentPlanner, Outcome
from dataflex.trainers.session import Session


class MixPlanner(ComponentPlanner):
    """Asks a mixer for proportions at each boundary and draws the stage's samples by them.

    Args:
        trainer: The ``transformers.Trainer``.
        session: The run.
        schedule: Its stages.
        component: The mixer.
        sampler: Draws rows by proportions, and remembers where it is.
        view: What the mixer sees of the mixture; kept up to date here.
    """

    def __init__(
        self,
        trainer: Any,
        session: Session,
        schedule: Schedule,
        component: Any,
        sampler: MixtureSampler,
        view: MixtureView,
    ) -> None:
        super().__init__(trainer, session, schedule, component)
        self.sampler, self.view = sampler, view

    def decide(self, stage: int, step: int, num_samples: int) -> Outcome:
        """Ask the mixer, check its proportions and draw."""
        proportions = self.view.proportions if stage == 0 else self._mix(stage, step)
        rows = self.sampler.draw(proportions, num_samples)
        self.view.set_proportions(proportions)
        counts = np.bincount(self.view.domains.of_rows(rows), minlength=len(self.view.names))
        metrics: dict[str, Any] = {
            "domains": list(self.view.names),
            "proportions": proportions.tolist(),
            "samples": counts.tolist(),
            "realised": (counts / max(len(rows), 1)).tolist(),
            "epochs": self.sampler.epochs().tolist(),
        }
        if self.view.losses is not None:
            metrics["domain_losses"] = self.view.losses.mean().tolist()
            self.view.losses.reset()
        global_batch = num_samples // self._steps(stage, step)
        shuffled = permute_global_batches(rows, global_batch, int(self.trainer.args.seed), step)
        return Outcome(rows=shuffled, result=proportions, metrics=metrics)

    def describe(self, outcome: Outcome) -> str:
        """The new proportions, by name."""
        shares = zip(self.view.names, outcome.result.tolist(), strict=True)
        return f"{self.session.run.plan.component.name} set " + ", ".join(f"{name} {share:.3f}" for name, share in shares)

    def state_dict(self) -> dict[str, Any]:
        """The sampler's position and the current proportions."""
        return {"sampler": self.sampler.state().to_json(), "view": self.view.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self.sampler.restore(MixtureState.from_json(state["sampler"]))
        self.view.load_state_dict(state["view"])

    def _mix(self, stage: int, step: int) -> npt.NDArray[np.float64]:
        available = {"model": self.model(), "step_id": step, **self.runtime_arguments(stage)}
        answer = self.component.mix(**call_by_name(inspect.signature(self.component.mix), available))
        return check_proportions(answer, self.view.names, "its mix()")

    def _steps(self, stage: int, step: int) -> int:
        return self.schedule.bounds(stage)[1] - step


def first_proportions(settings: MixtureSettings, domains: Domains, num_samples: int) -> npt.NDArray[np.float64]:
    """Proportions of the warm-up, by the run's rule.

    Args:
        settings: The keys of the run file.
        domains: The domains of the pool.
        num_samples: Samples of the whole run: unimax's budget.

    Raises:
        ConfigError: names the domains, for initial proportions that do not fit them.
    """
    if settings.rule is Rule.MIXTURE:
        return check_proportions(settings.initial, domains.names, "init_mixture_proportions")
    if settings.rule is Rule.STRATIFIED:
        return stratified(domains.sizes)
    if settings.rule is Rule.UNIFORM:
        return uniform(len(domains.names))
    if settings.rule is Rule.TEMPERATURE:
        return temperature(domains.sizes, settings.temperature)
    epochs = settings.max_epochs if isinstance(settings.max_epochs, float) else 1.0
    return unimax(domains.sizes, num_samples, epochs)
