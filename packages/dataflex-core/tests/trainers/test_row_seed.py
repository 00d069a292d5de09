"""``data_seed`` decides every draw of rows, and nothing else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from resealed import reseal
from transformers import Trainer, TrainingArguments

from dataflex.decisions import DecisionLog
from dataflex.record.run import RunRecord
from dataflex.trainers import dynamic_trainer

ROWS = [{"x": torch.tensor([float(row), 1.0]), "labels": torch.tensor([1.0])} for row in range(30)]
MINE = """
from dataflex import Selector, Weighter, register_selector, register_weighter

@register_selector("drawn", stochastic=True)
class Drawn(Selector):
    def select(self, model, step_id, num_samples, **kwargs):
        return self.context.rng(step_id).choice(len(self.dataset), num_samples, replace=False)

@register_weighter("even")
class Even(Weighter):
    def training_step(self, ctx, model, inputs, **facts):
        loss = ctx.compute_loss(model, ctx._prepare_inputs(inputs))
        ctx.accelerator.backward(loss)
        return loss.detach()
"""
KEYS: dict[str, dict[str, Any]] = {
    "select": {"train_type": "dynamic_select", "component_name": "drawn"},
    "mix": {"train_type": "static_mix", "mixture_sample_rule": "uniform", "train_step": 6},
    "weight": {"train_type": "dynamic_weight", "component_name": "even", "train_step": 6},
}
STEPS = {"warmup_step": 2, "update_step": 2, "update_times": 2}


class Noisy(torch.nn.Module):
    """A weight, and dropout that goes by the run's ``seed``."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        predicted = self.layer(torch.nn.functional.dropout(x / 30, 0.2, self.training))
        return {"loss": (predicted - labels).pow(2).mean(), "logits": predicted}


def trained(folder: Path, kind: str, *, start: str | None = None, **arguments: Any) -> Any:
    folder.mkdir(exist_ok=True)
    (folder / "mine.py").write_text(MINE)
    steps = STEPS if kind == "select" else {"warmup_step": 2} if kind == "weight" else {}
    domains = {"web": 20, "code": 10} if kind == "mix" else None
    cls = dynamic_trainer(Trainer, KEYS[kind] | steps, plugins=[folder / "mine.py"], domains=domains)
    args = TrainingArguments(
        str(folder / "out"),
        per_device_train_batch_size=2,
        learning_rate=0.05,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        save_strategy="steps",
        save_steps=4,
        **arguments,
    )
    trainer = cls(model=Noisy(), args=args, train_dataset=ROWS)
    trainer.train(start)
    return trainer


def rows(trainer: Any) -> list[list[int]]:
    """The plans of a run, in order."""
    out = Path(trainer.args.output_dir)
    plans = sorted((out / "decisions").glob("plan-*.npy")) + sorted((out / "decisions").glob("result-*.npy"))
    return [np.load(plan).tolist() for plan in plans]


def weights(trainer: Any) -> str:
    values = [value.detach().numpy().tobytes() for value in trainer.model.state_dict().values()]
    return hashlib.sha256(b"".join(values)).hexdigest()


@pytest.mark.parametrize("kind", ["select", "mix"])
def test_data_seed_decides_the_rows_and_seed_the_rest(tmp_path: Path, kind: str) -> None:
    plain = trained(tmp_path / "plain", kind, seed=3)
    named = trained(tmp_path / "named", kind, seed=3, data_seed=3)
    other = trained(tmp_path / "other", kind, seed=3, data_seed=4)
    dropout = trained(tmp_path / "dropout", kind, seed=9, data_seed=3)
    assert rows(plain) == rows(named) == rows(dropout) != rows(other)
    assert weights(plain) == weights(named)
    assert weights(plain) != weights(dropout)  # the same rows, another dropout


def test_both_seeds_are_recorded(tmp_path: Path) -> None:
    trainer = trained(tmp_path, "select", seed=3, data_seed=4)
    out = Path(trainer.args.output_dir)
    info = RunRecord(out).info()
    assert info is not None and (info.seed, info.data_seed) == (3, 4)
    assert {(decision.seed, decision.data_seed) for decision in DecisionLog(out)} == {(3, 4)}
    engine = json.loads((out / "checkpoint-4" / "dataflex" / "engine.json").read_text())
    assert (engine["seed"], engine["data_seed"]) == (3, 4)


@pytest.mark.parametrize("kind", ["select", "mix", "weight"])
def test_a_resumed_run_draws_by_the_data_seed_it_began_with(tmp_path: Path, kind: str) -> None:
    whole = trained(tmp_path / "whole", kind, seed=3, data_seed=4)
    resumed = trained(tmp_path / "resumed", kind, start=f"{whole.args.output_dir}/checkpoint-4", seed=3, data_seed=4)
    assert weights(resumed) == weights(whole)


def test_a_checkpoint_of_before_goes_on_with_the_seed_it_had(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = trained(tmp_path / "before", "select", seed=3)  # what data_seed=4 gave when it had no effect
    checkpoint = Path(before.args.output_dir) / "checkpoint-4"
    path = checkpoint / "dataflex" / "engine.json"
    engine = json.loads(path.read_text())
    del engine["data_seed"], engine["sha256"]["keys.json"]
    path.write_text(json.dumps(engine))
    (checkpoint / "dataflex" / "keys.json").unlink()
    reseal(checkpoint)
    resumed = trained(tmp_path / "resumed", "select", start=str(checkpoint), seed=3, data_seed=4)
    assert weights(resumed) == weights(before)
    assert "data_seed: 4 has no effect" in caplog.text and "seed: 3" in caplog.text
    caplog.clear()
    again = trained(tmp_path / "again", "select", start=f"{resumed.args.output_dir}/checkpoint-6", seed=3, data_seed=4)
    assert weights(again) == weights(before) and "has no effect" not in caplog.text
