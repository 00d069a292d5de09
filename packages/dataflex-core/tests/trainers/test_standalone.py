"""``dynamic_trainer``: what it refuses before anything is trained."""

from __future__ import annotations

import asyncio
import threading

import pytest
import torch
from transformers import Trainer, TrainingArguments

from dataflex.errors import ConfigError
from dataflex.trainers import dynamic_trainer

SELECT = {
    "train_type": "dynamic_select",
    "component_name": "rows",
    "warmup_step": 1,
    "update_step": 2,
    "update_times": 2,
}
MIX = SELECT | {"train_type": "dynamic_mix", "component_name": "even", "init_mixture_proportions": [0.5, 0.5]}
MINE = """
from dataflex import Mixer, Selector, register_mixer, register_selector

@register_selector("rows")
class Rows(Selector):
    def select(self, model, step_id, num_samples, **kwargs):
        return range(num_samples)

@register_mixer("even")
class Even(Mixer):
    def mix(self, model, step_id, **kwargs):
        return {"b": 0.5, "a": 0.5}
"""


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, input_ids, labels):
        return {"loss": (self.layer(input_ids) - labels).pow(2).mean()}


POOL = [{"input_ids": torch.tensor([float(row), 1.0]), "labels": torch.tensor([1.0])} for row in range(20)]


@pytest.fixture
def construct(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(MINE)

    def construct(config, *, domains=None, pool=POOL, **arguments):
        args = TrainingArguments(
            str(tmp_path / "out"), per_device_train_batch_size=2, use_cpu=True, report_to="none", **arguments
        )
        cls = dynamic_trainer(Trainer, config, domains=domains, plugins=[mine])
        return cls(model=Line(), args=args, train_dataset=pool)

    return construct


def test_the_class_is_named_after_its_base(construct):
    trainer = construct(SELECT)
    assert type(trainer).__name__ == "DynamicTrainer" and isinstance(trainer, Trainer)


def test_it_trains_on_what_the_component_decides(construct, tmp_path):
    trainer = construct(SELECT)
    assert trainer.train().global_step == 5
    assert [(record.step, record.metrics["selected"]) for record in trainer.recorder.log] == [(1, 4), (3, 4)]


def test_domains_are_mixed_by_their_rows(construct):
    trainer = construct(MIX, domains={"a": 15, "b": 5})
    trainer.train()
    assert [record.metrics["samples"] for record in trainer.recorder.log] == [[2, 2], [2, 2]]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"train_typ": "dynamic_select"}, r"unknown key 'train_typ' in the configuration. Did you mean 'train_type'"),
        ({"train_type": "static"}, r"names no dynamic train_type, so Trainer can be used as it is"),
        ({}, r"names no dynamic train_type"),
        (SELECT | {"train_type": "lively"}, r"train_type: 'lively' \(from the configuration\) is not one of"),
    ],
)
def test_a_wrong_configuration_is_refused_before_a_model_exists(config, message):
    with pytest.raises(ConfigError, match=message):
        dynamic_trainer(Trainer, config)


@pytest.mark.parametrize(
    ("config", "more", "message"),
    [
        (SELECT | {"component_name": "row"}, {}, r"row"),
        (SELECT | {"update_step": 11}, {}, r"update_step=11 draws 22 samples .* but the pool holds 20"),
        (SELECT, {"max_steps": 9}, r"max_steps=9 differs from the 5 steps"),
        (SELECT, {"pool": None}, r"no train_dataset"),
        (SELECT, {"pool": iter(POOL), "max_steps": 5}, r"train_dataset is streamed"),
        (MIX, {}, r"init_mixture_proportions .* has 2 values for 0 domains"),
        (MIX, {"domains": {"a": 15, "b": 6}}, r"domains has 21 rows \(a: 15, b: 6\), but train_dataset has 20"),
        (MIX | {"init_mixture_proportions": [0.5, 1.0]}, {"domains": {"a": 15, "b": 5}}, r"sums to 1\.5"),
    ],
    ids=["component", "pool", "max_steps", "no pool", "stream", "no domains", "rows", "sum"],
)
def test_what_cannot_work_is_refused_when_the_trainer_is_constructed(construct, config, more, message):
    with pytest.raises(ConfigError, match=message):
        construct(config, **more)


def test_training_data_can_be_looked_at_before_and_after_training(construct):
    plain = construct(SELECT)
    plain.train()
    trainer = construct(SELECT)
    before = len(list(trainer.get_train_dataloader()))
    trainer.train()
    batches = list(trainer.get_train_dataloader())
    assert before == len(batches) == 10  # every row of the pool, two at a time
    seen = sorted(float(row[0]) for batch in batches for row in batch["input_ids"])
    assert seen == [float(row) for row in range(len(POOL))]
    loss = trainer.training_step(trainer.model, batches[0])  # and a step of one's own is the stock one
    assert loss.isfinite()
    trainer.model.load_state_dict(construct(SELECT).model.state_dict())
    assert trainer.train().global_step == 5


@pytest.mark.parametrize("kind", ["in an event loop", "in a thread", "twice", "after a look"])
def test_it_trains_as_a_plain_call_does(construct, kind):
    torch.manual_seed(0)
    plain = construct(SELECT)
    start = {name: value.clone() for name, value in plain.model.state_dict().items()}
    plain.train()
    trainer = construct(SELECT)
    trainer.model.load_state_dict(start)

    async def in_a_loop():
        trainer.train()

    if kind == "in an event loop":
        asyncio.run(in_a_loop())
    elif kind == "in a thread":
        thread = threading.Thread(target=trainer.train)
        thread.start()
        thread.join()
    else:
        if kind == "after a look":
            next(iter(trainer.get_train_dataloader()))
        else:
            trainer.train()
            trainer.model.load_state_dict(start)
            trainer.optimizer = trainer.lr_scheduler = None
        trainer.train()
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(trainer.model.state_dict()[name], value, rtol=0, atol=0)
