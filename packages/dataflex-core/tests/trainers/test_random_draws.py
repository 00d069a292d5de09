"""Runs that draw at random all the time: dropout and a collator that masks. A resumed run draws the same."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from chaos import WARM_WEIGHTS, WATCHFUL_MIXER
from records import decisions_without_times, without_times
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

from dataflex.errors import ConfigError
from dataflex.testing.tiny import write_model
from dataflex.trainers import dynamic_trainer

STAGES = {"warmup_step": 3, "update_step": 4, "update_times": 2}  # boundaries at 3 and 7 of 11
SELECT = STAGES | {"train_type": "dynamic_select", "component_name": "weights"}
MIX = STAGES | {"train_type": "dynamic_mix", "component_name": "watchful", "init_mixture_proportions": [0.5, 0.5]}
SIZES = {"first": 25, "second": 15}


def pool() -> list[dict[str, list[int]]]:
    draw = np.random.default_rng(4)
    return [{"input_ids": draw.integers(3, 250, size=length).tolist()} for length in draw.integers(4, 30, size=40)]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), dropout=0.1)


@pytest.fixture
def make(model_folder, tmp_path, monkeypatch):
    """Build a run with attention dropout, LoRA dropout and random masks, and with what each micro-batch held."""
    monkeypatch.setenv("CHAOS_STARTED", str(tmp_path / "started"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    files = {"weights": WARM_WEIGHTS, "watchful": WATCHFUL_MIXER}

    def make(config, output, *, workers=0, **arguments):
        from peft import LoraConfig, get_peft_model

        plugin = tmp_path / f"{config['component_name']}.py"
        plugin.write_text(files[config["component_name"]])
        domains = SIZES if config["train_type"] == "dynamic_mix" else None
        base = dynamic_trainer(Trainer, config, domains=domains, plugins=[plugin])
        batches = []

        class Watched(base):
            def training_step(self, model, inputs, *args, **kwargs):
                content = b"".join(inputs[name].numpy().tobytes() for name in ("input_ids", "labels"))
                batches.append((self.state.global_step, hashlib.sha256(content).hexdigest()))
                return super().training_step(model, inputs, *args, **kwargs)

        tokenizer = AutoTokenizer.from_pretrained(model_folder)
        tokenizer.mask_token = "!"
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_pretrained(model_folder)
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, lora_dropout=0.1))
        args = TrainingArguments(
            str(tmp_path / output),
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            learning_rate=1e-2,
            logging_steps=3,
            save_steps=2,
            save_strategy="steps",
            dataloader_num_workers=workers,
            remove_unused_columns=False,
            label_names=["labels"],
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            **arguments,
        )
        collator = DataCollatorForLanguageModeling(tokenizer, mlm=True, mlm_probability=0.3)
        trainer = Watched(model=model, args=args, train_dataset=pool(), data_collator=collator)
        return trainer, batches

    return make


def digest(model: torch.nn.Module) -> str:
    weights = model.state_dict()
    return hashlib.sha256(b"".join(weights[name].numpy().tobytes() for name in sorted(weights))).hexdigest()


def history(trainer: Trainer) -> list[dict[str, float]]:
    return [without_times(row) for row in trainer.state.log_history]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("config", [SELECT, MIX], ids=["select", "mix"])
def test_a_resumed_run_draws_what_the_uninterrupted_one_drew(make, tmp_path, config, workers):
    whole, batches = make(config, "whole", workers=workers)
    whole.train()
    assert len({content for _, content in batches}) == 22  # two micro-batches a step, none like another
    for stop in (2, 4, 6, 8):
        again, later = make(config, "again", workers=workers)
        again.train(str(tmp_path / "whole" / f"checkpoint-{stop}"))
        assert later == [(step, content) for step, content in batches if step >= stop]
        assert digest(again.model) == digest(whole.model)
        assert history(again) == history(whole)


def test_without_dropout_the_weights_are_others(make):
    digests = []
    for dropout in (0.1, 0.0):
        trainer, _ = make(SELECT, "out")
        for module in trainer.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = dropout
            if hasattr(module, "attention_dropout"):
                module.attention_dropout = dropout
        trainer.train()
        digests.append(digest(trainer.model))
    assert digests[0] != digests[1]


def test_without_a_seed_of_its_own_the_collator_would_mask_differently_after_a_resume(make, tmp_path, monkeypatch):
    monkeypatch.setattr("dataflex.trainers.dynamic.SeededCollator", lambda collator, seed: collator)
    whole, batches = make(SELECT, "whole")
    whole.train()
    again, later = make(SELECT, "again")
    again.train(str(tmp_path / "whole" / "checkpoint-4"))
    assert later != [(step, content) for step, content in batches if step >= 4]


@pytest.mark.parametrize("name", ["engine.json", "plan.npy", "component.safetensors", "component.json", "COMPLETE"])
def test_automatic_resume_goes_on_from_the_checkpoint_before_a_damaged_one(make, tmp_path, caplog, name):
    whole, _ = make(MIX, "out")
    whole.train()
    expected = decisions_without_times(tmp_path / "out")
    for step in (10, 11):
        path = tmp_path / "out" / f"checkpoint-{step}" / "dataflex" / name
        path.write_bytes(path.read_bytes()[:-2])
    named, _ = make(MIX, "out")
    good = tmp_path / "out" / "checkpoint-8"
    with pytest.raises(ConfigError, match=rf"(?s)checkpoint-10: .*{name}.*Resume from {good}, the last whole one"):
        named.train(str(tmp_path / "out" / "checkpoint-10"))
    again, later = make(MIX, "out")
    with caplog.at_level(logging.WARNING, "dataflex"):
        again.train(True)
    assert "not resuming from" in caplog.text and name in caplog.text
    assert later[0][0] == 8
    assert digest(again.model) == digest(whole.model)
    assert decisions_without_times(tmp_path / "out") == expected
