"""What the framework hands to a component: the pool, the collator and the run's own facts.

Torch-free at import time, so that a module with a component class can be listed without torch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

logger = logging.getLogger("dataflex")


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """The run as a component sees it. Handed to native components as ``context``.

    Attributes:
        dataset: The training pool: tokenised, map-style, ``dataset[row]`` gives the collator's features.
        data_collator: The run's own collator: a list of rows to one batch.
        accelerator: The Trainer's :class:`accelerate.Accelerator`.
        output_dir: The run's output directory.
        cache_dir: Where the component may keep files; its own folder in ``output_dir`` unless the user names one.
        seed: The run's seed. Draw with ``context.rng(step)``, never from a global generator.
        global_batch: Samples per optimizer step over all ranks.
        stage: LlamaFactory's training stage (``sft``, ``pt``, ...), or ``""`` under another front end.
        eval_datasets: The run's eval sets by name; empty if it has none.
        tokenizer: The tokenizer (or processor) of the run.
        vocab_size: Tokens the model's configuration has room for; ``None`` where it does not say.
        optimizer: Returns the run's optimizer; only meaningful once training has begun.
        scheduler: Returns the run's learning-rate scheduler, likewise.
        scores_only: Whether only scores are wanted (``dataflex score``): nothing is trained, and without a checkpoint
            the optimizer has made no step.
        data_keys: LlamaFactory's keys that the pool was tokenised under (``template``, ``cutoff_len``, ...), as parsed;
            empty under another front end. For what a component keeps for other runs to say what it was found on.
    """

    dataset: Any
    data_collator: Callable[[Sequence[Any]], Mapping[str, Any]]
    accelerator: Any = None
    output_dir: Path = Path(".")
    cache_dir: Path = Path("cache")
    seed: int = 42
    global_batch: int = 1
    stage: str = ""
    eval_datasets: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Any = None
    vocab_size: int | None = None
    optimizer: Callable[[], torch.optim.Optimizer | None] = lambda: None
    scheduler: Callable[[], Any] = lambda: None
    scores_only: bool = False
    data_keys: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        """Index of this process."""
        return int(self.accelerator.process_index) if self.accelerator is not None else 0

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return int(self.accelerator.num_processes) if self.accelerator is not None else 1

    def rng(self, step: int) -> np.random.Generator:
        """A private generator that is a function of (seed, step) alone: the same on every rank and on resume."""
        return np.random.default_rng([self.seed, step])
