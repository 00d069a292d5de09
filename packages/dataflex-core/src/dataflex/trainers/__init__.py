"""The engine that serves plans to a Trainer, and the trainers that decide what those plans are.

::

    dynamic.py              the mixin that puts the engine under any ``transformers.Trainer``
    opening.py, closing.py  its beginning and its end; checkpointing.py and loading.py are further parts of it
    mixin.py, host.py       what such mixins inherit from, and what of a Trainer they use
    session.py, layout.py   what a run asked for, and its schedule on the pool
    slots.py, composing.py  who orders the rows and who shapes the loss, of the run's parts
    engine/                 serves micro-batches, opens stages, saves and restores itself
    planners/               who orders the rows
    losses/                 who shapes the loss
    recording/              what a run says and writes
    resume/                 going on from a checkpoint
    scoring.py              the mixin that only scores the pool, for ``dataflex score``
    standalone.py           Trainers without LlamaFactory

May touch transformers and a Trainer of the user's, by the hooks that it offers; knows no LlamaFactory.
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
