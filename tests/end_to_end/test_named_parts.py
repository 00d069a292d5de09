"""Components of the packages beside each other: each pair and each four of them train, in the shares asked for."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import Qwen2Config, Qwen2ForCausalLM, Trainer, TrainingArguments

from dataflex.record.plans import plan_name
from dataflex.trainers import dynamic_trainer

DOMAINS = {"a": 12, "b": 20}
VOCABULARY = 24
KEYS = {"train_type": "dynamic", "warmup_step": 1, "update_step": 1, "update_times": 2}
"""Two boundaries, after the first and the second of three steps."""

SELECTORS = {name: {"name": name} for name in ("random", "loss", "less", "lexical")}
MIXERS = {
    "schedule": {"name": "schedule", "params": {"points": {0: {"a": 0.25, "b": 0.75}}}},
    "loss": {"name": "loss"},
    "doremi": {"name": "doremi", "params": {"mode": "online", "reference": "reference", "reference_losses": "live"}},
}
ORDERERS = {name: {"name": name} for name in ("sorting", "folding")}
WEIGHTERS = {"loss": {"name": "loss", "params": {"window": 4}}}
KINDS = {"selector": SELECTORS, "mixer": MIXERS, "orderer": ORDERERS, "weighter": WEIGHTERS}
CHEAPEST = {"selector": "random", "mixer": "schedule", "orderer": "sorting", "weighter": "loss"}
PAIRS = [
    {one: mine, two: other}
    for one, two in itertools.combinations(KINDS, 2)
    for mine, other in itertools.product(KINDS[one], KINDS[two])
]
FOURS = [dict(zip(KINDS, names, strict=True)) for names in itertools.product(*KINDS.values())]


def rows(count: int, seed: int) -> list[dict[str, list[int]]]:
    draw = np.random.default_rng(seed)
    made = [draw.integers(1, VOCABULARY, 4 + row % 6).tolist() for row in range(count)]
    return [{"input_ids": ids, "labels": [-100, *ids[1:]]} for ids in made]


def collate(batch: Any) -> dict[str, torch.Tensor]:
    def padded(name: str, value: int) -> torch.Tensor:
        return pad_sequence([torch.tensor(row[name]) for row in batch], batch_first=True, padding_value=value)

    labels = padded("labels", -100)
    return {"input_ids": padded("input_ids", 0), "attention_mask": (labels >= -100).long(), "labels": labels}


def model(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    return Qwen2ForCausalLM(Qwen2Config(**sizes, num_attention_heads=2, num_key_value_heads=1))


def components(names: dict[str, str]) -> dict[str, Any]:
    asked: dict[str, Any] = {kind: dict(KINDS[kind][name]) for kind, name in names.items()}
    if "orderer" in asked and names.get("selector", "random") == "random":  # without scores of a selector
        asked["orderer"]["params"] = {"by": "length" if "selector" in names else "loss"}
    return asked


def trains(folder: Path, names: dict[str, str]) -> None:
    """Train, and check that every part decided and every domain gave the rows that its share says."""
    asked = components(names)
    if names.get("mixer") == "doremi":
        model(seed=1).save_pretrained(folder / "reference")
        asked["mixer"]["params"] = {**asked["mixer"]["params"], "reference": str(folder / "reference")}
    mixes = {"init_mixture_proportions": [0.25, 0.75]} if "mixer" in names else {}
    made: Any = dynamic_trainer(
        Trainer, {**KEYS, **mixes, "components": asked}, domains=DOMAINS if "mixer" in names else None
    )
    trainer = made(
        model=model(),
        args=TrainingArguments(
            str(folder / "out"),
            per_device_train_batch_size=4,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
            remove_unused_columns=False,
        ),
        train_dataset=rows(32, seed=0),
        eval_dataset={"goal": rows(5, seed=1)},
        data_collator=collate,
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 3 and np.isfinite(losses).all()
    lines = [json.loads(line) for line in (folder / "out" / "decisions.jsonl").read_text().splitlines()]
    for kind, name in names.items():
        if kind != "weighter":
            decided = [line for line in lines if line["kind"] == kind and line["component"] == name]
            assert [line["step"] for line in decided][:2] == [1, 2]
    if "mixer" in names:
        for line in lines:
            if line["kind"] == "mixer" and line["step"] < 3:
                plan = np.load(folder / "out" / plan_name(line["step"]))
                given = np.array([(plan < 12).sum(), (plan >= 12).sum()])
                assert given.tolist() == line["metrics"]["samples"]
                assert (np.abs(given - 4 * np.array(line["metrics"]["proportions"])) < 2).all()
    if "weighter" in names:
        assert any("dataflex/weight_mean" in entry for entry in trainer.state.log_history)


def named(names: dict[str, str]) -> str:
    return "-".join(f"{kind} {name}" for kind, name in names.items())


def test_one_of_each_kind_train_together(tmp_path: Path) -> None:
    trains(tmp_path, CHEAPEST)


@pytest.mark.parametrize(
    "names", [{one: CHEAPEST[one], two: CHEAPEST[two]} for one, two in itertools.combinations(CHEAPEST, 2)], ids=named
)
def test_each_pair_of_kinds_trains(tmp_path: Path, names: dict[str, str]) -> None:
    trains(tmp_path, names)


@pytest.mark.parametrize("names", PAIRS + FOURS, ids=named)
def test_every_pair_and_every_four_train(tmp_path: Path, names: dict[str, str]) -> None:
    trains(tmp_path, names)
