"""The engine that serves plans to a Trainer, and the trainers that decide what those plans are.

session   what a run asked for: component, schedule, hooks
engine    serves micro-batches, opens stages, saves and restores itself
planner   turns a component's answer into the plan of a stage (select.py)
mix       the planner of domains; mixture, domain_tally, loss_seam and objective_seam are its parts
weight    the planner of the stock order and of weights; weight_seam and weight_log are its parts
scoring   the mixin that only scores the pool, for ``dataflex score``
endings   ends before the last planned step
resuming  from which checkpoint a run goes on; resumed_callbacks, callback_state and pissa: what callbacks keep then
repeated  the same command on a run that has ended
run_keys  the keys of a run, for its checkpoints; new_values puts changed ones to work at a resume
dynamic   the mixin that puts the engine under any ``transformers.Trainer``; checkpointing and loading are its parts
mixin     what such mixins inherit from

:func:`dynamic_trainer` is the public call, for Trainers without LlamaFactory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataflex.trainers.standalone import dynamic_trainer

__all__ = ["dynamic_trainer"]


def __getattr__(name: str) -> Any:
    if name == "dynamic_trainer":
        from dataflex.trainers.standalone import dynamic_trainer

        return dynamic_trainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
