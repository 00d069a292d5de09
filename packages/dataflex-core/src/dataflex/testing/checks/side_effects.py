"""Checks that a decision leaves everything else as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dataflex.rng import rng_scope
from dataflex.testing import traces
from dataflex.testing.bench import STEPS, Bench
from dataflex.testing.check import CheckFailed
from dataflex.testing.writes import watched_writes

_NAMED = 3


def global_generators_are_untouched(bench: Bench) -> None:
    """Neither Python's, NumPy's nor torch's global generator moves, so that a run with another component is comparable.

    Mend: draw from ``context.rng(step)``; do not seed or use a global generator.
    """
    component = bench.component()
    with rng_scope(11):
        before = traces.generators()
        bench.decide(component)
        moved = traces.changed(before, traces.generators())
    if moved:
        raise CheckFailed(f"it moved the global generator of {', '.join(moved)}")


def weights_are_untouched(bench: Bench) -> None:
    """Parameters and buffers of the model are the same afterwards, bit by bit.

    Mend: work on a copy of what you change, or put it back in ``finally``.
    """
    _compare(bench, traces.weights, "it changed")


def gradients_are_untouched(bench: Bench) -> None:
    """The model's gradients are as empty afterwards as before: they would be added to those of the next step.

    Mend: use ``torch.autograd.grad``, or set ``parameter.grad = None`` in ``finally``.
    """
    _compare(bench, traces.gradients, "it left gradients in")


def trainability_is_untouched(bench: Bench) -> None:
    """The same parameters are trained afterwards.

    Mend: put ``requires_grad`` back in ``finally``.
    """
    _compare(bench, traces.trainable, "it changed requires_grad of")


def optimizer_is_untouched(bench: Bench) -> None:
    """State and settings of the optimizer are the same afterwards.

    Mend: copy what you take from ``optimizer_state`` before you change it; never call ``optimizer.step()``.
    """
    component = bench.component()
    before = traces.optimizer(bench.trainee.optimizer)
    bench.decide(component)
    _refuse(traces.changed(before, traces.optimizer(bench.trainee.optimizer)), "it changed")


def train_mode_is_untouched(bench: Bench) -> None:
    """Every module is in the mode it was in, those that were not in train mode included.

    Mend: wrap the forward pass in ``dataflex.scoring.quiet.evaluating(model)`` instead of calling ``eval()`` and
    ``train()``.
    """
    _compare(bench, traces.modes, "it changed the train mode of")


def hooks_are_untouched(bench: Bench) -> None:
    """No hook and no replaced ``forward`` is left behind.

    Mend: remove hooks in ``finally``.
    """
    _compare(bench, traces.hooks, "it changed")


def writes_only_to_its_work_directory(bench: Bench) -> None:
    """Files are written to ``cache_dir`` and nowhere else, from construction to the second decision.

    Mend: write under ``self.cache_dir``.
    """
    bench.component()  # whatever the bench itself writes: the model, files that parameters name
    with watched_writes(bench.cache_dir) as written:
        component = bench.component()
        for step in STEPS[:2]:
            bench.decide(component, step)
    _refuse(list(dict.fromkeys(written)), "it wrote, renamed or removed")


def _compare(bench: Bench, photograph: Callable[[Any], dict[str, Any]], verb: str) -> None:
    component, model = bench.component(), bench.trainee.model
    before = photograph(model)
    bench.decide(component)
    _refuse(traces.changed(before, photograph(model)), verb)


def _refuse(names: list[str], verb: str) -> None:
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        raise CheckFailed(f"{verb} {', '.join(names[:_NAMED])}{more}")


SIDE_EFFECTS = (
    global_generators_are_untouched,
    weights_are_untouched,
    gradients_are_untouched,
    trainability_is_untouched,
    optimizer_is_untouched,
    train_mode_is_untouched,
    hooks_are_untouched,
    writes_only_to_its_work_directory,
)
