"""What it costs to compare loaded weights with their checkpoint, beside the load itself.

A Qwen2 is trained by full fine-tuning with AdamW for one step and resumed, with a plain Trainer. Timed is each part of
the load: the base model, the checkpoint's weights, the optimizer's state, and the comparison. Once all numbers are
compared, once (as above 2 GiB) some of each tensor. Libraries are imported before, which a command's start is not. Once
the files come from the page cache, where loading is nothing but copying memory, once from the disk. OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import figures

HIDDEN, LAYERS, VOCABULARY = 1024, 10, 32_000  # 0.8 GiB in fp32
LOAD = ("base", "weights", "optimizer")
PARTS = (*LOAD, "all", "sampled")


PLACES = {"page cache": (), "disk": ("--from-disk",)}
CLOCKS = {"seconds": time.perf_counter, "CPU seconds": time.process_time}
Times = dict[str, float]


def timed(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Times, Any]:
    """Seconds of a call by both clocks, and what it returned."""
    began = {clock: read() for clock, read in CLOCKS.items()}
    result = function(*args, **kwargs)
    return {clock: read() - began[clock] for clock, read in CLOCKS.items()}, result


def forget(folder: Path) -> None:
    """Let the next read of each file come from the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def write(folder: Path) -> None:
    """A base model, and a checkpoint of its first step."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=4 * HIDDEN, num_hidden_layers=LAYERS,
        num_attention_heads=8, num_key_value_heads=8, tie_word_embeddings=True,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder / "base")
    trainer(folder).train()


def trainer(folder: Path) -> Any:
    """A Trainer of one step."""
    import torch
    from transformers import Qwen2ForCausalLM, Trainer, TrainingArguments

    rows = [{"input_ids": torch.arange(8), "labels": torch.arange(8)}] * 2
    args = TrainingArguments(
        str(folder / "run"), report_to="none", max_steps=1, use_cpu=True, disable_tqdm=True, log_level="error",
        per_device_train_batch_size=1, save_steps=1,
    )  # fmt: skip
    model = Qwen2ForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
    return Trainer(model=model, args=args, train_dataset=rows)


def measure(folder: Path, *, from_disk: bool) -> dict[str, Times]:
    """Seconds of the parts of one load."""
    from dataflex.weights import compare
    from dataflex.weights.files import saved_weights
    from dataflex.weights.views import model_views

    checkpoint = folder / "run" / "checkpoint-1"
    trainer(folder)  # imports
    if from_disk:
        forget(folder)
    base, ours = timed(trainer, folder)
    weights, _ = timed(ours._load_from_checkpoint, str(checkpoint))
    ours.create_optimizer_and_scheduler(1)
    optimizer, _ = timed(ours._load_optimizer_and_scheduler, str(checkpoint))

    def check() -> list[Any]:
        saved = saved_weights(checkpoint)
        assert saved is not None
        views = model_views(ours.model)
        found = compare.names_and_shapes(saved, compare.fitting(saved, views))
        return found + compare.values(saved, compare.fitting(saved, model_views(ours.model)))

    whole, found = timed(check)
    compare.WHOLE = 0
    sampled, others = timed(check)
    assert not found and not others
    return dict(zip(PARTS, (base, weights, optimizer, whole, sampled), strict=True))


def main() -> None:
    """Measure in fresh processes and print, or with ``--write`` keep, the figures."""
    parser: argparse.ArgumentParser = figures.parser(__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--in-process", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--from-disk", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.in_process:
        print(json.dumps(measure(given.in_process, from_disk=given.from_disk)))
        return
    kept = {}
    with tempfile.TemporaryDirectory() as name:
        write(Path(name))
        for place, options in PLACES.items():
            found = [
                figures.in_a_process(__file__, "--in-process", name, *options, OMP_NUM_THREADS="1")
                for _ in range(given.runs)
            ]
            for clock in CLOCKS:
                parts = {part: [run[part][clock] for run in found] for part in PARTS}
                load = [sum(times) for times in zip(*(parts[part] for part in LOAD), strict=True)]
                kept |= {f"{place}: {part}, {clock}": figures.figure(times) for part, times in parts.items()}
                for part in ("all", "sampled"):
                    shares = [times / of for times, of in zip(parts[part], load, strict=True)]
                    kept[f"{place}: {part} over the load, {clock}"] = figures.figure(shares)
    figures.show(kept)
    if given.write:
        figures.keep("loading", kept)


if __name__ == "__main__":
    main()
