"""Keys that were edited before a resume: at work, named, or refused; what a run from the start does is the measure."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from dataflex.checkpoint import state
from dataflex.checkpoint_keys.compare import Change
from dataflex.errors import ConfigError
from dataflex.testing.tiny import write_model
from dataflex.trainers import dynamic_trainer
from dataflex.trainers.resume.new_values import _line

KEYS = {
    "train_type": "dynamic_select",
    "component_name": "rows",
    "warmup_step": 2,
    "update_step": 2,
    "update_times": 4,
}
MINE = """
from dataflex import Selector, register_selector

@register_selector("rows")
class Rows(Selector):
    def __init__(self, dataset, accelerator, data_collator, cache_dir, first: int = 0, file: str = ""):
        super().__init__(dataset, accelerator, data_collator, cache_dir)
        self.first, self.file = first, file

    def select(self, model, step_id, num_samples, **kwargs):
        return range(self.first, self.first + num_samples)

    def state_dict(self):
        return {"read": {"from": [self.file]}}

    def load_state_dict(self, state):
        pass
"""
ROWS = [{"x": torch.tensor([float(row), 1.0]), "labels": torch.tensor([1.0])} for row in range(20)]
AT = 4  # the step of the checkpoint that every test goes on from
END = 10


class Line(torch.nn.Module):
    """A weight that decays and a bias that does not."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, x, labels):
        return {"loss": (self.layer(x / 20) - labels).pow(2).mean()}


class LoraPlus(Trainer):
    """Groups of parameters as LlamaFactory makes them for LoRA+: rates in a ratio, one that is fixed."""

    def create_optimizer(self, *args, **kwargs):
        if self.optimizer is None:
            rate, decay, (weight, bias) = self.args.learning_rate, self.args.weight_decay, self.model.parameters()
            extra = torch.nn.Parameter(torch.zeros(1))
            groups = [
                {"params": [weight], "lr": rate, "weight_decay": decay},
                {"params": [bias], "lr": 16 * rate, "weight_decay": 0.0},
                {"params": [extra], "lr": 1e-6, "weight_decay": decay},
            ]
            self.optimizer = torch.optim.AdamW(groups, lr=rate)
        return self.optimizer


def make(folder: Path, *, base=Trainer, keys=None, model=None, optimizers=(None, None), evals=None, **arguments):
    mine = folder / "mine.py"
    folder.mkdir(parents=True, exist_ok=True)
    mine.write_text(MINE)
    fixed = {
        "per_device_train_batch_size": 2, "learning_rate": 1e-2, "lr_scheduler_type": "cosine", "optim": "adamw_torch",
        "use_cpu": True, "report_to": "none", "disable_tqdm": True, "logging_steps": 1, "save_strategy": "steps",
        "save_steps": 2,
    }  # fmt: skip
    args = TrainingArguments(str(folder / "out"), **{**fixed, **arguments})
    cls = dynamic_trainer(base, KEYS | (keys or {}), plugins=[mine])
    return cls(
        model=model or Line(),
        args=args,
        train_dataset=ROWS,
        eval_dataset=evals,
        optimizers=optimizers,
    )


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run of 10 steps with a checkpoint each second step."""
    trainer = make(tmp_path_factory.mktemp("first"))
    trainer.train()
    return trainer


@pytest.fixture
def resume(first, tmp_path):
    """Go on from step 4 under changed keys."""

    def resume(folder=None, source=first, **changed):
        out = (folder or tmp_path) / "out"
        checkpoint = out / f"checkpoint-{AT}"
        if not checkpoint.exists():
            shutil.copytree(Path(source.args.output_dir) / checkpoint.name, checkpoint)
        trainer = make(out.parent, **changed)
        trainer.train(str(checkpoint))
        return trainer

    return resume


def rates(trainer, after=AT):
    history = trainer.state.log_history
    return {row["step"]: row["learning_rate"] for row in history if "learning_rate" in row and row["step"] > after}


def said(caplog):
    """What dataflex has said, but for who provides the component: its file lies elsewhere in each test."""
    warnings = [record for record in caplog.records if record.name == "dataflex" and record.levelno >= logging.WARNING]
    lines = [record.getMessage() for record in warnings]
    return [text for text in lines if "; this is dataflex-core " not in text]


def numbers(trainer, *names):
    return [tuple(group[name] for name in names) for group in trainer.optimizer.param_groups]


@pytest.mark.parametrize(
    ("schedule", "more"),
    [("constant", {}), ("linear", {"warmup_steps": 6}), ("polynomial", {})],
    ids=str,
)
def test_a_new_learning_rate_is_that_of_a_run_that_had_it_from_the_start(tmp_path, resume, schedule, more, caplog):
    before = make(tmp_path / "before", lr_scheduler_type=schedule, **more)
    before.train()
    whole = make(tmp_path / "whole", lr_scheduler_type=schedule, learning_rate=3e-4, **more)
    whole.train()
    caplog.clear()
    again = resume(source=before, lr_scheduler_type=schedule, learning_rate=3e-4, **more)
    assert rates(again) == pytest.approx(rates(whole)) and len(rates(again)) == END - AT
    named = [record.getMessage() for record in caplog.records if "learning_rate was 0.01 when" in record.getMessage()]
    assert len(named) == 1 and "is now 0.0003." in named[0]


def test_unchanged_keys_are_resumed_without_a_word_and_to_the_same_weights(first, resume, caplog):
    again = resume()
    assert said(caplog) == []
    assert rates(again) == rates(first)
    assert torch.equal(again.model.layer.weight, first.model.layer.weight)


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"weight_decay": 0.3}, ["weight_decay"]),
        ({"adam_beta1": 0.5}, ["betas"]),
        ({"adam_beta2": 0.9}, ["betas"]),
        ({"adam_epsilon": 1e-3}, ["eps"]),
        ({"weight_decay": 0.2, "adam_beta1": 0.7, "learning_rate": 1.0}, ["weight_decay", "betas", "initial_lr"]),
    ],
    ids=str,
)
def test_the_numbers_of_the_optimizer_are_those_of_one_that_is_made_anew(tmp_path, resume, changed, names, caplog):
    fresh = make(tmp_path / "fresh", **changed)
    fresh.create_optimizer_and_scheduler(END)
    again = resume(**changed)
    assert numbers(again, *names) == numbers(fresh, *names)
    assert len({decay for (decay,) in numbers(fresh, "weight_decay")}) == (2 if "weight_decay" in changed else 1)
    for key, value in changed.items():
        assert [f"is now {value!r}" in text for text in caplog.text.splitlines() if f" {key} was" in text] == [True]


def test_a_new_weight_decay_moves_the_weights_elsewhere(first, resume):
    again = resume(weight_decay=0.3)
    assert not torch.equal(again.model.layer.weight, first.model.layer.weight)


def test_groups_keep_their_ratio_of_learning_rates(tmp_path, resume):
    before = make(tmp_path / "before", base=LoraPlus)
    before.train()
    again = resume(source=before, base=LoraPlus, learning_rate=1e-3, weight_decay=0.1)
    expected = [(1e-3, 0.1), (16e-3, 0.0), (1e-6, 0.1)]
    assert numbers(again, "initial_lr", "weight_decay") == [pytest.approx(pair) for pair in expected]
    assert again.lr_scheduler.base_lrs == pytest.approx([1e-3, 16e-3, 1e-6])


def test_a_number_that_the_optimizer_does_not_use_is_named_and_said_to_be_unused(tmp_path, resume, caplog):
    before = make(tmp_path / "before", optim="sgd")
    before.train()
    resume(source=before, optim="sgd", adam_beta1=0.5)
    assert "adam_beta1 was 0.9 when" in caplog.text and "SGD does not use it" in caplog.text


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lr_scheduler_type": "linear"}, "lr_scheduler_type was 'cosine' and is now 'linear'"),
        ({"warmup_steps": 3}, "warmup_steps was 0 and is now 3"),
        ({"optim": "sgd"}, "optim was 'adamw_torch' and is now 'sgd'"),
        ({"average_tokens_across_devices": False}, "average_tokens_across_devices was true and is now false"),
        ({"bf16": True}, "bf16 was false and is now true"),
        ({"data_seed": 7}, "data_seed was null and is now 7"),
    ],
    ids=str,
)
def test_what_would_make_two_runs_of_one_is_refused_with_both_values(resume, changed, message):
    with pytest.raises(ConfigError, match=rf"cannot resume from .*checkpoint-4: {message}\. Put the run back"):
        resume(**changed)


def test_all_refused_keys_are_named_together_and_with_what_the_engine_refuses(resume):
    with pytest.raises(ConfigError) as error:
        resume(optim="sgd", lr_scheduler_type="linear", seed=9)
    for named in ("seed was 42 and is now 9", "optim was", "lr_scheduler_type was"):
        assert str(error.value).count(named) == 1


def test_a_learning_rate_that_the_schedule_has_moved_is_refused(tmp_path, resume):
    more = {"lr_scheduler_type": "reduce_lr_on_plateau", "evals": ROWS, "eval_strategy": "steps", "eval_steps": 2}
    before = make(tmp_path / "before", **more)
    before.train()
    with pytest.raises(ConfigError, match=r"learning_rate was 0\.01 and is now 0\.001, but the schedule reduce_lr_on_"):
        resume(source=before, **more, learning_rate=1e-3)


def own_optimizer(rate):
    model = Line()
    return model, torch.optim.AdamW(model.parameters(), lr=rate)


def test_a_rate_that_the_trainer_was_handed_an_optimizer_for_is_refused(tmp_path, resume):
    model, optimizer = own_optimizer(0.5)
    before = make(tmp_path / "before", model=model, optimizers=(optimizer, None))
    before.train()
    model, optimizer = own_optimizer(0.5)
    with pytest.raises(ConfigError, match=r"learning_rate was 0\.01 and is now 0\.1, but the optimizer does not"):
        resume(source=before, model=model, optimizers=(optimizer, None), learning_rate=0.1)
    model, optimizer = own_optimizer(0.1)
    again = resume(source=before, model=model, optimizers=(optimizer, None), learning_rate=0.1)
    assert {rate for (rate,) in numbers(again, "initial_lr")} == {0.1}


def test_new_steps_between_checkpoints_and_logs_are_at_work_without_a_word(resume, tmp_path, caplog):
    again = resume(save_steps=3, logging_steps=5)
    found = {path.name for path in (tmp_path / "out").glob("checkpoint-*")}
    assert found == {"checkpoint-4", "checkpoint-6", "checkpoint-9", "checkpoint-10"}
    steps = [row["step"] for row in again.state.log_history if "loss" in row]
    assert steps == [1, 2, 3, 4, 5, 10]
    assert "save_steps" not in caplog.text and "trainer_state.json" not in caplog.text


def test_a_share_of_a_longer_run_is_counted_as_by_the_longer_run_from_the_start(tmp_path, resume, caplog):
    shares = {"save_steps": 0.2, "logging_steps": 0.4}
    before = make(tmp_path / "before", **shares)
    before.train()
    longer = {"keys": {"update_times": 9}, **shares}  # 20 steps
    whole = make(tmp_path / "whole", **longer)
    whole.train()
    again = resume(source=before, **longer)
    later = {path.name for path in (tmp_path / "whole" / "out").glob("checkpoint-*")}
    assert later == {f"checkpoint-{step}" for step in (4, 8, 12, 16, 20)}
    assert {path.name for path in (tmp_path / "out").glob("checkpoint-*")} == later
    logs = [[row["step"] for row in each.state.log_history if "loss" in row] for each in (whole, again)]
    assert logs == [[8, 16], [4, 8, 16]]
    assert "update_times was 4 when" in caplog.text and "is now 9" in caplog.text


def test_what_is_at_work_at_once_is_named_once(resume, caplog):
    again = resume(max_grad_norm=0.1, keys={"component_params": {"first": 3}, "update_times": 5})
    assert again.state.global_step == 12
    for text in (
        "max_grad_norm was 1.0 when",
        "component_params.first was 0 when",
        "update_times was 4 when",
    ):
        assert sum(text in record.getMessage() for record in caplog.records) == 1, text


def edit_keys(checkpoint: Path, edit) -> None:
    """Rewrite keys.json as another version would have written it, with the digests that go with it."""
    folder = checkpoint / "dataflex"
    keys = json.loads((folder / "keys.json").read_text())
    edit(keys)
    (folder / "keys.json").write_text(json.dumps(keys))
    engine = json.loads((folder / "engine.json").read_text())
    engine["sha256"]["keys.json"] = hashlib.sha256((folder / "keys.json").read_bytes()).hexdigest()
    (folder / "engine.json").write_text(json.dumps(engine))
    (folder / "COMPLETE").write_text(hashlib.sha256((folder / "engine.json").read_bytes()).hexdigest())


@pytest.fixture
def copy(first, tmp_path):
    """The checkpoint, where it will be resumed."""
    return Path(
        shutil.copytree(Path(first.args.output_dir) / f"checkpoint-{AT}", tmp_path / "out" / f"checkpoint-{AT}")
    )


def test_keys_of_another_version_of_the_libraries_stop_nobody(copy, resume, caplog):
    def edit(keys):
        keys["arguments"] |= {"a_new_key": 1, "a_lost_key": True, "optim": "adamw_hf"}
        del keys["arguments"]["max_grad_norm"], keys["arguments"]["fp16"]
        keys["given"] = [name for name in keys["given"] if name != "optim"] + ["a_lost_key"]

    edit_keys(copy, edit)
    assert resume(optim=TrainingArguments("x").optim).state.global_step == END
    assert "a_lost_key was true" in caplog.text and "the installed version has no such key" in caplog.text
    assert "a_new_key" not in caplog.text and "optim was" not in caplog.text


def test_a_checkpoint_of_an_earlier_release_is_resumed_with_one_line(copy, resume, caplog):
    folder = copy / "dataflex"
    engine = json.loads((folder / "engine.json").read_text())
    engine["version"] = 1
    for name in ("keys.json", "files.json"):
        del engine["sha256"][name]
        (folder / name).unlink()
    (folder / "engine.json").write_text(json.dumps(engine))
    (folder / "COMPLETE").write_text(hashlib.sha256((folder / "engine.json").read_bytes()).hexdigest())
    assert resume(lr_scheduler_type="linear").state.global_step == END
    lines = said(caplog)
    assert len(lines) == 1 and "by an earlier dataflex-core" in lines[0] and "the keys of its run" in lines[0]


def test_secrets_are_hidden_in_a_checkpoint(tmp_path):
    trainer = make(tmp_path, hub_token="hf_hush", keys={"update_times": 1})
    trainer.train()
    written = [path for path in (tmp_path / "out").rglob("*.json")]
    assert any(path.name == "keys.json" for path in written)
    assert not [path for path in written if "hf_hush" in path.read_text()]


def test_the_next_checkpoint_is_made_under_the_new_keys(resume, tmp_path):
    resume(learning_rate=1e-3)
    kept = json.loads((tmp_path / "out" / "checkpoint-10" / "dataflex" / "keys.json").read_text())
    assert kept["arguments"]["learning_rate"] == 1e-3 and "learning_rate" in kept["given"]
    assert kept["arguments"]["adam_beta1"] == 0.9 and "adam_beta1" not in kept["given"]
    assert kept["dataflex"]["update_times"] == 4 and kept["ranks"] == 1


def test_a_file_that_the_components_state_names_and_that_is_gone_is_named(tmp_path, resume, caplog):
    file = tmp_path / "table.bin"
    file.write_bytes(b"x")
    params = {"component_params": {"file": str(file)}}
    before = make(tmp_path / "before", keys=params)
    before.train()
    resume(source=before, keys=params)
    assert "which is gone" not in caplog.text
    file.unlink()
    shutil.rmtree(tmp_path / "out")
    resume(source=before, keys=params)
    assert f"names {file} (at read.from[0]), which is gone" in caplog.text


@pytest.fixture(scope="module")
def best(tmp_path_factory):
    """A run that keeps its best model: the loss falls, so that is the last one so far."""
    trainer = make(tmp_path_factory.mktemp("best"), **BEST)
    trainer.train()
    return trainer


BEST = {
    "evals": ROWS,
    "eval_strategy": "steps",
    "eval_steps": 2,
    "load_best_model_at_end": True,
    "metric_for_best_model": "loss",
}


def go_on(best, folder, *, stored, keep=(2, 4), **changed):
    out = folder / "out"
    for step in keep:
        shutil.copytree(Path(best.args.output_dir) / f"checkpoint-{step}", out / f"checkpoint-{step}")
    checkpoint = out / f"checkpoint-{AT}"
    path, kept = checkpoint / "trainer_state.json", state.load(checkpoint)
    best_so_far = {"best_model_checkpoint": stored, "best_metric": -1.0, "best_global_step": 2}
    path.write_text(json.dumps(json.loads(path.read_text()) | best_so_far))
    state.save(checkpoint, kept)
    state.mark_complete(checkpoint)
    trainer = make(folder, **{**BEST, **changed})
    trainer.train(str(checkpoint))
    return trainer


def test_the_best_model_of_a_folder_that_was_moved_is_found(best, tmp_path):
    trainer = go_on(best, tmp_path, stored="/was/here/checkpoint-2")
    assert Path(trainer.state.best_model_checkpoint) == tmp_path / "out" / "checkpoint-2"


def test_a_best_model_that_is_gone_is_told_at_the_start_and_forgotten(best, tmp_path, caplog):
    trainer = go_on(best, tmp_path, keep=(4,), stored="/was/here/checkpoint-2")
    assert "the best model up to" in caplog.text and "is gone" in caplog.text
    assert trainer.state.best_metric > 0 and Path(trainer.state.best_model_checkpoint).is_dir()


def test_a_best_model_by_another_metric_is_forgotten(best, tmp_path, caplog):
    trainer = go_on(best, tmp_path, stored=str(tmp_path / "out" / "checkpoint-2"), greater_is_better=True)
    assert "greater_is_better changed" in caplog.text and trainer.state.best_metric > 0


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "a", seed=0)
    write_model(folder / "b", seed=1)
    shutil.copytree(folder / "a", folder / "moved")
    return folder


def adapter(folder: Path):
    torch.manual_seed(0)
    return get_peft_model(AutoModelForCausalLM.from_pretrained(folder), LoraConfig(r=2, target_modules=["q_proj"]))


def test_the_base_of_an_adapter_may_move_but_not_be_another(models, tmp_path):
    from transformers import default_data_collator

    def trainer(base, folder):
        made = make(folder, model=adapter(models / base), label_names=["labels"], keys={"update_times": 1})
        made.train_dataset = [{"input_ids": [row, 2, 3], "labels": [row, 2, 3]} for row in range(20)]
        made.data_collator = default_data_collator
        return made

    trainer("a", tmp_path).train()
    checkpoint = tmp_path / "out" / "checkpoint-2"
    assert trainer("moved", tmp_path).train(str(checkpoint)).global_step == 4
    with pytest.raises(ConfigError, match=r"model_name_or_path was '.*a' and is now '.*b', another model by the conte"):
        trainer("b", tmp_path).train(str(checkpoint))


@pytest.mark.parametrize(
    ("recorded", "written"),
    [
        ("component_params.focus", "component_params.focus"),
        ("component_params.orderer.direction", "components.orderer.params.direction"),
        ("learning_rate", "learning_rate"),
    ],
)
def test_a_changed_key_is_named_as_the_run_file_has_it(recorded, written):
    said = _line(Change(name=recorded, before=1, now=2), Path("c"))
    assert said == f"{written} was 1 when c was written and is now 2."
