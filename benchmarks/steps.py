"""What a training step costs beside a stock one: with each kind of component, and with four; and memory.

Time: the Trainers take turns in one process, so that a busy machine slows all of them. A figure is the ratio of the
median step times to the stock ones, one ratio a process, by the wall clock and by the process's own CPU clock, which
other processes disturb less. A selected run has one boundary, which the median leaves out: what is measured is the
steps between boundaries. A mixer that watches the losses stands beside the static mixture, too; what a fit
of `ado` takes is a figure of its own, for 250 points, to be set against refit_steps steps.
Four components in one run stand beside the same four in runs of their own: what they cost beyond the sum of what each
adds to a stock step, in stock steps. `--together` measures that alone, on the model of 256 x 6.
Memory: one weighted step of 4 x 1024 tokens at a vocabulary of 152k beside a stock one, each in a process of its own;
the figure is the ratio of the peaks (of the process on CPU, of the allocator on CUDA).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import figures
import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, Trainer, TrainerCallback, TrainingArguments

from dataflex.trainers import dynamic_trainer

ROUND_STEPS = 20
STOCK = "stock"
_MIXED = {
    "train_type": "dynamic_mix", "init_mixture_proportions": [0.5, 0.5], "warmup_step": 0, "update_step": 50,
    "train_step": ROUND_STEPS,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    STOCK: {},
    "static": {"train_type": "static_mix", "init_mixture_proportions": [0.5, 0.5], "train_step": ROUND_STEPS},
    "select": {
        "train_type": "dynamic_select",
        "component_name": "random",
        "warmup_step": ROUND_STEPS // 2,
        "update_step": ROUND_STEPS // 2,
        "update_times": 1,
    },
    "weighted": {
        "train_type": "dynamic_weight",
        "component_name": "loss",
        "component_params": {"strategy": "linupper"},
    },
    "odm": {**_MIXED, "component_name": "odm"},
    "ado": {
        **_MIXED,
        "component_name": "ado",
        "component_params": {"block_steps": 1, "ignore_steps": 0, "first_fit": ROUND_STEPS},
    },
    "adapt": {"train_type": "dynamic_weight", "component_name": "adapt"},
    "ordered": {
        "train_type": "dynamic_order",
        "component_name": "folding",
        "component_params": {"by": "length"},
        "train_step": ROUND_STEPS,
    },
    "four": {
        "train_type": "dynamic",
        "components": {
            "mixer": "odm",
            "selector": "random",
            "orderer": {"name": "folding", "params": {"by": "length"}},
            "weighter": {"name": "loss", "params": {"strategy": "linupper"}},
        },
        "init_mixture_proportions": [0.5, 0.5],
        "warmup_step": 1,  # in which losses are seen and not weighted, as is no step of the weighter alone
        "update_step": ROUND_STEPS - 1,
        "update_times": 1,
    },
}
"""Keys of a run file of each kind."""

MIXERS = ("odm", "ado")
FOUR, PARTS = "four", ("odm", "select", "ordered", "weighted")
"""A run of several components, and those of each of them alone."""

CLOCKS = ("wall", "cpu")
ROWS, BATCH, LENGTH = 256, 8, 128
MODELS = {
    "smallest": {"hidden": 32, "layers": 2},
    "quickstart": {"hidden": 128, "layers": 2},  # the shape of the demo's model
    "tiny": {"hidden": 256, "layers": 6},  # the shape of the model in benchmarks/less.py
}
DOMAINS = {"first": ROWS // 2, "second": ROWS // 2}
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
    """A Trainer of some kind over a small Qwen2."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048, tie_word_embeddings=True,
    )  # fmt: skip
    args = TrainingArguments(
        str(Path(folder, kind)), report_to="none", save_strategy="no", logging_steps=10, disable_tqdm=True,
        log_level="error", use_cpu=not torch.cuda.is_available(), **arguments,
    )  # fmt: skip
    cls = Trainer if kind == STOCK else dynamic_trainer(Trainer, KINDS[kind], domains=DOMAINS)
    pool = rows(ROWS, length, vocabulary)
    return cls(
        model=Qwen2ForCausalLM(config), args=args, train_dataset=pool, eval_dataset=pool[:BATCH], data_collator=collate
    )


def step_milliseconds(
    shape: str, kinds: Sequence[str], first: int, rounds: int, folder: str
) -> dict[str, dict[str, float]]:
    """Median step times of kinds by each clock; they take turns every :data:`ROUND_STEPS` steps in this process."""
    order = [*kinds[first % len(kinds) :], *kinds[: first % len(kinds)]]
    times = {kind: StepTimes() for kind in order}
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


def step_ratios(shape: str, kinds: Sequence[str], processes: int, rounds: int) -> dict[str, dict[str, float]]:
    """Ratios to the stock steps, one a process; the kinds take turns in being made first.

    Two equal models of one process differ by some percent, by where in memory they lie; processes level that out.
    """
    runs = [
        figures.in_a_process(
            __file__, "--steps-of", shape, "--kinds", *kinds, "--first", str(number), "--rounds", str(rounds)
        )
        for number in range(processes)
    ]
    table = {f"{shape}: stock, ms": figures.figure([run["wall"][STOCK] for run in runs])}
    for kind in kinds:
        if kind != STOCK:
            for clock in CLOCKS:
                ratios = [run[clock][kind] / run[clock][STOCK] for run in runs]
                table[f"{shape}: {kind}, {clock}"] = figures.figure(ratios)
    for kind in MIXERS if "static" in kinds else ():
        for clock in CLOCKS:
            ratios = [run[clock][kind] / run[clock]["static"] for run in runs]
            table[f"{shape}: {kind} over static, {clock}"] = figures.figure(ratios)
    for clock in CLOCKS:
        beyond = [_extra(run[clock], FOUR) - sum(_extra(run[clock], part) for part in PARTS) for run in runs]
        table[f"{shape}: {FOUR} beyond its parts, {clock}"] = figures.figure(beyond)
    return table


def _extra(milliseconds: Mapping[str, float], kind: str) -> float:
    """What a step of a kind costs beyond a stock one, in stock steps."""
    return milliseconds[kind] / milliseconds[STOCK] - 1.0


def fit_milliseconds() -> dict[str, float]:
    """Milliseconds that the law of one domain takes to fit."""
    from dataflex_mixers_ado.laws import MOST_POINTS, fit

    samples = 256 * (500.0 + 10 * np.arange(MOST_POINTS))
    losses = (1.8 + 10 * samples**-0.3) * np.exp(0.01 * np.random.default_rng(0).standard_normal(MOST_POINTS))
    taken = []
    for _ in range(8):
        began = time.perf_counter()
        fit(samples, losses)
        taken.append(1e3 * (time.perf_counter() - began))
    return figures.figure(taken)


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


def main() -> None:
    """Measure, print a table and, if asked, write the figures."""
    parser = figures.parser(__doc__)
    parser.add_argument("--together", action="store_true", help="only what four components in one run cost")
    parser.add_argument("--processes", type=int, help="processes a model is measured in; two for each kind by default")
    parser.add_argument("--rounds", type=int, default=6, help=f"turns of {ROUND_STEPS} steps of each kind in each")
    parser.add_argument("--peak-of", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--steps-of", choices=MODELS, help=argparse.SUPPRESS)
    parser.add_argument("--kinds", choices=KINDS, nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.peak_of:
            print(peak_megabytes(options.peak_of, folder))
            return
        if options.steps_of:
            times = step_milliseconds(options.steps_of, options.kinds, options.first, options.rounds, folder)
            print(json.dumps(times))
            return
    found: dict[str, dict[str, float]] = {}
    kinds = [STOCK, *PARTS, FOUR] if options.together else list(KINDS)
    for shape in ["tiny"] if options.together else MODELS:
        found |= step_ratios(shape, kinds, options.processes or 2 * len(kinds), options.rounds)
    if options.together:
        figures.show(found)
        if options.write:
            figures.keep("together", found, models={"tiny": MODELS["tiny"]}, rows=ROWS, batch=BATCH, length=LENGTH)
        return
    found["ado: one fit of one domain, ms"] = fit_milliseconds()
    peaks = {kind: figures.in_a_process(__file__, "--peak-of", kind) for kind in (STOCK, "weighted")}
    found["peak memory: weighted"] = figures.figure([peaks["weighted"] / peaks[STOCK]])
    figures.show(found)
    if options.write:
        figures.keep("steps", found, models=MODELS, rows=ROWS, batch=BATCH, length=LENGTH, peak_megabytes=peaks)


if __name__ == "__main__":
    main()
