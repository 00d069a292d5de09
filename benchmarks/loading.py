"""What it costs to compare loaded weights with their checkpoint, beside the load itself.

A Qwen2 is trained by full fine-tuning with AdamW for one step and resumed, with a plain Trainer. Timed is the CPU time
of each part of the load: the base model, the checkpoint's weights, the optimizer's state, and the comparison. Once all
numbers are compared, once (as above 2 GiB) some of each tensor. Files come from the page cache: a disk would only lower
the share.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import figures

HIDDEN, LAYERS, VOCABULARY = 1024, 10, 32_000  # 0.8 GiB in fp32
PARTS = ("base", "weights", "optimizer", "all", "sampled")


def timed(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[float, Any]:
    """CPU seconds of a call, and what it returned."""
    began = time.process_time()
    result = function(*args, **kwargs)
    return time.process_time() - began, result


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


def measure(folder: Path) -> dict[str, float]:
    """CPU seconds of the parts of one load."""
    from dataflex.weights import compare
    from dataflex.weights.files import saved_weights
    from dataflex.weights.views import model_views

    checkpoint = folder / "run" / "checkpoint-1"
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
    given = parser.parse_args()
    if given.in_process:
        print(json.dumps(measure(given.in_process)))
        return
    with tempfile.TemporaryDirectory() as name:
        write(Path(name))
        found = []
        for _ in range(given.runs):
            command = [sys.executable, __file__, "--in-process", name]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
    load = [run["base"] + run["weights"] + run["optimizer"] for run in found]
    kept = {f"{part}, CPU seconds": figures.figure([run[part] for run in found]) for part in PARTS}
    for part in ("all", "sampled"):
        kept[f"{part} over the load"] = figures.figure([run[part] / of for run, of in zip(found, load, strict=True)])
        kept[f"{part} over the weights"] = figures.figure([run[part] / run["weights"] for run in found])
    figures.show(kept)
    if given.write:
        figures.keep("loading", kept)


if __name__ == "__main__":
    main()
