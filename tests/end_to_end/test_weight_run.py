"""Weight runs from the run file to the log, through LlamaFactory."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import NOTE_WEIGHT, NOTE_WEIGHTER, call, script, weights_digest

from dataflex.errors import ConfigError

pytestmark = pytest.mark.slow

METRICS = (
    "dataflex/weight_ess",
    "dataflex/weight_min",
    "dataflex/weight_mean",
    "dataflex/weight_max",
    "dataflex/weighted_loss",
    "dataflex/unweighted_loss",
)
UNIFORM = NOTE_WEIGHT | {"component_params": {"strategy": "uniform"}}


def history(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "trainer_state.json").read_text())["log_history"]


def adapter(folder: Path) -> torch.Tensor:
    tensors = load_file(folder / "adapter_model.safetensors")
    return torch.cat([tensors[name].double().flatten() for name in sorted(tensors)])


def test_the_notes_yaml_trains_and_logs_its_weights_past_the_warm_up(workshop):
    run = workshop.run_file(**NOTE_WEIGHT, component_params={"window": 4})
    assert call(script("dataflex-cli"), "train", str(run)).returncode == 0
    steps = [entry for entry in history(workshop.out / "run") if "loss" in entry]
    assert [entry["step"] for entry in steps] == [1, 2, 3]
    assert [[name in entry for name in METRICS] for entry in steps] == [[False] * 6, [True] * 6, [True] * 6]
    # The first weighted step fills the normaliser's window of 4 samples; the second one tells its samples apart.
    assert steps[1]["dataflex/weight_ess"] == 1 and 0 < steps[2]["dataflex/weight_ess"] < 1
    assert not (workshop.out / "run" / "decisions.jsonl").exists()


@pytest.mark.parametrize("finetuning_type", ["lora", "full"])
def test_uniform_weights_are_llamafactorys_own_run(workshop, train, finetuning_type):
    # 61 of 64 rows: an epoch ends in a step of one row, which both count as they are
    keys = {"finetuning_type": finetuning_type, "max_samples": 61, "num_train_epochs": 1.2, "logging_steps": 1}
    train(workshop.run_file("static", **keys))
    train(workshop.run_file("uniform", **UNIFORM | keys | {"train_step": None}))
    assert weights_digest(workshop.out / "static") == weights_digest(workshop.out / "uniform")
    same = ("step", "epoch", "loss", "learning_rate")
    logged = [
        [[entry[name] for name in same] for entry in history(workshop.out / name) if "loss" in entry]
        for name in ("static", "uniform")
    ]
    assert logged[0] == [pytest.approx(entry) for entry in logged[1]]


def test_the_notes_class_trains_from_a_single_file(workshop, train):
    mine = workshop.out / "mine.py"
    mine.write_text(NOTE_WEIGHTER)
    train(workshop.run_file(**NOTE_WEIGHT | {"component_name": "custom"}), plugins=(str(mine),))
    steps = [entry for entry in history(workshop.out / "run") if "loss" in entry]
    assert [entry["step"] for entry in steps] == [1, 2, 3] and all(3 < entry["loss"] < 7 for entry in steps)
    assert not any("dataflex/weight_ess" in entry for entry in steps)


def test_the_notes_reduction_without_its_step_is_called_past_the_warm_up(workshop, train, caplog):
    mine = workshop.out / "mine.py"
    reduction, _, _ = NOTE_WEIGHTER.partition("    def training_step")
    mine.write_text(reduction)
    keys = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    with caplog.at_level(logging.INFO, "dataflex"):
        train(workshop.run_file("ours", **NOTE_WEIGHT | keys | {"component_name": "custom"}), plugins=(str(mine),))
    train(workshop.run_file("static", **keys, max_steps=3))
    # with one sample a micro-batch, its share of the target tokens makes the mean the stock token mean
    assert float((adapter(workshop.out / "ours") - adapter(workshop.out / "static")).abs().max()) <= 1e-6
    assert "CustomWeighter initialized with strategy: uniform" in caplog.text


@pytest.mark.parametrize(
    ("packing", "unit"),
    [
        ({"packing": True, "neat_packing": True}, "one weight for each sample of a packed row"),
        ({"packing": True}, "one weight for each sample of a packed row"),  # its position ids begin again
        ({"packing": True, "stage": "pt"}, "one weight for each row"),
        ({}, "one weight for each row"),
    ],
    ids=["neat", "sft", "pt", "none"],
)
def test_packed_rows_are_weighed_by_sample_where_the_batch_tells_them_apart(workshop, train, caplog, packing, unit):
    with caplog.at_level(logging.INFO, "dataflex"):
        train(workshop.run_file(**NOTE_WEIGHT, cutoff_len=256, **packing))
    assert unit in caplog.text


def test_a_run_without_train_step_takes_the_epochs_and_update_keys_do_nothing(workshop, train, caplog):
    keys = NOTE_WEIGHT | {"train_step": None, "update_step": 7, "update_times": 2, "num_train_epochs": 0.5}
    with caplog.at_level(logging.WARNING, "dataflex"):
        train(workshop.run_file(**keys))
    assert history(workshop.out / "run")[-1]["step"] == 8  # half of 64 rows, 4 a step
    assert "update_step and update_times ignored: a weighter acts on every step" in caplog.text
    assert "num_train_epochs is ignored" not in caplog.text


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"use_dft_loss": True}, "use_dft_loss replaces by another loss"),
        ({"use_eaft_loss": True}, "use_eaft_loss replaces by another loss"),
        ({"use_asft_loss": True}, "use_asft_loss"),
        ({"enable_liger_kernel": True}, "needs the model's logits, which enable_liger_kernel keeps to itself"),
        ({"stage": "dpo"}, "stage: dpo .* has another objective"),
        ({"stage": "kto"}, "stage: kto .* has another objective"),
        ({"stage": "rm"}, "stage: rm .* has another objective"),
        ({"stage": "ppo"}, "stage: ppo has no data order to choose"),
        ({"warmup_step": 3}, "train_step=3 ends the run before the weighter acts at warmup_step=3"),
        ({"train_step": None, "max_steps": 1}, "ends after 1 steps, before the weighter acts at warmup_step=1"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else None,
)
def test_what_cannot_be_weighed_is_refused_before_the_model_loads(workshop, train, monkeypatch, keys, message):
    import llamafactory.train.sft.workflow as workflow

    monkeypatch.setattr(workflow, "load_model", lambda *args, **kwargs: pytest.fail("the model was loaded"))
    with pytest.raises(ConfigError, match=message):
        train(workshop.run_file(**NOTE_WEIGHT | keys))
