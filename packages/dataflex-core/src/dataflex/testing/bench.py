"""The bench a component is examined on: a run as small as can be, with everything real.

A bench belongs to one check and one folder. What it asks of the component it asks as the trainers do: constructor by
:func:`dataflex.components.build.build_component`, methods by the names they take.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.components.asking import Asking
from dataflex.components.build import build_component
from dataflex.components.context import RunContext
from dataflex.config.bind import BoundParams
from dataflex.errors import DataFlexError
from dataflex.gradients.passes import PoolPasses
from dataflex.kinds import KINDS, load
from dataflex.plugins.catalog import CatalogEntry
from dataflex.rng import rng_scope
from dataflex.spec import Need
from dataflex.testing.check import CheckFailed, NotApplicable
from dataflex.testing.subject import Subject, bind_values
from dataflex.testing.toy_preferences import ToyPreferences
from dataflex.testing.trainee import Row, Trainee, make_rows, make_trainee

SEED = 3
STEPS = (10, 20, 30)
"""Steps of the boundaries that a component is asked at."""

DOMAINS: Mapping[str, int] = {"web": 12, "code": 8, "books": 4}
"""Domains of the pool, with their rows. Parameters that name domains have to name these."""

_EVAL_ROWS = 6


class Bench(abc.ABC):
    """Builds the component and asks it to decide.

    Args:
        subject: What to build.
        folder: An empty folder for this check.
        accelerator: That of a rank; made when needed if not given.
        cache_dir: The component's work directory, shared by the ranks; in ``folder`` if not given.
    """

    def __init__(self, subject: Subject, folder: Path, accelerator: Any = None, cache_dir: Path | None = None) -> None:
        self.subject, self.folder, self._given = subject, folder, accelerator
        self.cache_dir = cache_dir or folder / "output" / "cache"
        self.cache_dir.mkdir(parents=True, exist_ok=True)
        self._pool: Any = None  # of the context made last
        self._known: list[Any] = []  # components that have been asked, or are resumed

    @cached_property
    def entry(self) -> CatalogEntry:
        """The component's place in the catalogue."""
        return self.subject.find()

    @cached_property
    def values(self) -> dict[str, Any]:
        """Its parameters as they were given."""
        return self.subject.values(self.folder / "params")

    @cached_property
    def bound(self) -> BoundParams:
        """Its parameters, validated."""
        return bind_values(self.entry, self.values)

    @cached_property
    def trainee(self) -> Trainee:
        """The model in training: the same on every bench, or a mixture of experts for who needs one."""
        experts = Need.ROUTER_LOGITS in self.entry.spec.needs
        return make_trainee(self.folder / "model", make_rows(16, "before"), experts=experts)

    @cached_property
    def accelerator(self) -> Any:
        """The run's accelerator, on the CPU."""
        from accelerate import Accelerator

        return self._given if self._given is not None else Accelerator(cpu=True)

    def rows(self) -> list[Row]:
        """The pool in ordinary circumstances, domain after domain."""
        return _rows(DOMAINS.items())

    def build(self, *, seed: int = SEED, domains: Mapping[str, int] = DOMAINS) -> Any:
        """Construct the component.

        Args:
            seed: The run's seed.
            domains: What the pool consists of.

        Raises:
            Exception: whatever the constructor raises.
        """
        bound, cls = self.bound, self.entry.load()
        return build_component(cls, bound.params, bound.values, bound.run_values, self.context(seed, domains))

    def component(self, *, seed: int = SEED, domains: Mapping[str, int] = DOMAINS) -> Any:
        """Construct the component for a check of something else than construction."""
        try:
            return self.build(seed=seed, domains=domains)
        except Exception as error:
            raise NotApplicable("it cannot be built: see can_be_built") from error

    def resumed(self, stored: Mapping[str, Any]) -> Any:
        """Construct the component of a run that goes on from a checkpoint.

        Args:
            stored: What the checkpoint holds of it; nothing is given back if that is empty.
        """
        component = self.component()
        self._known.append(component)
        if stored:
            self.door(component).load_state_dict(stored)
        return component

    def decide(self, component: Any, step: int = STEPS[0]) -> Any:
        """Ask for a decision in ordinary circumstances, for a check of something else than the decision."""
        try:
            return self.ask(component, step)
        except NotApplicable:
            raise
        except Exception as error:
            raise NotApplicable("it does not decide: see decides") from error

    def numbers(self, component: Any, step: int = STEPS[0]) -> npt.NDArray[Any]:
        """The decision as an array, unchecked; the global generators begin from the same state each time."""
        with rng_scope(SEED):
            return np.asarray(self.flat(self.decide(component, step)))

    @abc.abstractmethod
    def ask(self, component: Any, step: int) -> Any:
        """Ask for a decision.

        Raises:
            Exception: whatever the component raises.
        """

    @abc.abstractmethod
    def flat(self, answer: Any) -> Any:
        """The numbers of an answer, unchecked."""

    @abc.abstractmethod
    def validate(self, answer: Any) -> None:
        """Check an answer as a trainer does.

        Raises:
            DataFlexError: if it is unusable.
        """

    def ordinary(self) -> None:
        """Make sure that the component answers well where nothing is unusual.

        Raises:
            NotApplicable: if not; other checks tell.
        """
        component = self.component()
        answer = self.decide(component)
        try:
            self.validate(answer)
        except DataFlexError as error:
            raise NotApplicable(f"its answers are unusable anyway: {error}") from error

    def repeatable(self) -> None:
        """Make sure that the component answers the same when it is built and asked again.

        Raises:
            NotApplicable: if not; another check tells.
        """
        first, second = (self.numbers(self.component()) for _ in range(2))
        if not np.array_equal(first, second, equal_nan=True):
            raise NotApplicable("it never decides the same twice: see repeats_itself")

    def copes(self, ask: Callable[[], Any], validate: Callable[[Any], None], circumstance: str) -> None:
        """Check that an unusual request is met by a usable answer or by an error that says what to do.

        Args:
            ask: Builds the component and asks it.
            validate: Raises a DataFlexError for an unusable answer.
            circumstance: What is unusual, for the message.
        """
        self.ordinary()
        try:
            answer = ask()
        except NotApplicable:
            raise
        except DataFlexError:
            return
        except Exception as error:
            raise CheckFailed(f"{circumstance}, it raised {type(error).__name__}: {error}") from error
        try:
            validate(answer)
        except DataFlexError as error:
            raise CheckFailed(f"{circumstance}, {error}") from error

    def context(self, seed: int, domains: Mapping[str, int]) -> RunContext:
        """What the component may see of the run."""
        return RunContext(**self.facts(seed, domains))

    def facts(self, seed: int, domains: Mapping[str, int]) -> dict[str, Any]:
        """What every context holds."""
        trainee, preferences = self.trainee, Need.PREFERENCES in self.entry.spec.needs
        self._pool = _dataset(tuple(domains.items()))
        return {
            "dataset": self._pool,
            "data_collator": trainee.collator,
            "accelerator": self.accelerator,
            "output_dir": self.folder / "output",
            "cache_dir": self.cache_dir,
            "seed": seed,
            "global_batch": 2,
            "stage": "dpo" if preferences else "sft",
            "objective": ToyPreferences() if preferences else None,
            "eval_datasets": {"eval": _dataset((("eval", _EVAL_ROWS),))},
            "tokenizer": trainee.tokenizer,
            "optimizer": lambda: trainee.optimizer,
            "scheduler": lambda: trainee.scheduler,
            "passes": PoolPasses(),
        }

    def door(self, component: Any) -> Asking:
        """What calls the component's methods, as in a run; errors come out as they are."""
        return Asking(component, load(KINDS[self.entry.spec.kind].base), self.subject.name)

    def call(self, component: Any, method: str, step: int, **more: Any) -> Any:
        """Call ``select`` or ``mix`` with those of the run-time facts it asks for."""
        trainee = self.trainee
        available = {
            "model": trainee.model,
            "step_id": step,
            "optimizer_state": trainee.optimizer.state,
            "scheduler_state": trainee.scheduler.state_dict(),
            "current_update_times": STEPS.index(step) + 1 if step in STEPS else 1,
            "update_times": len(STEPS),
            "dataset": self._pool,
            "data_collator": trainee.collator,
            "tokenizer": trainee.tokenizer,
            **more,
        }
        return self.door(component).call(method, **available)


def _rows(domains: Iterable[tuple[str, int]]) -> list[Row]:
    return [row for name, count in domains for row in make_rows(count, name)]


@cache
def _dataset(domains: tuple[tuple[str, int], ...]) -> Any:
    """Rows of some domains as a data set, which cannot be changed; made once, since its fingerprint takes a while."""
    from datasets import Dataset

    return Dataset.from_list(_rows(domains))
