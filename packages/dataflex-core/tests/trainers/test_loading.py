"""Runs that load a checkpoint: to go on, to end with the best model, to score. In process, on random tiny models."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from resealed import reseal
from safetensors.torch import load_file, save_file
from transformers import (
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from dataflex.bridge import stock_loads
from dataflex.errors import ConfigError
from dataflex.trainers import dynamic_trainer
from dataflex.trainers.scoring import Scored, ScoringSession, scoring

FILE, ADAPTER = "model.safetensors", "adapter_model.safetensors"
EXPERTS = "model.layers.0.mlp.experts.gate_up_proj"  # of two projections of every expert, in memory alone
EXPERT = "model.layers.0.mlp.experts.1.up_proj.weight"  # in files
SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
MINE = """
import numpy as np, torch
from dataflex import Selection, Selector, register_selector

@register_selector("weighed")
class Weighed(Selector):
    '''Takes rows, and gives scores, by the weights of the moment.'''
    def select(self, model, step_id, num_samples, **kwargs):
        total = sum(tensor.detach().double().abs().sum().item() for tensor in model.parameters())
        draw = np.random.default_rng(int(total * 1e6))
        rows = draw.choice(len(self.dataset), num_samples, replace=False)
        return Selection(rows, scores=np.full(len(self.dataset), total))
"""
SELECT = {
    "train_type": "dynamic_select",
    "component_name": "weighed",
    "warmup_step": 2,
    "update_step": 2,
    "update_times": 1,
}
BEST = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "eval_loss"}


def moe() -> Any:
    torch.manual_seed(0)
    routed = {"moe_intermediate_size": 8, "num_experts": 3, "num_experts_per_tok": 2, "head_dim": 8}
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**SIZES, **routed))


def plain() -> Any:
    torch.manual_seed(0)
    return Qwen2ForCausalLM(Qwen2Config(**SIZES))


def adapted() -> Any:
    return get_peft_model(plain(), LoraConfig(r=2, target_modules=["q_proj"]))


def rows(count: int = 24) -> list[dict[str, torch.Tensor]]:
    draw = torch.Generator().manual_seed(5)
    ids = torch.randint(0, 40, (count, 6), generator=draw)
    return [{"input_ids": row, "labels": row} for row in ids]


def maker(folder: Path) -> Any:
    """A function that makes Trainers whose output lies in the folder."""
    mine = folder / "mine.py"
    mine.write_text(MINE)

    def make(model: Any, name: str = "run", *, base: type | None = None, **arguments: Any) -> Any:
        given = {
            "per_device_train_batch_size": 2,
            "max_steps": 4,
            "save_strategy": "steps",
            "save_steps": 1,
            "learning_rate": 0.02,
            "use_cpu": True,
            "report_to": "none",
            "disable_tqdm": True,
        }
        cls = base or dynamic_trainer(Trainer, SELECT, plugins=[mine])
        args = TrainingArguments(str(folder / name), **(given | arguments))
        return cls(model=model, args=args, train_dataset=rows(), eval_dataset=rows(4))

    return make


@pytest.fixture
def make(tmp_path: Path) -> Any:
    return maker(tmp_path)


class Best(TrainerCallback):
    """Calls checkpoint-2 the best once the last step is made; may spoil it, and take away the last checkpoint."""

    def __init__(self, *, spoilt: bool = False, last: bool = True) -> None:
        self.spoilt, self.last = spoilt, last

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "train_loss" in (logs or {}):
            best = Path(args.output_dir) / "checkpoint-2"
            state.best_model_checkpoint = str(best)
            if self.spoilt:
                edit(best / FILE, **{EXPERT: None})
            if not self.last:
                shutil.rmtree(best.with_name("checkpoint-4"))


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def edit(file: Path, **changes: torch.Tensor | None) -> None:
    """Give a file other tensors; ``None`` takes one out."""
    tensors = {**load_file(file), **{name.replace("__", "."): tensor for name, tensor in changes.items()}}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, file, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of a run that was never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    maker(folder)(moe()).train()
    return folder / "run"


def test_a_moe_run_goes_on_with_the_weights_it_was_stopped_with(make: Any, whole: Path, tmp_path: Path) -> None:
    resumed = make(moe())
    resumed.train(str(whole / "checkpoint-2"))
    ended = load_file(tmp_path / "run" / "checkpoint-4" / FILE)
    assert same(ended, load_file(whole / "checkpoint-4" / FILE))
    assert not torch.equal(moe().state_dict()[EXPERTS], resumed.model.state_dict()[EXPERTS])


def test_the_best_moe_model_is_the_final_one(make: Any) -> None:
    trainer = make(moe(), **BEST, save_steps=2)
    trainer.add_callback(Best())
    trainer.train()
    best = Path(trainer.args.output_dir) / "checkpoint-2"
    assert same(weights(trainer.model), weights(Qwen3MoeForCausalLM.from_pretrained(best, dtype=torch.float32)))


def test_scores_are_those_of_the_checkpoints_weights(make: Any, whole: Path) -> None:
    session = ScoringSession(make(moe()).session.run)
    trainer = make(moe(), "scores", base=scoring(Trainer, session))
    checkpoint = whole / "checkpoint-2"
    with pytest.raises(Scored) as scored:
        trainer.train(str(checkpoint))
    loaded = Qwen3MoeForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    assert scored.value.scores[0] == sum(tensor.detach().double().abs().sum().item() for tensor in loaded.parameters())


def test_a_static_run_is_warned_once_and_loads_what_the_trainer_loads(
    make: Any, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stock, warned = make(moe(), "stock", base=Trainer), make(moe(), "warned", base=Trainer)
    stock.train(str(whole / "checkpoint-2"))
    with caplog.at_level(logging.WARNING, "dataflex"), stock_loads.warned_of():
        warned.train(str(whole / "checkpoint-2"))
    (line,) = [record.getMessage() for record in caplog.records if record.name == "dataflex"]
    assert "does not go on from the weights of" in line and "model.layers.0.mlp.experts." in line
    assert same(weights(stock.model), weights(warned.model))
    assert "warned" not in Trainer._load_from_checkpoint.__qualname__
    caplog.clear()
    with stock_loads.warned_of():  # nothing is said of a model that is the same in files
        make(plain(), "plain", base=Trainer).train()
        make(plain(), "plain", base=Trainer).train(True)
    assert not [record for record in caplog.records if record.name == "dataflex"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({EXPERT: None}, f"{EXPERT} is not in the file"),
        ({"model.layers.1.odd.weight": torch.ones(2)}, "model.layers.1.odd.weight is not in the model"),
        ({"lm_head.weight": torch.ones(40, 15)}, r"lm_head.weight has shape \[40, 15\] in the file, \[40, 16\] in"),
    ],
)
def test_a_checkpoint_that_does_not_fit_ends_the_run_before_its_first_step(
    make: Any, change: dict[str, Any], told: str
) -> None:
    trainer = make(moe(), max_steps=4)
    trainer.train()
    folder = Path(trainer.args.output_dir) / "checkpoint-2"
    edit(folder / FILE, **change)
    reseal(folder)
    again, steps = make(moe()), []
    again.add_callback(type("Steps", (TrainerCallback,), {"on_step_begin": lambda *_, **__: steps.append(1)})())
    with pytest.raises(ConfigError, match=rf"checkpoint-2 do not fit the model: 1 difference among its \d+ .*{told}"):
        again.train(str(folder))
    assert not steps


def test_values_that_do_not_arrive_end_the_run_too(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make(plain())
    trainer.train()

    def forgetful(self: Any, state: Any, *args: Any, **kwargs: Any) -> Any:
        return torch.nn.Module.load_state_dict(self, {**state, "model.norm.weight": torch.ones(16)}, *args, **kwargs)

    monkeypatch.setattr(Qwen2ForCausalLM, "load_state_dict", forgetful)
    with pytest.raises(ConfigError, match=r"after loading them: 1 difference .*model\.norm\.weight has other values"):
        make(plain()).train(True)


@pytest.mark.parametrize("last", [True, False])
def test_without_its_best_model_a_run_keeps_the_last_weights_and_ends_in_an_error(make: Any, last: bool) -> None:
    trainer, final = make(moe(), **BEST, save_steps=2), {}
    trainer.add_callback(Best(spoilt=True, last=last))

    class Last(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            final.update(weights(trainer.model))

    trainer.add_callback(Last())
    with pytest.raises(ConfigError, match=rf"best model is not .*{EXPERT} is not in the.* lie in .*checkpoint-2\.$"):
        trainer.train()
    written = Qwen3MoeForCausalLM.from_pretrained(trainer.args.output_dir, dtype=torch.float32)
    assert same(weights(written), final)
    assert not (Path(trainer.args.output_dir) / "optimizer.pt").exists()


def test_a_best_model_that_loads_wrongly_does_not_become_the_final_one(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make(plain(), **BEST, save_steps=2)

    def failing(self: Any, state: Any, *args: Any, **kwargs: Any) -> Any:
        torch.nn.Module.load_state_dict(self, state, *args, **kwargs)
        raise OSError("the file system went away")

    monkeypatch.setattr(Qwen2ForCausalLM, "load_state_dict", failing)
    with pytest.raises(ConfigError, match="cannot be loaded: OSError: the file system went away"):
        trainer.train()
    final, last = (load_file(Path(trainer.args.output_dir) / name / FILE) for name in ("", "checkpoint-4"))
    assert same(final, last)


def test_an_adapter_goes_on_and_a_damaged_one_is_refused(make: Any) -> None:
    whole = make(adapted(), "whole")
    whole.train()
    stopped = Path(whole.args.output_dir) / "checkpoint-2"
    resumed = make(adapted(), "resumed")
    resumed.train(str(stopped))
    assert same(weights(resumed.model), weights(whole.model))
    (name, tensor), *_ = load_file(stopped / ADAPTER).items()
    edit(stopped / ADAPTER, **{name: None, f"{name}.odd": tensor})
    reseal(stopped)
    with pytest.raises(ConfigError, match=r"do not fit the model: 2 differences"):
        make(adapted(), "damaged").train(str(stopped))


def several(active: str) -> Any:
    """Two adapters, as a trainer of preferences keeps its reference; one is trained, or both are."""
    model = adapted()
    model.add_adapter("other", LoraConfig(r=2, target_modules=["k_proj"]))
    model.set_adapter("default" if active == "both" else active)
    if active == "both":
        model.base_model.set_adapter(["default", "other"])
    return model


@pytest.mark.parametrize("active", ["default", "other", "both"])
def test_each_of_several_adapters_goes_on_and_the_best_of_them_are_the_final_ones(make: Any, active: str) -> None:
    whole = make(several(active), "whole")
    whole.train()
    stopped = Path(whole.args.output_dir) / "checkpoint-2"
    resumed = make(several(active), "resumed")
    resumed.train(str(stopped))
    assert same(weights(resumed.model), weights(whole.model))
    assert resumed.model.active_adapters == several(active).active_adapters

    best = make(several(active), "best", **BEST, save_steps=2)
    best.add_callback(Best())
    best.train()
    scored = make(several(active), "scored")
    scored.train(str(Path(best.args.output_dir) / "checkpoint-4"))  # where nothing is left to train
    assert not same(weights(best.model), weights(scored.model))
    loaded = several(active)
    loaded.load_adapter(str(Path(best.args.output_dir) / "checkpoint-2"), "default")
    loaded.load_adapter(str(Path(best.args.output_dir) / "checkpoint-2" / "other"), "other")
    assert same(weights(best.model), weights(loaded))


def test_a_trained_adapter_that_a_checkpoint_does_not_hold_is_refused(make: Any) -> None:
    trainer = make(adapted(), "one")
    trainer.train()
    with pytest.raises(ConfigError, match=r"lacks an adapter: 2 differences: .*lora_A\.other\.weight is trained but"):
        make(several("both"), "two").train(f"{trainer.args.output_dir}/checkpoint-2")


def test_adapters_and_whole_models_are_not_taken_for_each_other(make: Any) -> None:
    model, adapter = make(plain(), "model"), make(adapted(), "adapter")
    model.train()
    adapter.train()
    with pytest.raises(ConfigError, match="holds a whole model, but the run trains an adapter"):
        make(adapted(), "one").train(f"{model.args.output_dir}/checkpoint-2")
    with pytest.raises(ConfigError, match="holds an adapter, but the run trains the model itself"):
        make(plain(), "other").train(f"{adapter.args.output_dir}/checkpoint-2")


def test_of_a_pickled_checkpoint_the_names_that_the_loader_reports_count(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for model in (plain, moe):
        trainer = make(model(), model.__name__)
        trainer.train()
        folder = Path(trainer.args.output_dir) / "checkpoint-2"
        tensors = load_file(folder / FILE)
        (folder / FILE).unlink()
        torch.save(tensors, folder / "pytorch_model.bin")  # as transformers 4 wrote it with save_safetensors=False
        reseal(folder)
        resumed = make(model(), f"{model.__name__}-resumed")
        with caplog.at_level(logging.INFO, "dataflex"):
            resumed.train(str(folder))
        assert "pytorch_model.bin is pickled and is not opened for a comparison" in caplog.text
        assert same(weights(resumed.model), weights(trainer.model))
        del tensors["model.norm.weight"]
        torch.save(tensors, folder / "pytorch_model.bin")
        reseal(folder)
        with pytest.raises(ConfigError, match=r"model\.norm\.weight is not in the file"):
            make(model(), "damaged").train(str(folder))
