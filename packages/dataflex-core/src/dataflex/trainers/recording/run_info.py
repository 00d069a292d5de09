"""What runs: the facts of a run that ``run.json`` holds, and the versions it stands on."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from typing import Protocol

import importlib_metadata
import numpy as np
import numpy.typing as npt

from dataflex.record.run import RunInfo, hide_secrets
from dataflex.schedule import Schedule
from dataflex.trainers.host import Host
from dataflex.trainers.session import Session

_RECORDED = ("torch", "transformers", "llamafactory", "accelerate", "peft", "datasets", "numpy")


class EngineFacts(Protocol):
    """What is recorded of the engine.

    Attributes:
        stage: The stage it is in; -1 before the first.
        plan: Its rows.
        run_id: Which start of the run this is.
        pool_fingerprint: Of the pool's content.
    """

    stage: int
    plan: npt.NDArray[np.int64]
    run_id: str
    pool_fingerprint: str


def run_info(
    trainer: Host, session: Session, schedule: Schedule, engine: EngineFacts, *, global_batch: int, data_seed: int
) -> RunInfo:
    """What is recorded of a run when it begins.

    Args:
        trainer: The ``transformers.Trainer``.
        session: The run.
        schedule: Its stages.
        engine: What serves them.
        global_batch: Samples of one optimizer step over all ranks.
        data_seed: The seed that rows are drawn by.
    """
    facts, domains = session.run.facts, session.sources
    arguments, unchecked = hide_secrets(facts.arguments), session.unchecked
    return RunInfo(
        train_type=facts.train_type.value,
        stage=facts.stage,
        kind=facts.component.kind.value,
        component=facts.component.name,
        dist=facts.dist,
        params=hide_secrets(facts.params),
        arguments={name: value for name, value in arguments.items() if name not in unchecked},
        unchecked={name: value for name, value in arguments.items() if name in unchecked},
        data=session.data_keys(),
        seed=int(trainer.args.seed),
        data_seed=data_seed,
        run_id=engine.run_id,
        global_batch=global_batch,
        ranks=int(trainer.args.world_size),
        pool=len(trainer.train_dataset),
        domains=domains.names if domains is not None else (),
        domain_sizes=domains.sizes if domains is not None else (),
        warmup=schedule.warmup,
        update=schedule.update,
        total=schedule.total,
        versions={**_versions(), **session.versions},
        settings=session.settings(),
        components=session.components(),
        pool_fingerprint=engine.pool_fingerprint,
        started=datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
    )


def _versions() -> dict[str, str]:
    """Versions of what a run stands on."""
    found = {"python": platform.python_version()}
    for name in _RECORDED:
        try:
            found[name] = importlib_metadata.version(name)
        except importlib_metadata.PackageNotFoundError:
            continue
    return found
