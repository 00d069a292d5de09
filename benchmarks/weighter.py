"""What a weighted training step costs beside a stock one: time on two small models, memory at a large vocabulary.

Time: two Trainers take turns in one process, so that a busy machine slows both; the figure is the ratio of the median
step times, by the wall clock and by the process's own CPU clock, which other processes disturb less.
Memory: one step of 4 x 1024 tokens at a vocabulary of 152k, each kind in a process of its own; the figure
is the ratio of the peaks (of the process on CPU, of the allocator on CUDA). ``--write`` keeps all figures in
``benchmarks/results/weighter.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, Trainer, TrainerCallback, TrainingArguments

from dataflex.trainers import dynamic_trainer

RESULT = Path(__file__).parent / "results" / "weighter.json"
KINDS = ("stock", "weighted")
WEIGHT = {"train_type": "dynamic_weight", "component_name": "loss", "component_params": {"strategy": "linupper"}}
ROUND_STEPS = 20
BATCH, LENGTH = 8, 128
MODELS = {"tiny": {"hidden": 32, "layers": 2}, "small": {"hidden": 256, "layers": 4}}
VOCABULARY, LARGE_BATCH, LARGE_LENGTH = 152_000, 4, 1024


class StepTimes(TrainerCallback):
    """Seconds from the beginning of each step to that of the next: by the wall, and of CPU time."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self._began: tuple[float, float] | None = None

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Leave out what lies between two calls of train()."""
        self._began = None

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Take the time."""
        now = time.perf_counter(), time.process_time()
        if self._began is not None:
            self.wall.append(now[0] - self._began[0])
            self.cpu.append(now[1] - self._began[1])
        self._began = now


def rows(count: int, length: int, vocabulary: int) -> list[dict[str, torch.Tensor]]:
    """Random rows; the first quarter of each is no target."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary, (count, length), generator=draw)
    labels = ids.clone()
    labels[:, : length // 4] = -100
    return [{"input_ids": ids[row], "labels": labels[row]} for row in range(count)]


def collate(batch: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Stack rows of one length."""
    return {name: torch.stack([row[name] for row in batch]) for name in ("input_ids", "labels")}


def make(
    kind: str, folder: str, *, vocabulary: int, hidden: int, layers: int, length: int, **arguments: Any
) -> Trainer:
    """A stock or a weighted Trainer over a small Qwen2."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048, tie_word_embeddings=True,
    )  # fmt: skip
    args = TrainingArguments(
        folder, report_to="none", save_strategy="no", logging_steps=10, disable_tqdm=True, log_level="error",
        use_cpu=not torch.cuda.is_available(), **arguments,
    )  # fmt: skip
    cls = Trainer if kind == "stock" else dynamic_trainer(Trainer, WEIGHT)
    pool = rows(64, length, vocabulary)
    return cls(model=Qwen2ForCausalLM(config), args=args, train_dataset=pool, data_collator=collate)


def step_seconds(rounds: int, folder: str, *, hidden: int, layers: int) -> dict[str, StepTimes]:
    """Times of the steps of both kinds, which take turns every :data:`ROUND_STEPS` steps."""
    times = {kind: StepTimes() for kind in KINDS}
    trainers = {
        kind: make(
            kind, folder, vocabulary=259, hidden=hidden, layers=layers, length=LENGTH,
            per_device_train_batch_size=BATCH, max_steps=ROUND_STEPS,
        )
        for kind in KINDS
    }  # fmt: skip
    for trainer in trainers.values():
        trainer.train()  # warms caches; not counted
    for kind, trainer in trainers.items():
        trainer.add_callback(times[kind])
    for number in range(rounds):
        for kind in KINDS if number % 2 else reversed(KINDS):
            trainers[kind].train()
    return times


def peak_megabytes(kind: str, folder: str) -> float:
    """Peak memory of one step at the large vocabulary, in this process."""
    trainer = make(
        kind, folder, vocabulary=VOCABULARY, hidden=32, layers=1, length=LARGE_LENGTH,
        per_device_train_batch_size=LARGE_BATCH, max_steps=1,
    )  # fmt: skip
    trainer.train()
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def peaks_in_processes() -> dict[str, float]:
    """:func:`peak_megabytes` of both kinds."""
    command = [sys.executable, __file__, "--peak-of"]
    done = {
        kind: subprocess.run([*command, kind], check=True, stdout=subprocess.PIPE, text=True).stdout for kind in KINDS
    }
    return {kind: float(output.splitlines()[-1]) for kind, output in done.items()}


def main() -> None:
    """Measure, print a table and, if asked, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help=f"turns of {ROUND_STEPS} steps of each kind")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.relative_to(RESULT.parents[2])}")
    parser.add_argument("--peak-of", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.peak_of:
            print(peak_megabytes(options.peak_of, folder))
            return
        times = {name: step_seconds(options.rounds, folder, **shape) for name, shape in MODELS.items()}
    table = {
        f"{name}, {clock} ms": {kind: 1e3 * statistics.median(getattr(found[kind], clock)) for kind in KINDS}
        for name, found in times.items()
        for clock in ("wall", "cpu")
    }
    table["peak MB"] = peaks_in_processes()
    print(f"{'':<16}{'stock':>10}{'weighted':>10}{'ratio':>8}")
    for name, figures in table.items():
        cells = "".join(f"{figures[kind]:>10.2f}" for kind in KINDS)
        print(f"{name:<16}{cells}{figures['weighted'] / figures['stock']:>8.3f}")
    if options.write:
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        facts = {"python": platform.python_version(), "torch": torch.__version__, "device": device}
        RESULT.parent.mkdir(exist_ok=True)
        text = json.dumps({**facts, "cpus": os.cpu_count(), "medians": table}, indent=1)
        RESULT.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
