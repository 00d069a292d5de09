"""Who orders the rows and who shapes the loss are two slots: a selector and a weighter act in one run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from dataflex.record.plans import result_name
from dataflex.spec import Kind
from dataflex.trainers import dynamic_trainer

COMPONENTS = '''
import numpy as np
import torch
from dataflex import Selector, Weighter, register_selector, register_weighter

@register_selector("backwards")
class Backwards(Selector):
    def select(self, model, step_id, num_samples):
        return np.arange(len(self.dataset))[::-1][:num_samples].copy()

@register_weighter("only_long")
class OnlyLong(Weighter):
    """Those of at least four target tokens alone count; sees whole steps, so that it acts from the first on."""
    statistics = "batch"
    steps = 0
    def weights(self, losses_B, context):
        return (context.tokens_B >= 4).float()
    def on_step(self, stats):
        self.steps += 1
    def state_dict(self):
        return {"steps": self.steps}
    def load_state_dict(self, state):
        self.steps = state["steps"]
'''


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    from weight_runs import collate, model, pool

    (tmp_path / "plug.py").write_text(COMPONENTS)

    def trainer_class(train_type: str, name: str) -> type:
        steps = {"warmup_step": 1, "update_step": 3, "update_times": 1, "train_step": 4}
        config = {"train_type": train_type, "component_name": name, **steps}
        return dynamic_trainer(Trainer, config, plugins=[tmp_path / "plug.py"])

    def make(*, weighs: bool, name: str = "out", **arguments: Any) -> Any:
        args: dict[str, Any] = {
            "optim": "sgd", "learning_rate": 0.2, "lr_scheduler_type": "constant", "per_device_train_batch_size": 4,
            "use_cpu": True, "report_to": "none", "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True,
            "remove_unused_columns": False, "max_grad_norm": 0.0,
        }  # fmt: skip
        given = {
            "args": TrainingArguments(str(tmp_path / name), **{**args, **arguments}),
            "train_dataset": pool(), "data_collator": collate,
        }  # fmt: skip
        made: Any = trainer_class("dynamic_select", "backwards")(model=model(), **given)
        if weighs:  # no run file can ask for two parts yet
            other: Any = trainer_class("dynamic_weight", "only_long")(model=model(), **given)
            run, weighter = made.session.run, other.session.run.parts[0]
            facts = dataclasses.replace(run.facts, others=(weighter.facts,))
            made.session.run = dataclasses.replace(run, facts=facts, parts=(*run.parts, weighter))
        return made

    return make


def weights(made: Any) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in made.model.parameters()])


def test_a_selecting_order_and_a_sample_weighted_loss_train_together(make, tmp_path) -> None:
    alone, both = make(weighs=False, name="alone"), make(weighs=True)
    alone.train()
    both.train()
    assert [part.component.kind for part in both.session.run.facts.parts] == [Kind.SELECTOR, Kind.WEIGHTER]
    plans = [np.load(tmp_path / name / result_name(1)) for name in ("alone", "out")]
    assert plans[0].tolist() == plans[1].tolist() == list(range(23, 11, -1))
    assert both.parts.opened[Kind.WEIGHTER].component.steps == 3  # past the warm-up
    logged = [entry for entry in both.state.log_history if "dataflex/weight_mean" in entry]
    assert [entry["step"] for entry in logged][-3:] == [2, 3, 4]
    assert not torch.equal(weights(alone), weights(both))


def test_both_parts_go_on_from_a_checkpoint(make) -> None:
    whole, first = (make(weighs=True, name=name, save_strategy="steps", save_steps=2) for name in ("whole", "resumed"))
    whole.train()
    first.add_callback(StopAt(2))
    first.train()
    resumed = make(weighs=True, name="resumed")
    resumed.train(resume_from_checkpoint=True)
    assert resumed.parts.opened[Kind.WEIGHTER].component.steps == 3
    assert torch.equal(weights(resumed), weights(whole))


class StopAt(TrainerCallback):
    """An interrupt after a step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self._step:
            control.should_training_stop = True
