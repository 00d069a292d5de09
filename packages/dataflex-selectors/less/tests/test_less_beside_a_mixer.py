"""``less`` beside a mixer: the eval set is looked at once, and each domain gives its best rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from less_cases import Pad, pool_and_goals, reference_cosines, tiny_qwen
from transformers import Trainer, TrainingArguments

from dataflex.record.plans import result_name
from dataflex.trainers import dynamic_trainer

DOMAINS = {"a": 10, "b": 14}
KEYS = {
    "train_type": "dynamic",
    "components": {"mixer": "static", "selector": {"name": "less", "params": {"preconditioner": "sgd"}}},
    "init_mixture_proportions": [0.25, 0.75],
    "warmup_step": 0,
    "update_step": 2,
    "update_times": 2,
}


def collate(rows: Any) -> dict[str, torch.Tensor]:
    return Pad()([dict(row) for row in rows])


def test_each_domain_gives_its_share_of_rows_and_the_best_by_the_book(tmp_path: Path) -> None:
    rows, goals = pool_and_goals(size=24)
    model = tiny_qwen()
    best = reference_cosines(model, None, rows, goals, "sgd").max(axis=1)
    made: Any = dynamic_trainer(Trainer, KEYS, domains=DOMAINS)
    trainer = made(
        model=model,
        args=TrainingArguments(
            str(tmp_path),
            per_device_train_batch_size=4,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            remove_unused_columns=False,
        ),
        train_dataset=rows,
        eval_dataset=goals,
        data_collator=collate,
    )
    trainer.train()
    assert set(trainer.parts.opened) == {"mixer", "selector"}  # one instance, not one a domain
    chosen = np.load(tmp_path / result_name(0, "selector"))
    for own, first, end in ((chosen[:2], 0, 10), (chosen[2:], 10, 24)):
        ranked = first + np.argsort(-best[first:end])
        assert sorted(own.tolist()) == sorted(ranked[: len(own)].tolist())
    lines = [json.loads(line) for line in (tmp_path / "decisions.jsonl").read_text().splitlines()]
    asked = [line["metrics"] for line in lines if line["kind"] == "selector"]
    assert [metrics["selected_of"] for metrics in asked] == [[2, 6], [2, 6]]
    assert all(metrics["validation"] == 7 for metrics in asked)
