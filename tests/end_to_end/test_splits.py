"""A global batch is split as one likes: rows, decisions and losses stay what they are, whatever the component."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, Trainer, TrainingArguments

from dataflex.trainers import dynamic_trainer

pytestmark = pytest.mark.slow

SIZE = 40
STEPS = {"warmup_step": 2, "update_step": 2, "update_times": 3}
SHARES = {"init_mixture_proportions": [0.5, 0.5]}
KEYS: dict[str, dict[str, Any]] = {
    "selector random": {"train_type": "dynamic_select", "component_name": "random", **STEPS},
    "selector loss": {"train_type": "dynamic_select", "component_name": "loss", **STEPS},
    "mixer loss": {"train_type": "dynamic_mix", "component_name": "loss", **SHARES, **STEPS},
    "weighter loss": {
        "train_type": "dynamic_weight", "component_name": "loss", "warmup_step": 1, "train_step": 8,
        "component_params": {"strategy": "linupper", "window": 4},
    },
    "weighter of one's own": {"train_type": "dynamic_weight", "component_name": "mine", "warmup_step": 1,
                              "train_step": 8},
}  # fmt: skip
MINE = """
from dataflex import Weighter, register_weighter

@register_weighter("mine")
class Mine(Weighter):
    window = 4
    def weights(self, losses_B, context):
        return losses_B.clamp(min=0.1)
"""


class Careless(Qwen2ForCausalLM):
    """Of the models that do not take the number of trained tokens."""

    accepts_loss_kwargs = False


@pytest.fixture
def train(tmp_path: Path) -> Any:
    (tmp_path / "mine.py").write_text(MINE)
    draw = np.random.default_rng(3)
    rows = [draw.integers(0, 30, int(length)).tolist() for length in draw.integers(3, 9, SIZE)]
    pool = [{"input_ids": ids, "labels": ids} for ids in rows]

    def collate(batch: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        longest = max(len(row["input_ids"]) for row in batch)

        def padded(name: str, value: int) -> torch.Tensor:
            return torch.tensor([row[name] + [value] * (longest - len(row[name])) for row in batch])

        mask = [[1] * len(row["labels"]) + [0] * (longest - len(row["labels"])) for row in batch]
        return {"input_ids": padded("input_ids", 0), "labels": padded("labels", -100),
                "attention_mask": torch.tensor(mask)}  # fmt: skip

    def train(
        keys: dict[str, Any] | None, name: str, batch: int, accumulation: int, cls: type = Qwen2ForCausalLM
    ) -> Any:
        domains = {"web": 24, "code": SIZE - 24} if keys and "mix" in keys["train_type"] else None
        base = Trainer if keys is None else dynamic_trainer(
            Trainer, keys, plugins=[tmp_path / "mine.py"], domains=domains
        )  # fmt: skip
        torch.manual_seed(0)
        sizes = {"vocab_size": 30, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
        model = cls(Qwen2Config(**sizes, num_attention_heads=2, num_key_value_heads=2))
        args = TrainingArguments(
            str(tmp_path / name), per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation,
            learning_rate=1e-2, logging_steps=1, save_strategy="no", use_cpu=True, report_to="none", disable_tqdm=True,
            max_steps=8 if keys is None else -1,
        )  # fmt: skip
        made = base(model=model, args=args, train_dataset=pool, data_collator=collate)
        made.train()
        return made

    return train


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def rows_of(trainer: Any) -> list[list[int]]:
    plans = sorted((Path(trainer.args.output_dir) / "decisions").glob("*.npy"))
    return [np.load(plan, allow_pickle=False).tolist() for plan in plans]


@pytest.mark.parametrize("name", KEYS)
def test_a_batch_of_four_is_split_in_three_ways(train: Any, name: str) -> None:
    whole, halves, ones = (train(KEYS[name], f"{size}", size, 4 // size) for size in (4, 2, 1))
    assert len(losses(whole)) == 8
    for split in (halves, ones):
        assert losses(split) == pytest.approx(losses(whole), abs=6e-5)
        if "mixer loss" not in name:  # whose proportions are numbers, written down as such
            assert rows_of(split) == rows_of(whole)


@pytest.mark.parametrize("accumulation", [1, 4])
def test_equal_weights_are_the_stock_run_of_a_model_that_takes_no_count(train: Any, accumulation: int) -> None:
    keys = KEYS["weighter loss"] | {"component_params": {"strategy": "uniform"}}
    weighted = train(keys, "weighted", 4 // accumulation, accumulation, Careless)
    stock = train(None, "stock", 4 // accumulation, accumulation, Careless)
    for name, value in stock.model.state_dict().items():
        assert torch.equal(weighted.model.state_dict()[name], value), name
