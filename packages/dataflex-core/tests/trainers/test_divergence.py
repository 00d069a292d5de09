"""A model that has diverged: components that read losses fail, every run says so, and good weights are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, Trainer, TrainerCallback, TrainingArguments

from dataflex.checkpoint import folders as checkpoints
from dataflex.errors import ComponentError
from dataflex.trainers import dynamic_trainer
from dataflex.trainers.divergence import weights_are_finite

MINE = """
import torch
from dataflex import Mixer, Selector, Weighter, register_mixer, register_selector, register_weighter
from dataflex.spec import Need

@register_selector("first")
class First(Selector):
    def select(self, model, step_id, num_samples, **kwargs):
        return range(num_samples)

class Keeps(Mixer):
    def mix(self, model, step_id, **kwargs):
        return self.context.proportions

@register_mixer("blind")
class Blind(Keeps):
    pass

@register_mixer("watching", needs={Need.DOMAIN_LOSSES})
class Watching(Keeps):
    pass

@register_mixer("asking")
class Asks(Keeps):
    def mix(self, model, step_id, **kwargs):
        self.context.evaluate("web", max_samples=4)
        return self.context.proportions

@register_selector("hearing", needs={Need.SAMPLE_LOSSES})
class Hears(First):
    def on_rows(self, step, rows, losses=None, labels=None):
        pass

@register_weighter("even")
class Even(Weighter):
    window = 2
    def weights(self, losses_B, context):
        return torch.ones_like(losses_B)

@register_weighter("old")
class Old(Weighter):
    def get_weighted_loss(self, losses, **facts):
        return losses.mean()
"""
BOUNDARIES = {"warmup_step": 3, "update_step": 3, "update_times": 2}
SHARES = {"init_mixture_proportions": [0.5, 0.5]}
CONFIGS: dict[str, dict[str, Any]] = {
    "first": {"train_type": "dynamic_select", **BOUNDARIES},
    "blind": {"train_type": "dynamic_mix", **SHARES, **BOUNDARIES},
    "watching": {"train_type": "dynamic_mix", **SHARES, **BOUNDARIES},
    "asking": {"train_type": "dynamic_mix", **SHARES, **BOUNDARIES},
    "hearing": {"train_type": "dynamic_select", **BOUNDARIES},
    "even": {"train_type": "dynamic_weight", "warmup_step": 1, "train_step": 9},
    "old": {"train_type": "dynamic_weight", "warmup_step": 1, "train_step": 9},
}


class Explodes(TrainerCallback):
    """Raises the learning rate beyond reason before a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            for group in kwargs["optimizer"].param_groups:
                group["lr"] = 1e38


@pytest.fixture
def make(tmp_path: Path) -> Any:
    (tmp_path / "mine.py").write_text(MINE)

    def make(name: str, *, at: int = 1, more: Any = (), **arguments: Any) -> Any:
        domains = {"web": 12, "code": 12} if "mix" in CONFIGS[name]["train_type"] else None
        config = CONFIGS[name] | {"component_name": name}
        cls = dynamic_trainer(Trainer, config, plugins=[tmp_path / "mine.py"], domains=domains)
        torch.manual_seed(0)
        sizes = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
        model = Qwen2ForCausalLM(Qwen2Config(**sizes, num_attention_heads=2, num_key_value_heads=2))
        ids = torch.randint(0, 20, (24, 6), generator=torch.Generator().manual_seed(1))
        given = {
            "per_device_train_batch_size": 2,
            "lr_scheduler_type": "constant",
            "max_grad_norm": 0.0,
            "save_strategy": "no",
            "logging_steps": 1,
            "use_cpu": True,
            "report_to": "none",
            "disable_tqdm": True,
        }
        args = TrainingArguments(str(tmp_path / "out"), **(given | arguments))
        rows = [{"input_ids": row, "labels": row} for row in ids]
        return cls(model=model, args=args, train_dataset=rows, callbacks=[Explodes(at), *more])

    return make


def test_a_mixer_that_reads_losses_fails_by_the_domains_where_tokens_were_seen(make: Any) -> None:
    with pytest.raises(ComponentError, match=r"at step 3: the training loss of (web|code).* is not a number\. L"):
        make("watching").train()


@pytest.mark.parametrize("name", ["even", "old"])
def test_a_weighter_fails_at_the_first_loss_that_is_no_number(make: Any, name: str) -> None:
    with pytest.raises(ComponentError, match=r"at step 2: the training loss of \d of \d samples is not a number"):
        make(name).train()


def test_a_mixer_that_evaluates_a_domain_is_not_told_a_loss_of_nothing(make: Any) -> None:
    with pytest.raises(ComponentError, match=r"at step 3: the loss of domain web is not a number, for 4 of 4 rows\. L"):
        make("asking").train()


def test_a_selector_that_hears_losses_fails_at_the_first_that_is_no_number(make: Any) -> None:
    trainer = make("hearing")
    with pytest.raises(ComponentError, match=r"the training loss of 2 of 2 rows is not a number\. Lower the learning"):
        trainer.train()
    assert trainer.state.global_step == 3  # the second step has spoilt the weights


@pytest.mark.parametrize("name", ["first", "blind"])
def test_every_other_run_says_once_at_which_step_it_happened(
    make: Any, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make(name, at=4)
    trainer.train()
    assert trainer.state.global_step == 9
    (told,) = [line for line in caplog.messages if "is not a number" in line]
    assert "of step 6 or of one since the log before" in told or "of step 5 or of one since" in told
    assert "Lower the learning rate if the model has diverged" in told


def test_a_sound_run_says_nothing_and_counts_no_checkpoint_as_the_last_good_one(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make("first", at=-1, save_strategy="steps", save_steps=2, save_total_limit=1)
    trainer.train()
    assert "is not a number" not in caplog.text
    out = Path(trainer.args.output_dir)
    assert [checkpoints.step_of(path) for path in checkpoints.newest_first(out)] == [9]


def test_the_last_checkpoint_of_finite_weights_is_not_rotated_away(
    make: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make("first", at=4, save_strategy="steps", save_steps=1, save_total_limit=1)
    trainer.train()
    out = Path(trainer.args.output_dir)
    kept = [checkpoints.step_of(path) for path in checkpoints.newest_first(out)]
    assert kept[0] == 9 and len(kept) == 2
    sound = Qwen2ForCausalLM.from_pretrained(out / f"checkpoint-{kept[1]}")
    assert weights_are_finite(sound) and not weights_are_finite(trainer.model)
    later = out / f"checkpoint-{kept[1] + 1}"
    assert (
        not later.exists()
        and f"The last checkpoint with finite weights is {out / f'checkpoint-{kept[1]}'}" in caplog.text
    )


class Dies(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 7:
            raise KeyboardInterrupt


def test_nor_by_a_run_that_goes_on_from_weights_that_are_no_numbers(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    saves = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 1}
    with pytest.raises(KeyboardInterrupt):
        make("first", at=4, more=[Dies()], **saves).train()
    resumed = make("first", at=-1, **saves)
    out = Path(resumed.args.output_dir)
    before = [checkpoints.step_of(path) for path in checkpoints.newest_first(out)]
    assert len(before) == 2 and before[0] == 6
    caplog.clear()
    resumed.train(resume_from_checkpoint=True)
    assert checkpoints.step_of(checkpoints.newest_first(out)[-1]) == before[1]
    assert f"resume from a checkpoint before it, {out / f'checkpoint-{before[1]}'}" in caplog.text
