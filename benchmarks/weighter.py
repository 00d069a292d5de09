"""What a weighted training step costs beside a stock one: time on three small models, memory at a large vocabulary.

Time: two Trainers take turns in one process, so that a busy machine slows both; the figure is the ratio of the median
step times (of several processes, their median), by the wall clock and by the process's own CPU clock, which other
processes disturb less.
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
CLOCKS = ("wall", "cpu")
ROUND_STEPS = 20
BATCH, LENGTH = 8, 128
MODELS = {
    "smallest": {"hidden": 32, "layers": 2},
    "quickstart": {"hidden": 128, "layers": 2},  # the shape of the demo's model
    "tiny": {"hidden": 256, "layers": 6},  # the shape of the model in benchmarks/less.py
}
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


def step_milliseconds(shape: str, first: str, rounds: int, folder: str) -> dict[str, dict[str, float]]:
    """Median times of the steps of both kinds, which take turns every :data:`ROUND_STEPS` steps in this process."""
    times = {kind: StepTimes() for kind in KINDS}
    order = sorted(KINDS, key=lambda kind: kind != first)
    trainers = {
        kind: make(
            kind, folder, vocabulary=259, length=LENGTH, per_device_train_batch_size=BATCH, max_steps=ROUND_STEPS,
            **MODELS[shape],
        )
        for kind in order
    }  # fmt: skip
    for trainer in trainers.values():
        trainer.train()  # warms caches; not counted
    for kind, trainer in trainers.items():
        trainer.add_callback(times[kind])
    for number in range(rounds):
        for kind in order if number % 2 else reversed(order):
            trainers[kind].train()
    return {
        clock: {kind: 1e3 * statistics.median(getattr(found, clock)) for kind, found in times.items()}
        for clock in CLOCKS
    }


def step_ratios(shape: str, processes: int, rounds: int) -> dict[str, dict[str, float]]:
    """Times of steps and their ratios: medians over processes, in which the kinds take turns in being made first.

    Two equal models of one process differ by some percent, by where in memory they lie; processes level that out.
    """
    runs = [
        json.loads(_in_a_process("--steps-of", shape, "--first", KINDS[number % 2], "--rounds", str(rounds)))
        for number in range(processes)
    ]
    table = {}
    for clock in CLOCKS:
        figures = {kind: statistics.median(run[clock][kind] for run in runs) for kind in KINDS}
        ratios = sorted(run[clock]["weighted"] / run[clock]["stock"] for run in runs)
        figures |= {"ratio": statistics.median(ratios), "least": ratios[0], "most": ratios[-1]}
        table[f"{shape}, {clock} ms"] = figures
    return table


def _in_a_process(*arguments: str) -> str:
    """The last line that this script prints in a fresh process."""
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]


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
    peaks = {kind: float(_in_a_process("--peak-of", kind)) for kind in KINDS}
    return {**peaks, "ratio": peaks["weighted"] / peaks["stock"]}


def main() -> None:
    """Measure, print a table and, if asked, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=6, help="processes a model is measured in")
    parser.add_argument("--rounds", type=int, default=6, help=f"turns of {ROUND_STEPS} steps of each kind in each")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.relative_to(RESULT.parents[2])}")
    parser.add_argument("--peak-of", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--steps-of", choices=MODELS, help=argparse.SUPPRESS)
    parser.add_argument("--first", choices=KINDS, default=KINDS[0], help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.peak_of:
            print(peak_megabytes(options.peak_of, folder))
            return
        if options.steps_of:
            print(json.dumps(step_milliseconds(options.steps_of, options.first, options.rounds, folder)))
            return
    table: dict[str, dict[str, float]] = {}
    for shape in MODELS:
        table |= step_ratios(shape, options.processes, options.rounds)
    table["peak MB"] = peaks_in_processes()
    print(f"{'':<20}{'stock':>10}{'weighted':>10}{'ratio':>8}  (least to most)")
    for name, figures in table.items():
        cells = "".join(f"{figures[kind]:>10.2f}" for kind in KINDS)
        spread = f"  ({figures['least']:.3f} to {figures['most']:.3f})" if "least" in figures else ""
        print(f"{name:<20}{cells}{figures['ratio']:>8.3f}{spread}")
    if options.write:
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        facts = {"python": platform.python_version(), "torch": torch.__version__, "device": device}
        RESULT.parent.mkdir(exist_ok=True)
        text = json.dumps({**facts, "cpus": os.cpu_count(), "medians": table}, indent=1)
        RESULT.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
