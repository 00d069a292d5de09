"""Components that fail in one method of theirs, for as long as they are told to, and short runs with them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from gloo import joined
from weight_runs import collate, model, pool

from dataflex.errors import DataFlexError
from dataflex.kinds import KINDS, Kind, load
from dataflex.trainers import dynamic_trainer

STEPS, WARMUP = 8, 2
FAILS_AT = 5
"""The step after which methods fail that are called in each; the others fail the first time."""

IN_A_MICRO_BATCH = frozenset(
    ("token_scores", "objective_weights", "on_losses", "weights", "get_weighted_loss", "training_step")
)
"""Methods whose failure ranks do not agree on."""

BESIDE_AN_ORDERER = frozenset(("planned",))
"""Methods that only a run with an orderer calls."""

OF_THE_NOTE = {Kind.WEIGHTER: ("get_weighted_loss", "training_step")}
"""Methods of the note's style, which no base class has."""

COMPONENTS = '''
import os
from dataflex import Mixer, Orderer, Selector, Weighter
from dataflex import register_mixer, register_orderer, register_selector, register_weighter
from dataflex.components.mix_context import StepStats
from dataflex.spec import Need
import numpy as np
import torch

METHOD, BROKEN = "{method}", "{broken}"

def fails(component, method):
    """Fail in the method that is to fail, on the ranks that are to."""
    if method == METHOD and os.path.exists(BROKEN) and os.environ.get("RANK", "0") in {ranks}:
        raise ZeroDivisionError("on purpose")

class Counts:
    seen = 0.0
    def state_dict(self):
        fails(self, "state_dict")
        return {{"seen": self.seen}}
    def load_state_dict(self, state):
        fails(self, "load_state_dict")
        self.seen = state["seen"]
    def on_step(self, stats):
        losses = stats.losses.sums if isinstance(stats, StepStats) else stats.losses
        self.seen = self.seen + float(np.sum(losses))
        if stats.step == {at}:
            fails(self, "on_step")

@register_selector("sample", needs={{Need.SAMPLE_LOSSES}})
class Sample(Counts, Selector):
    begun = 0
    def begin(self, model):
        fails(self, "begin")
        self.begun += 1
        assert not model.training
    def on_rows(self, step, rows, losses):
        self.seen = self.seen + float(losses @ (rows + 1)) + 1000 * self.begun
        if step == {at}:
            fails(self, "on_rows")
    def state_dict(self):
        return {{**super().state_dict(), "begun": self.begun}}
    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.begun = state["begun"]
    def __init__(self, params, context):
        fails(self, "__init__")
        super().__init__(params, context)
    def warmup(self, num_samples, replacement=False):
        fails(self, "warmup")
        return super().warmup(num_samples, replacement)
    def scoring_cost(self):
        fails(self, "scoring_cost")
    def directions(self, model, step_id):
        fails(self, "directions")
        return None
    def select(self, model, step_id, num_samples):
        fails(self, "select")
        return np.arange(num_samples) % len(self.dataset)

@register_mixer("sample", needs={{Need.DOMAIN_LOSSES}})
class SampleMixer(Counts, Mixer):
    def __init__(self, params, context):
        fails(self, "__init__")
        super().__init__(params, context)
    def mix(self, model, step_id):
        fails(self, "mix")
        share = 0.5 + 0.4 * np.tanh(self.seen / 100)
        return np.array([share, 1 - share])
    def planned(self, step_id):
        fails(self, "planned")
        return None
    def token_scores(self, batch):
        fails(self, "token_scores")
        return batch.losses_BT
    def objective_weights(self, tokens):
        fails(self, "objective_weights")
        return tokens / tokens.sum()
    def metrics(self):
        fails(self, "metrics")
        return {{"seen": self.seen}}
    def finished(self, step_id):
        fails(self, "finished")

@register_orderer("sample")
class SampleOrderer(Counts, Orderer):
    def __init__(self, params=None, context=None):
        fails(self, "__init__")
        super().__init__(params, context)
    def order(self, rows, scores, rng):
        fails(self, "order")
        self.seen = self.seen + float(len(rows))
        return rows[::-1]

@register_weighter("sample")
class SampleWeighter(Counts, Weighter):
    window, statistics = 4, "{statistics}"
    def __init__(self, params=None, context=None):
        fails(self, "__init__")
        super().__init__(params, context)
    def begin_step(self, model, step, batches, rows):
        fails(self, "begin_step")
    def on_losses(self, losses):
        fails(self, "on_losses")
    def weights(self, losses_B, context):
        fails(self, "weights")
        return torch.ones_like(losses_B) + self.seen / 100 * losses_B

@register_weighter("noted")
class Noted:
    def __init__(self):
        fails(self, "__init__")
    def get_weighted_loss(self, losses, *, ctx=None, model=None, inputs=None):
        fails(self, "get_weighted_loss")
        return losses.mean()

@register_weighter("owning")
class Owning(Noted):
    def training_step(self, ctx, model, inputs, num_items_in_batch=None, use_weighter=False):
        fails(self, "training_step")
        loss = ctx.compute_loss(model, inputs)
        ctx.accelerator.backward(loss)
        return loss.detach()
'''
TRAIN_TYPES = {
    Kind.SELECTOR: "dynamic_select",
    Kind.MIXER: "dynamic_mix",
    Kind.WEIGHTER: "dynamic_weight",
    Kind.ORDERER: "dynamic_order",
}


def methods() -> Iterator[tuple[Kind, str]]:
    """Every method of every kind that is called: those of the base classes, the note's, and the constructor."""
    for kind, record in KINDS.items():
        yield kind, "__init__"
        for cls in load(record.base).__mro__:
            if cls is object or cls.__name__.startswith("Old"):
                continue
            public = [name for name, value in vars(cls).items() if callable(value) and not name.startswith("_")]
            yield from ((kind, name) for name in public)
        yield from ((kind, name) for name in OF_THE_NOTE.get(kind, ()))


def broken(folder: Path) -> Path:
    """The file that lies there for as long as the component fails."""
    return folder / "broken.txt"


def component(method: str) -> str:
    """The component that has a method."""
    return {"get_weighted_loss": "noted", "training_step": "owning"}.get(method, "sample")


def statistics(method: str) -> str:
    """What a weighter's statistics are over, so that a method is called."""
    return "batch" if method == "on_losses" else "window"


def trainer(kind: Kind, method: str, folder: Path, **arguments: Any) -> Any:
    """A Trainer with a component of ``kind`` that fails in ``method`` while :func:`broken` exists."""
    from transformers import Trainer, TrainingArguments

    folder.mkdir(parents=True, exist_ok=True)
    ranks = ("0", "1") if method in IN_A_MICRO_BATCH or "RANK" not in os.environ else ("1",)
    code = COMPONENTS.format(
        method=method, broken=broken(folder), at=FAILS_AT, statistics=statistics(method), ranks=ranks
    )
    (folder / "plug.py").write_text(code)
    steps = {"update_step": 3, "update_times": 2} if kind in (Kind.SELECTOR, Kind.MIXER) else {"train_step": STEPS}
    mixes = {"init_mixture_proportions": [0.5, 0.5]} if kind is Kind.MIXER else {}
    acting: dict[str, Any] = {"train_type": TRAIN_TYPES[kind], "component_name": component(method)}
    if method in BESIDE_AN_ORDERER:
        acting = {"train_type": "dynamic", "components": {kind.value: "sample", "orderer": "sample"}}
    config = {
        **acting,
        "warmup_step": WARMUP,
        **steps,
        **mixes,
    }
    domains = {"domains": {"a": 12, "b": 12}} if kind is Kind.MIXER else {}
    cls = dynamic_trainer(Trainer, {**config, **steps, **mixes}, plugins=[folder / "plug.py"], **domains)
    fixed: dict[str, Any] = {
        "optim": "sgd", "learning_rate": 0.2, "lr_scheduler_type": "constant", "per_device_train_batch_size": 2,
        "use_cpu": True, "report_to": "none", "save_strategy": "no", "logging_steps": 3, "seed": 5,
        "disable_tqdm": True, "remove_unused_columns": False, "max_grad_norm": 0.0,
    }  # fmt: skip
    args = TrainingArguments(str(folder / "out"), **{**fixed, **arguments})
    return cls(model=model(), args=args, train_dataset=pool(), data_collator=collate)


def failure(kind: Kind, method: str, folder: Path) -> str:
    """What a run says whose component fails in ``method``; a resumed one for ``load_state_dict``."""
    resume: Mapping[str, Any] = {}
    if method == "load_state_dict":
        trainer(kind, method, folder, save_strategy="steps", save_steps=4).train()
        resume = {"resume_from_checkpoint": str(folder / "out" / "checkpoint-4")}
    folder.mkdir(parents=True, exist_ok=True)
    broken(folder).touch()
    try:
        trainer(kind, method, folder).train(**resume)
    except DataFlexError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def fail_on_this_rank(rank: int, world_size: int, folder: str) -> None:
    """Run every method's failure on two ranks. Of those that all ranks agree on, only rank 1's component fails."""
    os.environ.update(OMP_NUM_THREADS="1", ACCELERATE_USE_CPU="true")
    torch.set_num_threads(1)
    with joined(rank, world_size, folder):
        for kind, method in methods():
            home = Path(folder, f"{kind.value}-{method}")
            told = failure(kind, method, home)
            (home / f"told-{rank}.txt").write_text(told)
