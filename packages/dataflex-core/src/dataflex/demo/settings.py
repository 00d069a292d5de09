"""How large a demo is."""

from __future__ import annotations

from dataclasses import dataclass

CUTOFF = 112
"""Tokens of the longest row; the run files' ``cutoff_len``. Rows are shortened to it when the data is built."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that ``--quick`` and ``--seed`` change.

    Attributes:
        seed: Seed of data, model and runs.
        pool: Rows of the training pool; fewer where the machine holds less text.
        evaluation: Rows of the eval set of docstrings.
        others: Rows of the eval set of the other domains together.
        validation: Docstrings of the validation set, for components that aim at a target.
        modules: Modules of the standard library to read; 0 reads all.
        pretraining: Optimizer steps of pretraining.
        pretraining_batch: Rows of one pretraining step.
        warmup: ``warmup_step`` of the runs.
        update: ``update_step`` of the runs.
        times: ``update_times`` of the runs.
        batch: Rows of one optimizer step of the runs.
        rate: Learning rate of pretraining and of the runs.
    """

    seed: int = 42
    pool: int = 1600
    evaluation: int = 150
    others: int = 150
    validation: int = 128
    modules: int = 0
    pretraining: int = 120
    pretraining_batch: int = 16
    warmup: int = 20
    update: int = 30
    times: int = 3
    batch: int = 8
    rate: float = 3e-3

    @classmethod
    def choose(cls, seed: int, *, quick: bool) -> Settings:
        """The settings of a full demo, or of one that only shows that everything works."""
        if not quick:
            return cls(seed=seed)
        return cls(
            seed=seed,
            pool=120,
            evaluation=12,
            others=12,
            validation=8,
            modules=80,
            pretraining=4,
            pretraining_batch=4,
            warmup=2,
            update=2,
            times=2,
            batch=4,
        )

    @property
    def steps(self) -> int:
        """Optimizer steps of a run of ordinary length."""
        return self.warmup + self.update * self.times
