"""The one door to a component: every call into somebody's class goes through :class:`Asking`.

Which of two fences stands around a call depends on where it is made:

- ``agreed``: at a boundary, after a step, at the start and the end, where all ranks make it. They agree whether it went
  well before any goes on; if not, they write a checkpoint together and raise the same sentence.
- ``alone``: inside a micro-batch, where ranks do not wait for each other. The rank that failed says so and names the
  last whole checkpoint; torchrun then ends the others. One rank by itself writes a checkpoint of the steps done.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from dataflex.components.abort import ended_by_abort
from dataflex.components.build import by_name_or_place
from dataflex.components.stateful import Stateful
from dataflex.components.time_limit import time_limit
from dataflex.distributed import AnotherRankFailed, first_failure
from dataflex.errors import ComponentError, ConfigError, OneRankError, reason

LARGEST_COPY = 1 << 20
"""Bytes of a component's state up to which a copy is kept of it while ``on_step`` runs."""

_WITHOUT_DEFAULT = frozenset({"select", "warmup", "mix", "weights", "get_weighted_loss"})

_OPENING = frozenset({"__init__", "load_state_dict"})

_PLACES = {"weights": 2, "warmup": 2} | dict.fromkeys(
    ("on_step", "on_losses", "finished", "token_scores", "objective_weights", "get_weighted_loss", "load_state_dict"), 1
)
"""How many of a method's arguments a class may call as it likes: they have always been passed by their place."""


class Progress(Protocol):
    """Keeps what a run has done when a component fails; each method returns how the sentence about it ends."""

    def keep(self) -> str:
        """Write a checkpoint of the steps done. Called on every rank."""

    def last_whole(self) -> str:
        """Name the checkpoint there is, without writing one."""


class Nothing:
    """A :class:`Progress` where there is none to keep: before training, and in the conformance kit."""

    def keep(self) -> str:
        """A full stop."""
        return "."

    last_whole = keep


NOTHING = Nothing()


class Asking:
    """Calls the methods of one component.

    A class of any style will do: what a method's signature does not name is not passed, and an optional method it does
    not have is the base class's.

    Args:
        component: The component.
        base: The base class of its kind, for defaults.
        title: Kind, name, distribution and version, for messages.
        name: The name alone.
        accelerator: The run's accelerator; ``None`` on one process.
        seconds: Most seconds a call may take; ``None`` for no limit.
        progress: Keeps the steps done when a call fails.

    Attributes:
        component: The component.
        title: As given.
        name: As given.
        progress: As given.
        spent: Seconds of the last call.
    """

    def __init__(
        self,
        component: Any,
        base: type,
        title: str,
        *,
        name: str = "",
        accelerator: Any = None,
        seconds: float | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.component, self.title, self.name, self.spent = component, title, name, 0.0
        self._base, self._accelerator, self._seconds = base, accelerator, seconds
        self.progress: Progress = NOTHING if progress is None else progress
        self._method = ""  # the last that was called
        self._copies = True
        self._held: dict[str, Any] | None = None  # the state before a call that failed

    def defines(self, method: str) -> bool:
        """Whether the class has a method of its own, beyond the default of its base class."""
        own = getattr(self.component, method, None)
        return own is not None and getattr(own, "__func__", own) is not getattr(self._base, method, None)

    def attribute(self, name: str) -> Any:
        """An attribute, or the base class's default for a class without it."""
        return getattr(self.component, name, getattr(self._base, name))

    def call(self, method: str, **available: Any) -> Any:
        """Call a method with those arguments that it names, for at most ``component_timeout`` seconds.

        Raises:
            ComponentError: when it takes longer, or the class lacks a method that has no default.
        """
        self._method, started = method, time.perf_counter()
        function = self._function(method)
        try:
            with time_limit(self._seconds):
                places, names = by_name_or_place(_signature(function), available, _PLACES.get(method, 0))
                return function(*places, **names)
        finally:
            self.spent = time.perf_counter() - started

    def construct(self, make: Callable[[], Any]) -> Any:
        """Make the component itself, for at most ``component_timeout`` seconds."""
        self._method = "__init__"
        with time_limit(self._seconds):
            return make()

    @contextlib.contextmanager
    def agreed(
        self, where: str, kept: Callable[[], str] | None = None, speaker: Callable[[], Asking] | None = None
    ) -> Iterator[None]:
        """Make a call on every rank; the block may also check the answer.

        Args:
            where: Of the run, such as ``"step 7"``.
            kept: What the sentence ends with; keeps the progress by default. Called on every rank.
            speaker: Who was called last, where the block calls several instances of a component.

        Raises:
            ComponentError: on every rank, when the block fails on one.
        """
        failure, self._method = "", ""
        cause: Exception | None = None
        try:
            with ended_by_abort():
                yield
        except AnotherRankFailed as error:
            cause = error
        except Exception as error:
            failure, cause = (self if speaker is None else speaker())._failure(error, where), error
        failure = first_failure(failure, self._accelerator, last=True)
        if isinstance(cause, ConfigError) and self._method in _OPENING:  # it refuses the run
            raise cause
        if failure or cause is not None:
            raise ComponentError(failure + (self.progress.keep if kept is None else kept)()) from cause

    @contextlib.contextmanager
    def alone(self, where: str) -> Iterator[None]:
        """Make a call in a micro-batch, on this rank.

        Raises:
            OneRankError: when the block fails and there are other ranks.
            ComponentError: when it fails on the only one.
        """
        self._method = ""
        try:
            yield
        except Exception as error:
            failure = self._failure(error, where)
            if self._ranks > 1:  # a checkpoint needs the ranks that have not failed
                raise OneRankError(failure + self.progress.last_whole()) from error
            raise ComponentError(failure + self.progress.keep()) from error

    def step_ended(self, step: int, stats: Any, untold: Callable[[], None]) -> None:
        """Tell the component of an optimizer step, on every rank.

        A checkpoint written because this failed holds the state from before, and what it was to be told, so that a
        repaired run tells it again. Where the state is too large to copy at each step, none is written.

        Args:
            step: Optimizer steps done.
            stats: What it is told.
            untold: Called before the checkpoint is written.

        Raises:
            ComponentError: on every rank, when the call fails on one.
        """
        self.tell("on_step", step, {"stats": stats}, untold)

    def tell(self, method: str, step: int, told: Mapping[str, Any], untold: Callable[[], None]) -> None:
        """As :meth:`step_ended`, for a method of any name and its arguments; one that is not defined is not called."""
        if not self.defines(method):
            return
        before: dict[str, Any] | None = None

        def kept() -> str:
            if before is None:
                return self.progress.last_whole()
            with self.holding(before):
                untold()
                return self.progress.keep()

        with self.agreed(f"step {step}", kept):
            before = self.copy_state()
            self.call(method, **told)

    def state_dict(self) -> dict[str, Any]:
        """What the component must remember; from before a call that has just failed."""
        if self._held is not None:
            return self._held
        return dict(self.call("state_dict"))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Give it back."""
        self.call("load_state_dict", state=dict(state))

    @property
    def _ranks(self) -> int:
        return 1 if self._accelerator is None else int(self._accelerator.num_processes)

    def _function(self, method: str) -> Callable[..., Any]:
        own: Callable[..., Any] | None = getattr(self.component, method, None)
        if own is not None:
            return own
        if method in _WITHOUT_DEFAULT:
            raise ComponentError(f"it has no {method}(); inherit from dataflex.{self._base.__name__}")
        default = getattr(self._base, method, None) or getattr(Stateful, method)
        return functools.partial(default, self.component)

    def hold(self, state: dict[str, Any]) -> None:
        """Give out an earlier state from now on: of a component that a failed call of another takes back."""
        self._held = state

    @contextlib.contextmanager
    def holding(self, state: dict[str, Any]) -> Iterator[None]:
        """Give out an earlier state in place of the present one: for a checkpoint of before a call."""
        self._held = state
        try:
            yield
        finally:
            self._held = None

    def copy_state(self) -> dict[str, Any] | None:
        """A copy of the state; ``None`` once one was too large."""
        if not self._copies:
            return None
        state = self.state_dict()
        self._copies = sum(map(_bytes_of, state.values())) <= LARGEST_COPY
        return copy.deepcopy(state) if self._copies else None

    def _failure(self, error: Exception, where: str) -> str:
        if isinstance(error, ConfigError):  # of the run file, which the component only came upon
            said = f"at {where}: {reason(error)}"
        else:
            method = f" in {self._method}()" if self._method else ""
            said = f"{self.title} failed{method} at {where}: {reason(error)}"
        return said.removesuffix(".")


def _bytes_of(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    if hasattr(value, "element_size"):  # a tensor
        return int(value.element_size() * value.nelement())
    if isinstance(value, (list, tuple)):
        return 8 * len(value)
    return 8


@functools.lru_cache(maxsize=256)
def _signature_of(function: Any) -> inspect.Signature:
    return inspect.signature(function)


def _signature(function: Any) -> inspect.Signature:
    """Of a function or bound method; those of classes are looked at once, as on_step is called in every step."""
    inner = getattr(function, "__func__", None)
    if inner is None:
        return inspect.signature(function)
    whole = _signature_of(inner)
    return whole.replace(parameters=list(whole.parameters.values())[1:])
