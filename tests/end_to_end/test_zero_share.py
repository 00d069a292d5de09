"""A domain that nobody asks for: nothing waits for it, no number becomes none, and the report is drawn."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, Trainer, TrainingArguments

from dataflex.decisions import DecisionLog
from dataflex.report.page import write_report
from dataflex.trainers import dynamic_trainer

pytestmark = pytest.mark.slow

DOMAINS = {"web": 16, "code": 12, "idle": 8}
SHARES = {"web": 0.5, "code": 0.5, "idle": 0.0}
STEPS = {"warmup_step": 2, "update_step": 2, "update_times": 2}
MIXERS: dict[str, dict[str, Any]] = {
    "static": {"train_type": "static_mix", "train_step": 6},
    "loss": {"train_type": "dynamic_mix", "component_name": "loss", **STEPS},
    "schedule": {
        "train_type": "dynamic_mix", "component_name": "schedule", **STEPS,
        "component_params": {"points": {2: SHARES, 5: {"web": 1.0, "code": 0.0, "idle": 0.0}}},
    },
    "doremi": {"train_type": "dynamic_mix", "component_name": "doremi", **STEPS},
}  # fmt: skip


def model(seed: int) -> Any:
    torch.manual_seed(seed)
    sizes = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    return Qwen2ForCausalLM(Qwen2Config(**sizes, num_attention_heads=2, num_key_value_heads=2))


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for part in value.values() for number in numbers(part)]
    if isinstance(value, list):
        return [number for part in value for number in numbers(part)]
    return [value] if isinstance(value, float) else []


@pytest.mark.parametrize("unit", ["samples", "tokens"])
@pytest.mark.parametrize("name", MIXERS)
def test_a_domain_of_share_0_holds_nothing_up(tmp_path: Path, name: str, unit: str) -> None:
    keys = MIXERS[name] | {"init_mixture_proportions": SHARES, "mixture_unit": unit}
    if name == "doremi":
        model(1).save_pretrained(tmp_path / "reference")
        keys["component_params"] = {"reference": str(tmp_path / "reference")}
    rows = [{"input_ids": [row % 20, 3, 5], "labels": [row % 20, 3, 5]} for row in range(sum(DOMAINS.values()))]
    args = TrainingArguments(
        str(tmp_path / "out"), per_device_train_batch_size=4, logging_steps=1, save_strategy="no", use_cpu=True,
        report_to="none", disable_tqdm=True,
    )  # fmt: skip
    trainer = dynamic_trainer(Trainer, keys, domains=DOMAINS)(model=model(0), args=args, train_dataset=rows)
    assert trainer.train().global_step == 6
    records = list(DecisionLog(tmp_path / "out"))
    if name in ("static", "schedule", "doremi"):  # the mixer loss has a floor for each
        assert all(record.metrics["samples"][2] == 0 for record in records)
    assert all(math.isfinite(number) for record in records for number in numbers(json.loads(record.to_json())))
    assert all(math.isfinite(number) for entry in trainer.state.log_history for number in numbers(entry))
    write_report([tmp_path / "out"], tmp_path / "report.html", None)
    assert "idle" in (tmp_path / "report.html").read_text(encoding="utf-8")
