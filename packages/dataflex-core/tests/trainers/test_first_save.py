"""What a checkpoint needs is tried before the first step, where the Trainer would find out after hours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import ExportableState
from transformers.utils import logging

from dataflex.errors import ConfigError
from dataflex.trainers import dynamic_trainer
from dataflex.trainers.first_save import shared

ROWS = [{"input_ids": torch.tensor([row % 7, 1, 2]), "labels": torch.tensor([row % 7, 1, 2])} for row in range(20)]
MINE = """
from dataflex import Selector, register_selector

@register_selector("first")
class First(Selector):
    def select(self, model, step_id, num_samples, **kwargs):
        return range(num_samples)
"""
KEYS = {
    "train_type": "dynamic_select",
    "component_name": "first",
    "warmup_step": 1,
    "update_step": 1,
    "update_times": 1,
}


class Words(torch.nn.Module):
    """A language model of one's own, with one matrix for what comes in and what goes out."""

    def __init__(self, *, tied: bool = False, turned: bool = False) -> None:
        super().__init__()
        self.inside = torch.nn.Embedding(8, 4)
        self.outside = torch.nn.Linear(4, 8, bias=False)
        if tied:
            self.outside.weight = self.inside.weight
        if turned:
            self.outside.weight = torch.nn.Parameter(torch.randn(4, 8).T)
        self.steps = 0

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        self.steps += self.training
        logits = self.outside(self.inside(input_ids))
        return {"loss": torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()), "logits": logits}


class Unspeakable(TrainerCallback, ExportableState):
    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"seen": {1, 2}}}


class Nameless:
    """A tokenizer that cannot be saved."""

    def save_pretrained(self, folder: Path) -> None:
        raise KeyError("added_tokens")


class SavesInItsOwnWay(Trainer):
    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        Path(output_dir or "").mkdir(parents=True, exist_ok=True)
        torch.save(self.model.state_dict(), f"{output_dir}/pytorch_model.bin")


@pytest.fixture
def make(tmp_path: Path) -> Any:
    (tmp_path / "mine.py").write_text(MINE)

    def make(model: Any, *callbacks: Any, base: type = Trainer, tokenizer: Any = None, **arguments: Any) -> Any:
        given = {"save_strategy": "steps", "save_steps": 2, "use_cpu": True, "report_to": "none"} | arguments
        args = TrainingArguments(str(tmp_path / "out"), per_device_train_batch_size=2, disable_tqdm=True, **given)
        cls = dynamic_trainer(base, KEYS, plugins=[tmp_path / "mine.py"])
        return cls(model=model, args=args, train_dataset=ROWS, callbacks=list(callbacks), processing_class=tokenizer)

    return make


def small(**settings: Any) -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, **settings,
    )  # fmt: skip
    return Qwen2ForCausalLM(config)


def with_a_wrong_generation_config() -> Qwen2ForCausalLM:
    model = small()
    model.generation_config = GenerationConfig(do_sample=False, temperature=0.7)
    return model


CASES = {
    "tied weights": (lambda: Words(tied=True), (), None, "inside.weight and outside.weight share memory"),
    "turned weights": (lambda: Words(turned=True), (), None, "outside.weight not contiguous"),
    "a generation config": (with_a_wrong_generation_config, (), None, "the model's generation config"),
    "a callback": (Words, (Unspeakable(),), None, "the state of a callback: TypeError"),
    "a tokenizer": (Words, (), Nameless(), "the tokenizer or processor: KeyError"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_the_first_checkpoint_would_fail_at_is_told_before_the_first_step(make: Any, case: str) -> None:
    model, callbacks, tokenizer, message = CASES[case]
    trainer = make(model(), *callbacks, tokenizer=tokenizer)
    with pytest.raises(ConfigError, match="no checkpoint of this run could be written") as refused:
        trainer.train()
    assert message in str(refused.value) and "Nothing has been trained yet" in str(refused.value)
    assert trainer.state.global_step == 0 and getattr(trainer.model, "steps", 0) == 0
    assert not list(Path(trainer.args.output_dir).glob("checkpoint-*"))


@pytest.mark.parametrize("case", CASES)
def test_and_the_trainer_fails_at_it_indeed(make: Any, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataflex.trainers.dynamic.try_first_save", lambda trainer: None)
    model, callbacks, tokenizer, _ = CASES[case]
    trainer = make(model(), *callbacks, tokenizer=tokenizer)
    with pytest.raises(Exception, match=r"checkpoint-2 was not written|stateful_callbacks|not JSON serializable"):
        trainer.train()


def test_what_can_be_saved_is_trained(make: Any, capfd: pytest.CaptureFixture[str]) -> None:
    before = logging.get_verbosity()
    logging.set_verbosity_info()  # as LlamaFactory does
    try:
        make(small(tie_word_embeddings=True)).train()  # transformers knows its own ties
        make(Words()).train()
        assert logging.get_verbosity() == logging.INFO
    finally:
        logging.set_verbosity(before)
    assert "dataflex-" not in capfd.readouterr().err  # the temporary folder


def test_a_class_that_saves_in_its_own_way_and_a_run_that_saves_nothing_are_left_alone(make: Any) -> None:
    make(Words(tied=True), base=SavesInItsOwnWay).train()
    make(Words(tied=True), save_strategy="no").train()


def test_parts_of_one_storage_share_memory_only_where_they_overlap() -> None:
    whole = torch.arange(12.0)
    apart = {"first": whole[:4], "second": whole[4:8], "third": whole[8:], "number": 3, "empty": torch.zeros(0)}
    assert shared(apart) == []
    assert shared(apart | {"middle": whole[6:10]}) == [("second", "middle"), ("middle", "third")]
    assert shared({"rows": whole.view(3, 4), "columns": whole.view(3, 4).T}) == [("columns", "rows")]
