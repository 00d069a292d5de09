"""Short runs with a selector that weighs the places of its plan; also what each of two ranks runs."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gloo import joined
from row_runs import StopAt, parameters
from transformers import Trainer, TrainingArguments
from weight_runs import collate, model, pool

from dataflex.trainers import dynamic_trainer

PLUGIN = '''
import numpy as np
import torch
from dataflex import Selection, Selector, Weighter, register_selector, register_weighter

class Weighs(Selector):
    """Weights of the places of each stage; rows come more than once."""
    def select(self, model, step_id, num_samples):
        places = np.arange(num_samples)
        return Selection(places * 5 % 12, weights=self.weights_of(step_id, places))

@register_selector("weighs")
class Places(Weighs):
    def weights_of(self, step, places):
        return 0.5 + (places * 7 + step) % 5

@register_selector("threes")
class Threes(Weighs):
    def weights_of(self, step, places):
        return [3.0] * len(places)

@register_selector("ones")
class Ones(Weighs):
    def weights_of(self, step, places):
        return torch.ones(len(places))

@register_selector("none")
class Nothing(Weighs):
    def weights_of(self, step, places):
        return None

@register_selector("every_other")
class EveryOther(Weighs):
    """Weighs the first stage alone."""
    def weights_of(self, step, places):
        return 1.0 + places % 2 if step == 0 else None

@register_selector("short")
class Short(Weighs):
    def weights_of(self, step, places):
        return places[1:].astype(float)

@register_selector("negative")
class Negative(Weighs):
    def weights_of(self, step, places):
        return np.where(places == 3, -0.5, 1.0)

@register_selector("unknown")
class Unknown(Weighs):
    def weights_of(self, step, places):
        return np.where(places == 2, np.nan, 1.0)

@register_selector("worded")
class Worded(Weighs):
    def weights_of(self, step, places):
        return ["a"] * len(places)

@register_selector("by_rank")
class ByRank(Weighs):
    def weights_of(self, step, places):
        return np.full(len(places), 1.0 + self.context.rank * 2.0 ** -52)

@register_weighter("long_ones")
class LongOnes(Weighter):
    """Those of at least four target tokens weigh three times as much; sees whole steps, so acts from the first on."""
    statistics = "batch"
    def weights(self, losses_B, context):
        return 1.0 + 2.0 * (context.tokens_B >= 4)

@register_weighter("summing")
class Summing:
    def get_weighted_loss(self, losses, *, ctx=None, model=None, inputs=None):
        return losses.mean()

@register_weighter("owning")
class Owning:
    def training_step(self, ctx, model, inputs, num_items_in_batch=None, use_weighter=False):
        model.train()
        inputs = ctx._prepare_inputs(inputs)
        loss = ctx.compute_loss(model, inputs) / ctx.args.gradient_accumulation_steps
        ctx.accelerator.backward(loss)
        return loss.detach()
'''
STEPS = {"warmup_step": 0, "update_step": 2, "update_times": 2}
"""4 steps, all weighed: the stock loss of a warm-up is made in fp32."""


def trainer(name: str, folder: Path, *, weighter: str | None = None, **arguments: Any) -> Any:
    """A Trainer of the tiny model in fp64 with a selector of :data:`PLUGIN` and, if one is named, a weighter."""
    folder.mkdir(parents=True, exist_ok=True)
    plug, own = folder / "plug.py", folder / f"plug-{os.getpid()}.tmp"
    own.write_text(PLUGIN)
    own.replace(plug)
    compute_loss_func = arguments.pop("compute_loss_func", None)
    fixed: dict[str, Any] = {
        "optim": "sgd", "learning_rate": 0.2, "lr_scheduler_type": "constant", "per_device_train_batch_size": 2,
        "use_cpu": True, "report_to": "none", "save_strategy": "no", "logging_steps": 1, "seed": 5,
        "disable_tqdm": True, "remove_unused_columns": False, "max_grad_norm": 0.0,
    }  # fmt: skip
    given = {
        "args": TrainingArguments(str(folder / "out"), **{**fixed, **arguments}),
        "train_dataset": pool(), "data_collator": collate, "compute_loss_func": compute_loss_func,
    }  # fmt: skip

    def make(train_type: str, component: str, steps: dict[str, int]) -> Any:
        config = {"train_type": train_type, "component_name": component, **steps}
        return dynamic_trainer(Trainer, config, plugins=[plug])(model=model(torch.float64), **given)

    made = make("dynamic_select", name, STEPS)
    if weighter is not None:  # no run file can ask for two parts yet
        other = make("dynamic_weight", weighter, {"warmup_step": 0, "train_step": 4})
        run, part = made.session.run, other.session.run.parts[0]
        facts = dataclasses.replace(run.facts, others=(part.facts,))
        made.session.run = dataclasses.replace(run, facts=facts, parts=(*run.parts, part))
    return made


def trained(name: str, folder: Path, **arguments: Any) -> torch.Tensor:
    """All parameters after a run."""
    made = trainer(name, folder, **arguments)
    made.train()
    return parameters(made)


def stopped_and_resumed(name: str, folder: Path, step: int, **arguments: Any) -> torch.Tensor:
    """All parameters after a run that is stopped after a step and goes on in a new Trainer."""
    saves = {"save_strategy": "steps", "save_steps": step}
    first = trainer(name, folder, **saves, **arguments)
    first.add_callback(StopAt(step))
    first.train()
    again = trainer(name, folder, **saves, **arguments)
    again.train(resume_from_checkpoint=True)
    return parameters(again)


def train_rank(rank: int, world_size: int, folder: str) -> None:
    """What two ranks come to: whole, stopped and resumed, and with weights that differ."""
    os.environ.update(OMP_NUM_THREADS="1", ACCELERATE_USE_CPU="true")
    torch.set_num_threads(1)
    accumulates = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 1}
    with joined(rank, world_size, folder):
        whole = trained("weighs", Path(folder, f"rank-{rank}"), **accumulates)
        again = stopped_and_resumed("weighs", Path(folder, "shared"), 3, **accumulates)
        try:
            trained("by_rank", Path(folder, f"differs-{rank}"))
            said = ""
        except Exception as error:
            said = str(error)
        told = {"parameters": whole.tolist(), "equal": bool(torch.equal(whole, again)), "differs": said}
        Path(folder, f"told-{rank}.json").write_text(json.dumps(told))


def weights_at(step: int, count: int) -> np.ndarray:
    """Those of the selector ``weighs``, for the boundary at ``step``."""
    return 0.5 + (np.arange(count) * 7 + step) % 5
