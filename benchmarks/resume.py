"""How long it takes to go on from a checkpoint of a run with a plan of ten million rows, beside a stock run.

Both train a tiny Qwen2 on an Arrow table of ten million rows of eight tokens, and stop after 20 steps.
Timed is ``train(resume_from_checkpoint=...)`` up to the end of the first step, in fresh processes that alternate. The
stock run reads its shuffled pool; ours a mixture of ten domains in uneven proportions.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import figures

ROWS, BATCH, LENGTH, STOP = 10_000_000, 8, 8, 20
DOMAINS = 10
KINDS = ("stock", "planned")


def pool() -> Any:
    """The rows: a table whose columns are made at once."""
    import numpy as np
    import pyarrow as pa
    from datasets import Dataset

    tokens = np.random.default_rng(0).integers(1, 1000, ROWS * LENGTH, dtype=np.int32)
    rows = pa.ListArray.from_arrays(np.arange(0, ROWS * LENGTH + 1, LENGTH, dtype=np.int32), pa.array(tokens))
    return Dataset(pa.table({"input_ids": rows}))


def collate(rows: list[dict[str, list[int]]]) -> dict[str, Any]:
    """Rows of one length; every token is a target."""
    import torch

    tokens = torch.tensor([row["input_ids"] for row in rows])
    return {"input_ids": tokens, "labels": tokens}


def make(kind: str, folder: Path) -> Any:
    """The Trainer of a run that has ten million rows to read."""
    import torch
    from less import VOCABULARY
    from transformers import Qwen2Config, Qwen2ForCausalLM, Trainer, TrainingArguments

    from dataflex.trainers import dynamic_trainer

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, tie_word_embeddings=True,
    )  # fmt: skip
    args = TrainingArguments(
        str(folder / kind), report_to="none", save_steps=STOP, logging_steps=1_000, disable_tqdm=True, use_cpu=True,
        log_level="error", per_device_train_batch_size=BATCH, max_steps=ROWS // BATCH,
    )  # fmt: skip
    parts = [(k + 1) / sum(range(1, DOMAINS + 1)) for k in range(DOMAINS)]
    keys = {"train_type": "static_mix", "init_mixture_proportions": parts, "train_step": ROWS // BATCH}
    domains = {f"domain-{k}": ROWS // DOMAINS for k in range(DOMAINS)}
    cls = Trainer if kind == "stock" else dynamic_trainer(Trainer, keys, domains=domains)
    return cls(model=Qwen2ForCausalLM(config), args=args, train_dataset=pool(), data_collator=collate)


def train(kind: str, folder: Path, *, resume: bool) -> float:
    """Train to the checkpoint, or one step from it; returns seconds from the call to the end of the first step."""
    from transformers import TrainerCallback

    ended: list[float] = []

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            ended.append(time.perf_counter())
            control.should_training_stop = resume or state.global_step >= STOP

    trainer = make(kind, folder)
    trainer.add_callback(Stop())
    began = time.perf_counter()
    trainer.train(resume_from_checkpoint=str(folder / kind / f"checkpoint-{STOP}") if resume else None)
    return ended[0] - began


def main() -> None:
    """Measure, print a table and, if asked, write the figures."""
    parser = figures.parser(__doc__)
    parser.add_argument("--runs", type=int, default=5, help="pairs")
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--resume", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.kind:
        print(json.dumps(train(options.kind, options.folder, resume=options.resume)))
        return
    with tempfile.TemporaryDirectory() as folder:
        started = {kind: figures.in_a_process(__file__, "--kind", kind, "--folder", folder) for kind in KINDS}
        pairs = [
            {kind: figures.in_a_process(__file__, "--kind", kind, "--folder", folder, "--resume") for kind in order}
            for order in (KINDS if run % 2 else KINDS[::-1] for run in range(options.runs))
        ]
    found = {f"{kind}, seconds": figures.figure([pair[kind] for pair in pairs]) for kind in KINDS}
    found["planned over stock"] = figures.figure([pair["planned"] / pair["stock"] for pair in pairs])
    found |= {f"new run, {kind}: first step, seconds": figures.figure([started[kind]]) for kind in KINDS}
    figures.show(found)
    if options.write:
        figures.keep("resume", found, rows=ROWS, batch=BATCH, domains=DOMAINS)


if __name__ == "__main__":
    main()
