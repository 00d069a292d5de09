"""A Trainer class that goes past what it is handed is told so at its first step, and not trained as if nothing were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from prepared_runs import prepared_run
from torch.utils.data import DataLoader
from transformers import Qwen2Config, Qwen2ForCausalLM, Trainer, TrainingArguments

from dataflex.errors import ConfigError
from dataflex.trainers import dynamic_trainer
from dataflex.trainers.session import Session

MINE = """
import torch
from dataflex import Mixer, Selector, Weighter, register_mixer, register_selector, register_weighter
from dataflex.spec import Need

@register_selector("first")
class First(Selector):
    def select(self, model, step_id, num_samples, **kwargs):
        return range(num_samples)

@register_weighter("skewed")
class Skewed(Weighter):
    window = 4
    def weights(self, losses_B, context):
        return (losses_B == losses_B.max()).float()

@register_mixer("watching", needs={Need.DOMAIN_LOSSES})
class Watching(Mixer):
    def mix(self, model, step_id, **kwargs):
        return self.context.proportions

@register_mixer("leaning", needs={Need.DOMAIN_LOSSES})
class Leaning(Mixer):
    def mix(self, model, step_id, **kwargs):
        return self.context.proportions
    def objective_weights(self, tokens):
        return [0.9, 0.1]
"""
CONFIGS: dict[str, dict[str, Any]] = {
    "select": {"train_type": "dynamic_select", "component_name": "first", "update_step": 2, "update_times": 1},
    "weight": {"train_type": "dynamic_weight", "component_name": "skewed", "train_step": 4},
    "watch": {"train_type": "dynamic_mix", "component_name": "watching", "update_step": 2, "update_times": 1},
    "lean": {"train_type": "dynamic_mix", "component_name": "leaning", "update_step": 2, "update_times": 1},
}


def cross_entropy(outputs: Any, labels: torch.Tensor) -> torch.Tensor:
    logits = outputs.logits[:, :-1].flatten(0, 1)
    return torch.nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=-100)


class OwnLoss(Trainer):
    """The usual override of a loss, which asks no loss function."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = cross_entropy(outputs, labels)
        return (loss, outputs) if return_outputs else loss


class AddedTerm(Trainer):
    """Adds to the loss it is given."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        found = super().compute_loss(*args, **kwargs)
        return (found[0] + 0.0, *found[1:]) if isinstance(found, tuple) else found + 0.0


class OwnStep(Trainer):
    """A training step with a forward of its own."""

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        inputs = self._prepare_inputs(inputs)
        loss = cross_entropy(model(input_ids=inputs["input_ids"]), inputs["labels"])
        self.accelerator.backward(loss)
        return loss.detach()


class OwnLoader(Trainer):
    """A loader that shuffles by itself."""

    def get_train_dataloader(self) -> Any:
        rows: Any = self.train_dataset
        return DataLoader(rows, batch_size=2, shuffle=True, collate_fn=self.data_collator)


class OwnBatches(Trainer):
    """Takes the batches of a step by itself."""

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        return [next(epoch_iterator) for _ in range(num_batches)], None


class OwnSave(Trainer):
    """Writes checkpoints in its own way."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.save_model(f"{self.args.output_dir}/checkpoint-{self.state.global_step}", _internal_call=True)


class NoCallbacks(Trainer):
    """Empties the list of callbacks as training begins."""

    def _inner_training_loop(self, *args: Any, **kwargs: Any) -> Any:
        self.callback_handler.callbacks = [] if self.empties else self.callback_handler.callbacks
        return super()._inner_training_loop(*args, **kwargs)

    empties = True


class ReadsAhead(Trainer):
    """Fetches every batch before the first step."""

    def get_train_dataloader(self) -> Any:
        return list(super().get_train_dataloader())


@pytest.fixture
def make(tmp_path: Path) -> Any:
    (tmp_path / "mine.py").write_text(MINE)

    def make(kind: str, base: type = Trainer, wrap: Any = lambda cls: cls, **arguments: Any) -> Any:
        domains = {"web": 12, "code": 12} if kind in ("watch", "lean") else None
        shares = {"init_mixture_proportions": [0.5, 0.5]} if domains else {}
        cls = dynamic_trainer(
            base, CONFIGS[kind] | shares | {"warmup_step": 2}, plugins=[tmp_path / "mine.py"], domains=domains
        )
        torch.manual_seed(0)
        sizes: dict[str, Any] = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
        model = Qwen2ForCausalLM(Qwen2Config(**sizes, num_attention_heads=2, num_key_value_heads=2))
        ids = torch.randint(0, 20, (24, 6), generator=torch.Generator().manual_seed(1))
        args = TrainingArguments(
            str(tmp_path / "out"),
            per_device_train_batch_size=2,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            **{"save_strategy": "no", **arguments},
        )
        return wrap(cls)(model=model, args=args, train_dataset=[{"input_ids": row, "labels": row} for row in ids])

    return make


@pytest.mark.parametrize("kind", ["weight", "lean"])
def test_a_loss_of_its_own_that_would_switch_the_component_off_is_refused_by_name(make: Any, kind: str) -> None:
    trainer = make(kind, OwnLoss)
    with pytest.raises(
        ConfigError, match=r"the Trainer class OwnLoss computes the loss by itself .*super\(\)\.compute_l"
    ):
        trainer.train()
    assert trainer.state.global_step == 2  # the first step it is to act on
    patched = make(kind)
    patched.compute_loss = OwnLoss.compute_loss.__get__(patched)
    with pytest.raises(ConfigError, match=r"the compute_loss that was put into the Trainer goes its own way"):
        patched.train()


@pytest.mark.parametrize("kind", ["weight", "lean"])
def test_a_loss_that_adds_to_the_given_one_is_trained_on(make: Any, kind: str) -> None:
    ours, theirs = make(kind, AddedTerm), make(kind)
    assert ours.train().global_step == theirs.train().global_step == 4
    assert torch.equal(ours.model.lm_head.weight, theirs.model.lm_head.weight)


def test_a_loss_of_its_own_is_no_matter_where_losses_are_only_looked_at(make: Any) -> None:
    for kind in ("select", "watch"):
        assert make(kind, OwnLoss).train().global_step == 4


@pytest.mark.parametrize("kind", ["weight", "watch", "lean"])
def test_a_training_step_that_computes_no_loss_through_the_trainer_is_refused(make: Any, kind: str) -> None:
    with pytest.raises(ConfigError, match=r"OwnStep goes its own way in training_step\(\)"):
        make(kind, OwnStep).train()


def test_a_class_derived_from_ours_is_held_to_the_same(make: Any) -> None:
    def derive(cls: type) -> type:
        return type("Derived", (cls,), {"training_step": OwnStep.training_step})

    trainer = make("weight", wrap=derive)
    with pytest.raises(ConfigError, match=r"Derived goes its own way in training_step\(\) .*would not act on the loss"):
        trainer.train()
    assert trainer.state.global_step == 1

    def reload(cls: type) -> type:
        return type("Reloaded", (cls,), {"get_train_dataloader": OwnLoader.get_train_dataloader})

    with pytest.raises(ConfigError, match=r"Reloaded goes its own way in get_train_dataloader\(\)"):
        make("select", wrap=reload).train()


def test_a_class_that_takes_the_batches_of_a_step_by_itself_is_refused_where_weights_depend_on_them(make: Any) -> None:
    def derive(cls: type) -> type:
        return type("Derived", (cls,), {"get_batch_samples": OwnBatches.get_batch_samples})

    for kind in ("weight", "lean"):
        with pytest.raises(ConfigError, match=r"Derived goes its own way in get_batch_samples\(\) .* that it weighs"):
            make(kind, wrap=derive).train()
    for kind in ("select", "watch"):
        assert make(kind, wrap=derive).train().global_step == 4
    assert make("weight", OwnBatches).train().global_step == 4  # below ours, which calls it


def test_a_class_whose_checkpoints_could_not_be_gone_on_from_is_refused_at_the_first_one(make: Any) -> None:
    def derive(cls: type) -> type:
        return type("Derived", (cls,), {"_save_checkpoint": OwnSave._save_checkpoint})

    saves = {"save_strategy": "steps", "save_steps": 1}
    trainer = make("select", wrap=derive, **saves)
    with pytest.raises(ConfigError, match=r"Derived goes its own way in _save_checkpoint\(\) .*could not go on from"):
        trainer.train()
    assert trainer.state.global_step == 1
    assert make("select", OwnSave, **saves).train().global_step == 4


@pytest.mark.parametrize("kind", ["select", "watch", "weight"])
def test_a_loader_that_does_not_read_the_plan_is_refused(make: Any, kind: str) -> None:
    trainer = make(kind, OwnLoader)
    with pytest.raises(ConfigError, match=r"OwnLoader goes its own way in get_train_dataloader\(\) .* plan"):
        trainer.train()
    assert trainer.state.global_step == 0


@pytest.mark.parametrize("kind", ["select", "watch", "weight"])
def test_a_class_that_does_not_call_our_callbacks_is_refused_in_its_second_step(make: Any, kind: str) -> None:
    trainer = make(kind, NoCallbacks)
    with pytest.raises(ConfigError, match=r"NoCallbacks does not call the callbacks that DataFlex has added"):
        trainer.train()
    assert trainer.state.global_step == 1
    keeps = make(kind, type("Keeps", (NoCallbacks,), {"empties": False}))
    assert keeps.train().global_step == 4
    assert keeps.train(resume_from_checkpoint=False).global_step == 4  # a second call looks by itself


def test_a_class_that_reads_ahead_is_named(make: Any) -> None:
    with pytest.raises(ConfigError, match=r"the Trainer class ReadsAhead reads ahead in get_train_dataloader\(\)"):
        make("select", ReadsAhead).train()


def test_a_run_that_never_reaches_our_trainer_is_told_as_a_seam_that_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import ModuleType

    from dataflex.bridge import llamafactory
    from dataflex.errors import IncompatibleError

    workflow = ModuleType("workflow")
    workflow.Theirs, workflow.get_dataset, workflow.__file__ = Trainer, len, "workflow.py"  # type: ignore[attr-defined]
    monkeypatch.setattr(llamafactory, "_trainer_seam", lambda stage: (workflow, "Theirs"))
    monkeypatch.setattr(llamafactory, "_dataset_seam", lambda stage: workflow)
    monkeypatch.setattr(llamafactory, "_run_exp", lambda *args: None)
    monkeypatch.setattr(llamafactory, "load_training", lambda: ModuleType("tuner"))
    with pytest.raises(IncompatibleError, match="ended without training with DataFlex's Theirs"):
        llamafactory.run_dynamic(Session(prepared_run()), lambda base, session: base, {})
