"""Runs of several components for tests: a pool of domains of short rows, components that tell what they were asked."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import Qwen2Config, Qwen2ForCausalLM, Trainer, TrainerCallback, TrainingArguments

from dataflex.trainers import dynamic_trainer

DOMAINS = {"a": 12, "b": 20}

COMPONENTS = '''
import os
import numpy as np
import torch
from dataflex import Mixer, Need, Selection, Selector, Weighter, param, register_mixer, register_selector
from dataflex import Pattern, register_orderer, register_weighter

CALLS = []

@register_selector("first")
class First(Selector):
    """The rows from the one on that follows the last it chose, and round again."""
    at = 0
    def select(self, model, step_id, num_samples):
        CALLS.append(("select", self.context.domain, step_id, num_samples, len(self.dataset)))
        rows = (self.at + np.arange(num_samples)) % len(self.dataset)
        self.at = int(self.at + num_samples)
        return Selection(rows, {"asked": num_samples}, np.arange(len(self.dataset), dtype=float))
    def state_dict(self):
        fails(self.context, "state", self.at, self.context.domain)
        return {"at": self.at}
    def load_state_dict(self, state):
        self.at = state["at"]

@register_selector("draws")
class Draws(Selector):
    def select(self, model, step_id, num_samples):
        return self.context.rng(step_id).permutation(len(self.dataset))[:num_samples]

@register_selector("twice")
class Twice(Selector):
    def select(self, model, step_id, num_samples):
        return np.zeros(num_samples, int)

@register_selector("pruned")
class Pruned(Selector):
    """Weighs the rows it chose: 3 for the first row of a domain, 1 for all others."""
    def select(self, model, step_id, num_samples):
        rows = np.arange(num_samples) % len(self.dataset)
        return Selection(rows, weights=np.where(rows == 0, 3.0, 1.0))

@register_selector("doubly")
class Doubly(Selector):
    """The first row again and again; its places weigh 1, 2, 3 and on."""
    def select(self, model, step_id, num_samples):
        return Selection(np.zeros(num_samples, int), weights=1.0 + np.arange(num_samples))

@register_selector("whole")
class Whole(Selector):
    """Asked once for all domains."""
    def select(self, model, step_id, num_samples, candidates=None):
        CALLS.append(("whole", num_samples, candidates and candidates.counts))
        if candidates is None:
            return np.arange(num_samples)
        return np.concatenate([rows[:count] for rows, count in zip(candidates.rows, candidates.counts)])

@register_selector("breaks")
class Breaks(First):
    """Fails in the second domain at the second boundary, as long as there is a file."""
    def select(self, model, step_id, num_samples):
        chosen = super().select(model, step_id, num_samples)
        fails(self.context, "select", step_id, self.context.domain)
        return chosen

@register_selector("scores")
class Scores(Breaks):
    """The same rows; their scores are their losses under the present model, of batches of a few rows."""
    def select(self, model, step_id, num_samples):
        fails(self.context, "asked", step_id, self.context.domain)
        chosen, batches = super().select(model, step_id, num_samples), iter(range(99))
        def begins(*_):
            if next(batches) == 1:  # the second
                fails(self.context, "scoring", step_id, self.context.domain)
        hook = model.register_forward_pre_hook(begins)
        found = self.context.losses(model, np.arange(len(self.dataset)), token_budget=30)
        hook.remove()
        return Selection(chosen.rows, chosen.metrics, found.means)

@register_selector("opens")
class Opens(First):
    """Begins with the last rows of each domain, and says where it keeps files."""
    def warmup(self, num_samples, replacement):
        CALLS.append(("warmup", self.context.domain, num_samples, len(self.dataset), str(self.context.cache_dir)))
        return len(self.dataset) - 1 - np.arange(num_samples)

@register_selector("hears", needs={Need.SAMPLE_LOSSES})
class Hears(First):
    """Keeps how often it heard of each of its rows, and the losses it heard of."""
    def __init__(self, params, context):
        super().__init__(params, context)
        self.times, self.losses = [0] * len(self.dataset), 0.0
    def on_rows(self, step, rows, losses):
        for row in rows.tolist():
            self.times[row] += 1
        self.losses += float(losses.sum())
        fails(self.context, "on_rows", step, self.context.domain)
    def state_dict(self):
        return {"at": self.at, "times": self.times, "losses": self.losses}
    def load_state_dict(self, state):
        self.at, self.times, self.losses = state["at"], list(state["times"]), state["losses"]

def fails(context, method, step_id, domain):
    path = context.output_dir.parent / "broken"
    planted = path.read_text() if path.exists() else ""
    if planted == f"{method} {step_id} {domain}":
        raise OSError("planted")
    if planted == f"kill in {method} {step_id} {domain}":
        os._exit(9)

@register_mixer("tilts")
class Tilts(Mixer):
    """Moves a tenth to the last domain at each boundary."""
    moved = 0
    def mix(self, model, step_id):
        self.moved += 1
        CALLS.append(("mix", step_id))
        others = [0.0] * (len(self.context.mixture.names) - 2)
        first = [max(0.0, 0.5 - 0.1 * self.moved), *others]
        return [*first, 1.0 - sum(first)]
    def state_dict(self):
        return {"moved": self.moved}
    def load_state_dict(self, state):
        self.moved = state["moved"]

@register_mixer("slides")
class Slides(Mixer):
    """A quarter of the first of two domains up to step 2, then three quarters."""
    def mix(self, model, step_id):
        return self.planned(step_id)
    def planned(self, step_id):
        return [0.25, 0.75] if step_id <= 2 else [0.75, 0.25]

@register_mixer("overfills")
class Overfills(Slides):
    """Foresees shares that are more than the whole."""
    def planned(self, step_id):
        return [0.75, 0.75]
    def mix(self, model, step_id):
        return [0.5, 0.5]

@register_mixer("halves", needs={Need.DOMAIN_LOSSES})
class Halves(Mixer):
    """Equal shares of rows and of the loss."""
    seen = 0.0
    def mix(self, model, step_id):
        fails(self.context, "mix", step_id, "")
        count = len(self.context.mixture.names)
        return [1 / count] * count
    def objective_weights(self, tokens):
        count = len(self.context.mixture.names)
        return [1 / count] * count
    def on_step(self, stats):
        self.seen += float(stats.losses.sums.sum())
        fails(self.context, "mixer", stats.step, "")
    def state_dict(self):
        return {"seen": self.seen}
    def load_state_dict(self, state):
        self.seen = state["seen"]

@register_orderer("folds")
class Folds(Pattern):
    """Every second rank, then the others."""
    def __init__(self, by=None, direction="ascending", context=None):
        self.context = context
    def ranks(self, n, rng):
        fails(self.context, "ranks", n, "")
        return [*range(0, n, 2), *range(1, n, 2)]

@register_orderer("lays")
class Lays(Folds):
    """With a window."""
    def __init__(self, by=None, window=1, context=None):
        self.context = context

@register_weighter("easy")
class Easy(Weighter):
    window = 32
    seen = 0.0
    def weights(self, losses_B, context):
        assert len(context.rows_B) == len(losses_B)
        assert context.domains_B is None or len(context.domains_B) == len(losses_B)
        fails(self.context, "weights", context.step, "")
        return torch.exp(-losses_B)
    def on_step(self, stats):
        self.seen += float(stats.weights.sum())
        fails(self.context, "weighter", stats.step, "")
    def state_dict(self):
        return {"seen": self.seen}
    def load_state_dict(self, state):
        self.seen = state["seen"]

@register_weighter("counts")
class Counts(Easy):
    """Adds up the losses that it is told of, as they were before weighing; domain a has the first twelve rows."""
    window = 8
    losses = 0.0
    def weights(self, losses_B, context):
        assert context.domains_B.tolist() == (context.rows_B >= 12).tolist()
        return super().weights(losses_B, context)
    def on_step(self, stats):
        self.losses += float(stats.losses @ stats.tokens)

@register_weighter("equal")
class Equal(Weighter):
    window = 8
    def weights(self, losses_B, context):
        return torch.full_like(losses_B, 0.37)

@register_weighter("reduces")
class Reduces:
    def get_weighted_loss(self, losses, *, ctx, model, inputs):
        return losses.mean()

@register_weighter("steps")
class Steps:
    def training_step(self, ctx, model, inputs, num_items_in_batch, use_weighter):
        loss = ctx.compute_loss(model, inputs)
        ctx.accelerator.backward(loss)
        return loss.detach()
'''


def pool(rows: int) -> list[dict[str, list[int]]]:
    """Rows of 4 to 9 tokens, each of its own."""
    draw = torch.Generator().manual_seed(0)
    return [
        {"input_ids": (ids := torch.randint(16, (4 + row % 6,), generator=draw).tolist()), "labels": [-100, *ids[1:]]}
        for row in range(rows)
    ]


def collate(rows: Any) -> dict[str, torch.Tensor]:
    """Padded on the right."""

    def padded(name: str, value: int) -> torch.Tensor:
        return pad_sequence([torch.tensor(row[name]) for row in rows], batch_first=True, padding_value=value)

    labels = padded("labels", -100)
    return {"input_ids": padded("input_ids", 0), "labels": labels}


def model() -> Qwen2ForCausalLM:
    """The same small model each time."""
    torch.manual_seed(1)
    sizes = {"vocab_size": 16, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    return Qwen2ForCausalLM(Qwen2Config(**sizes, num_attention_heads=2, num_key_value_heads=1))


def trainer(
    folder: Path,
    keys: Mapping[str, Any],
    *,
    out: str = "out",
    domains: Mapping[str, int] | None = None,
    rows: int | None = None,
    **arguments: Any,
) -> Any:
    """A Trainer on a pool of domains; ``train_type: dynamic`` unless the keys say otherwise."""
    mine = folder / "mine.py"
    if not mine.exists():
        mine.write_text(COMPONENTS)
    steps = {"warmup_step": 1, "update_step": 2, "update_times": 3}
    given = {"train_type": "dynamic", **steps, **keys}
    size = rows if rows is not None else sum((domains or {"pool": 24}).values())
    args: dict[str, Any] = {
        "optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant", "per_device_train_batch_size": 4,
        "use_cpu": True, "report_to": "none", "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True,
        "remove_unused_columns": False, "max_grad_norm": 0.0,
    }  # fmt: skip
    made: Any = dynamic_trainer(Trainer, given, domains=domains, plugins=[mine])
    return made(
        model=model(),
        args=TrainingArguments(str(folder / out), **{**args, **arguments}),
        train_dataset=pool(size),
        data_collator=collate,
    )


def trained(folder: Path, keys: Mapping[str, Any], **more: Any) -> Any:
    """A Trainer that has trained, on two domains unless told otherwise."""
    made = trainer(folder, keys, **{"domains": DOMAINS, **more})
    made.train()
    return made


def decisions(folder: Path) -> list[dict[str, Any]]:
    """What was decided, without what takes time."""
    lines = [json.loads(line) for line in (folder / "decisions.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if name not in ("seconds", "timing", "dist")} for line in lines
    ]


def plans(folder: Path) -> dict[str, list[int]]:
    """The rows of every stage, and what was decided beside them."""
    return {path.name: np.load(path).tolist() for path in sorted((folder / "decisions").glob("*.npy"))}


def weights(trained: Any) -> torch.Tensor:
    """All parameters in one."""
    return torch.cat([parameter.detach().flatten() for parameter in trained.model.parameters()])


FOUR_PARTS = {
    "components": {
        "mixer": "halves", "selector": {"name": "scores", "every": 2}, "orderer": "folds", "weighter": "easy",
    },
    "init_mixture_proportions": [0.5, 0.5],
    "update_times": 5,
}  # fmt: skip
"""11 steps of 4 samples: the weights act from step 10 on."""


def train_rank(rank: int, world_size: int, folder: str) -> None:
    """A run of four parts on one of several ranks; from its last checkpoint, if there is one. Tells its parameters."""
    from gloo import joined

    os.environ.update(OMP_NUM_THREADS="1", ACCELERATE_USE_CPU="true")
    torch.set_num_threads(1)
    out = Path(folder, "out")
    saves = {"save_strategy": "steps", "save_steps": 1, "per_device_train_batch_size": 4 // world_size}
    with joined(rank, world_size, folder):
        made = trainer(Path(folder), FOUR_PARTS, domains=DOMAINS, **saves)
        made.train(resume_from_checkpoint=any(out.glob("checkpoint-*")) or None)
        Path(folder, f"told-{rank}.json").write_text(json.dumps(weights(made).tolist()))


class StopAt(TrainerCallback):
    """An interrupt after a step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop there."""
        if state.global_step == self._step:
            control.should_training_stop = True
