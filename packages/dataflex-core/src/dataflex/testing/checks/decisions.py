"""Checks of a component's decisions: made, repeated, resumed, and made alike on every rank."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from dataflex.checkpoint import state
from dataflex.errors import ComponentError
from dataflex.testing.bench import SEED, STEPS, Bench
from dataflex.testing.check import CheckFailed, NotApplicable
from dataflex.testing.ranks import ask_on_ranks
from dataflex.testing.subject import Subject


def decides(bench: Bench) -> None:
    """Asked at a boundary, it answers, at one after the other.

    Mend: look at the exception; methods get what they name of the run-time arguments listed in docs/plugins.md.
    """
    component = bench.component()
    for step in STEPS:
        try:
            bench.ask(component, step)
        except NotApplicable:
            raise
        except Exception as error:
            raise CheckFailed(f"at step {step} it raised {type(error).__name__}: {error}") from error


def repeats_itself(bench: Bench) -> None:
    """Built anew and asked the same, it decides the same: a run can be repeated.

    Mend: draw from ``context.rng(step)``, a function of (seed, step); use neither the time nor an unseeded generator.
    """
    first, second = (bench.numbers(bench.component()) for _ in range(2))
    if not np.array_equal(first, second, equal_nan=True):
        raise CheckFailed(f"the same question got {_short(first)} and {_short(second)}")


def randomness_is_declared(bench: Bench) -> None:
    """A component that does not declare itself stochastic does not depend on the seed.

    Mend: set ``stochastic=True`` in its ComponentSpec or its decorator.
    """
    if bench.entry.spec.stochastic:
        return
    bench.repeatable()
    first, second = (bench.numbers(bench.component(seed=seed)) for seed in (SEED, SEED + 1))
    if not np.array_equal(first, second, equal_nan=True):
        raise CheckFailed(f"another seed changes its decision from {_short(first)} to {_short(second)}")


def declared_randomness_is_there(bench: Bench) -> None:
    """A component that declares itself stochastic draws anew at each boundary, and by the run's seed.

    Mend: draw from ``context.rng(step)`` with the step of the boundary, or set ``stochastic=False``.
    """
    if not bench.entry.spec.stochastic:
        return
    component = bench.component()
    at_steps = [bench.numbers(component, step) for step in STEPS]
    if all(np.array_equal(at_steps[0], other, equal_nan=True) for other in at_steps[1:]):
        raise CheckFailed(f"it decides {_short(at_steps[0])} at each of the steps {', '.join(map(str, STEPS))}")
    seeded = [bench.numbers(bench.component(seed=SEED + more)) for more in range(3)]
    if all(np.array_equal(seeded[0], other, equal_nan=True) for other in seeded[1:]):
        raise CheckFailed(f"it decides {_short(seeded[0])} whatever the seed of the run")


def state_can_be_stored(bench: Bench) -> None:
    """What ``state_dict()`` gives can be put into a checkpoint, and comes back as it was.

    Mend: return a flat dict of tensors, arrays and JSON values: strings, numbers, booleans, lists and dicts of them.
    """
    component = bench.component()
    bench.decide(component)
    given = bench.door(component).state_dict()
    try:
        stored = state.round_trip(given)
    except ComponentError as error:
        raise CheckFailed(str(error)) from error
    other = [name for name in given if not _same(given[name], stored.get(name))]
    if other:
        raise CheckFailed(f"{', '.join(other)} of its state does not come back as it was")


def state_gives_the_same_next_decision(bench: Bench) -> None:
    """Resumed from a checkpoint, it decides as if it had never stopped.

    Mend: keep in ``state_dict()`` whatever a decision depends on besides model, seed and step, and take it back in
    ``load_state_dict()``.
    """
    bench.repeatable()
    component = bench.component()
    for step in STEPS[:2]:
        bench.numbers(component, step)
    try:
        stored = state.round_trip(bench.door(component).state_dict())
    except ComponentError:
        return  # state_can_be_stored tells
    resumed = bench.resumed(stored)
    # The resumed one first: a file the other leaves for it would hide what the state lacks.
    after, before = bench.numbers(resumed, STEPS[2]), bench.numbers(component, STEPS[2])
    if not np.array_equal(before, after, equal_nan=True):
        raise CheckFailed(f"without a stop it decides {_short(before)}, resumed {_short(after)}")


def ranks_agree(bench: Bench) -> None:
    """Two gloo ranks that each hold a part of the work come to the same decision.

    Mend: do not let a decision depend on ``context.rank``; gather scores with ``dataflex.distributed.gather_scores``
    before you rank them.
    """
    bench.ordinary()
    bench.repeatable()
    subject = Subject(
        name=bench.subject.name,
        kind=bench.entry.spec.kind,
        params=_as_json(bench.values),
        plugins=bench.subject.plugins,
    )
    (found,) = ask_on_ranks([subject], bench.folder / "ranks")
    if found.failure:
        raise CheckFailed(f"on two ranks it failed: {found.failure}")
    if found.differ:
        first, second = (np.asarray(answer) for answer in found.answers)
        raise CheckFailed(f"rank 0 decided {_short(first)}, rank 1 {_short(second)}")


def _same(given: Any, stored: Any) -> bool:
    if hasattr(given, "detach"):
        given, stored = given.detach().cpu().numpy(), getattr(stored, "numpy", lambda: stored)()
    if isinstance(given, (np.ndarray, np.generic)):
        return bool(np.array_equal(np.asarray(given), np.asarray(stored), equal_nan=given.dtype.kind == "f"))
    return bool(given == stored)


def _as_json(values: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain


def _short(numbers: np.ndarray[Any, Any]) -> str:
    return np.array2string(numbers, precision=4, threshold=8, separator=", ")


DECISIONS = (
    decides,
    repeats_itself,
    randomness_is_declared,
    declared_randomness_is_there,
    state_can_be_stored,
    state_gives_the_same_next_decision,
    ranks_agree,
)
