"""What a plugin is told about a run, before it loads anything and after it has ended. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dataflex.kinds import Kind, StepKeys, step_keys
from dataflex.kinds import TrainType as TrainType
from dataflex.spec import ComponentSpec


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The step keys as the user wrote them; :mod:`dataflex.schedule` turns them into stages.

    ``update == 0`` (``static_mix``) means a run without boundaries: one stage of ``train`` steps or, where that is 0
    too, as long as ``max_steps`` or ``num_train_epochs`` says.

    Attributes:
        warmup: Optimizer steps before the first boundary.
        update: Optimizer steps between two boundaries.
        times: Number of boundaries; -1 means as many as ``num_train_epochs`` holds.
        train: Total optimizer steps, replacing the sum when positive; 0 means not given.
    """

    warmup: int
    update: int = 0
    times: int = 0
    train: int = 0


@dataclass(frozen=True, kw_only=True)
class PartFacts:
    """One component of a run.

    Attributes:
        component: Its spec.
        dist: Distribution that provides it; the path of the file for one given with ``-p``.
        version: Version of that distribution, or ``""``.
        params: Its bound parameters, by name.
        every: At which boundaries it is asked: 1 for all of them, n for the first and every nth after it.
        keep: Share of each domain that a selector keeps; ``"stage"`` for as many rows as are trained on.
    """

    component: ComponentSpec
    dist: str
    version: str
    params: Mapping[str, Any]
    every: int = 1
    keep: float | str = "stage"

    @property
    def identity(self) -> str:
        """Kind and name, as a checkpoint keeps them.

        Not who provides it: a file given with ``-p`` may move, or become a package, between two parts of a run.
        """
        return f"{self.component.kind} {self.component.name}"

    @property
    def title(self) -> str:
        """Kind, name, distribution and version, for messages."""
        return f"{self.component.kind} {self.component.name!r} of {self.dist} {self.version}".strip()


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """Everything known about a run before anything loads.

    Attributes:
        train_type: Which trainer runs.
        stage: LlamaFactory's training stage (``sft``, ``pt``, ``dpo``, ``rm``, ``kto``).
        component: Spec of the first component.
        dist: Distribution that provides it; the path of the file for one given with ``-p``.
        version: Version of that distribution, or ``""``.
        params: Its bound parameters, by name.
        steps: The step keys.
        output_dir: The run's output directory.
        arguments: LlamaFactory's own keys, as written.
        source: The run file, for error messages.
        scores_only: Whether the pool is only scored (``dataflex score``). ``steps.warmup`` is then the step of the
            checkpoint, 0 without one, and no training step is made.
        others: The components after the first, for a run with several.
        every: As of :class:`PartFacts`, of the first component.
        keep: Likewise.
    """

    train_type: TrainType
    stage: str
    component: ComponentSpec
    dist: str
    version: str
    params: Mapping[str, Any]
    steps: Steps
    output_dir: Path
    arguments: Mapping[str, Any]
    source: str
    scores_only: bool = False
    others: tuple[PartFacts, ...] = ()
    every: int = 1
    keep: float | str = "stage"

    @property
    def parts(self) -> tuple[PartFacts, ...]:
        """Every component of the run, in the order in which they decide."""
        first = PartFacts(
            component=self.component,
            dist=self.dist,
            version=self.version,
            params=self.params,
            every=self.every,
            keep=self.keep,
        )
        return (first, *self.others)

    def part(self, kind: Kind) -> PartFacts | None:
        """The component of a kind, if the run has one."""
        return next((part for part in self.parts if part.component.kind is kind), None)

    @property
    def step_keys(self) -> StepKeys | None:
        """How the run reads the step keys."""
        return step_keys(self.train_type, [part.component.kind for part in self.parts])

    def seen_from(self, part: PartFacts) -> RunFacts:
        """The run with one of its components as the first: for a check that looks at the first one alone."""
        others = tuple(other for other in self.parts if other.component.kind is not part.component.kind)
        return replace(
            self,
            component=part.component,
            dist=part.dist,
            version=part.version,
            params=part.params,
            every=part.every,
            keep=part.keep,
            others=others,
        )

    @property
    def samples_per_step(self) -> int:
        """Samples of one optimizer step on *one* process (batch times accumulation)."""
        batch = int(self.arguments.get("per_device_train_batch_size", 8))
        return batch * int(self.arguments.get("gradient_accumulation_steps", 1))


RunPlan = RunFacts
"""The name of before 0.2."""


@dataclass(frozen=True)
class Problem:
    """A reason not to start a run.

    Attributes:
        message: What is wrong and where the value came from.
        fix: What to do about it.
    """

    message: str
    fix: str = ""


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """How a run ended.

    Attributes:
        run: What was asked for.
        steps: Optimizer steps done.
        decisions: Number of decisions taken, resumed ones included.
        seconds: Wall-clock seconds inside ``Trainer.train``.
        metrics: The Trainer's closing metrics.
        ended_by: Who ended it before its last planned step, such as ``"early stopping"``; ``""`` for a run that
            came to it.
    """

    run: RunFacts
    steps: int
    decisions: int
    seconds: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    ended_by: str = ""

    @property
    def plan(self) -> RunFacts:
        """:attr:`run` by its name of before 0.2."""
        return self.run
