"""What a checkpoint keeps of the engine, in ``checkpoint-N/dataflex/``.

    plan.npy                the current stage's rows
    plan_weights.npy        their weights, if they have any
    component.safetensors   the component's state: tensors and arrays
    component.json          the component's state: everything else
    keys.json               the keys the run was made under, if they were recorded
    files.json              every file of the checkpoint outside this folder: see :mod:`dataflex.checkpoint.files`
    engine.json             schedule, seed, pool, planner, log counters, versions; sha256 of the files above
    COMPLETE                sha256 of engine.json; written last

Version 1 of engine.json, of earlier releases, has neither keys.json nor files.json; it is read as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.schedule import Schedule

VERSION = 2
READ = (1, 2)
"""Versions of engine.json that this release reads."""

FOLDER = "dataflex"
COMPLETE = "COMPLETE"
ENGINE, PLAN, WEIGHTS, KEYS, FILES = "engine.json", "plan.npy", "plan_weights.npy", "keys.json", "files.json"


@dataclass(frozen=True, kw_only=True)
class EngineState:
    """The engine at an optimizer step.

    Attributes:
        step: Optimizer steps done.
        stage: Stage whose plan was last made; -1 before the first.
        plan_start: Optimizer step of the plan's first sample.
        warmup: Schedule: steps before the first boundary.
        update: Schedule: steps between boundaries.
        total: Schedule: steps of the run.
        seed: The run's seed.
        global_batch: Samples per optimizer step over all ranks.
        pool_size: Samples of the training pool.
        pool_fingerprint: Content fingerprint of the pool.
        domains: Names of the domains of a mix run, in the order of the proportions.
        component: Kind and name of the component.
        planner: The planner's own state, JSON values.
        log: Counters of the Trainer's log that a stock resume would lose, JSON values.
        params: Parameters of the component, JSON values.
        versions: Versions of core and of the component's distribution, for the record.
        run_id: What tells the run from others: made when a run starts anew, kept through resumes; ``""`` in a
            checkpoint of before there was one.
        data_seed: The seed that rows are drawn by; ``None`` if the run that wrote it drew them by ``seed``, always.
    """

    step: int
    stage: int
    plan_start: int
    warmup: int
    update: int
    total: int
    seed: int
    global_batch: int
    pool_size: int
    pool_fingerprint: str
    component: str
    domains: Sequence[str] = ()
    planner: Mapping[str, Any] = field(default_factory=dict)
    log: Mapping[str, float | Sequence[float]] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    run_id: str = ""
    data_seed: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("step", 0), ("stage", -1), ("plan_start", 0), ("pool_size", 0), ("global_batch", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name!r} is {getattr(self, name)}, below {least}")
        Schedule(self.warmup, self.update, self.total)


@dataclass(frozen=True)
class Saved:
    """Everything of ours in a checkpoint.

    Attributes:
        engine: The engine.
        plan: The plan of its stage.
        component: The component's ``state_dict``.
        keys: The keys the run was made under, JSON values; empty if they were not recorded.
        weights: Of the plan's rows in the loss; ``None`` for the stock loss.
    """

    engine: EngineState
    plan: npt.NDArray[np.int64]
    component: Mapping[str, Any]
    keys: Mapping[str, Any] = field(default_factory=dict)
    weights: npt.NDArray[np.float64] | None = None
