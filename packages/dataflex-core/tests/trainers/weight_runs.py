"""Short runs of a tiny language model with plain SGD, weighted or stock; also what each of two ranks runs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from gloo import joined
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
    Trainer,
    TrainingArguments,
)

from dataflex.errors import ConfigError
from dataflex.testing.tiny import write_model

IGNORED = -100
WEIGHTERS = '''
import torch
from dataflex import Weighter, register_weighter

@register_weighter("ones")
class Ones(Weighter):
    def weights(self, losses_B, context):
        return torch.ones_like(losses_B)

@register_weighter("chunked")
class Chunked(Ones):
    chunk_tokens = 3

@register_weighter("pointwise")
class Pointwise(Weighter):
    """A function of the loss alone; the normaliser has something to do."""
    window = 4
    def weights(self, losses_B, context):
        return (losses_B - 3).square()

@register_weighter("patient")
class Patient(Pointwise):
    """With the framework's own window."""
    window = Weighter.window

@register_weighter("steep")
class Steep(Pointwise):
    """Knows the samples of its step, and writes down what it was told."""
    statistics = "batch"
    def on_losses(self, losses):
        self.told = [*getattr(self, "told", ()), (losses.step, losses.losses.tolist(), losses.tokens.tolist())]
    def on_step(self, stats):
        self.ended = [*getattr(self, "ended", ()), stats]

@register_weighter("centred")
class Centred(Steep):
    """A weight that depends on all samples of the step."""
    def on_losses(self, losses):
        super().on_losses(losses)
        self.low, self.high = losses.losses.min(), losses.losses.max()
    def weights(self, losses_B, context):
        return (losses_B - self.low) / (self.high - self.low) + 0.1

@register_weighter("equal_steps")
class EqualSteps(Ones):
    statistics = "batch"

@register_weighter("hardest")
class Hardest(Weighter):
    statistics = "batch"
    def weights(self, losses_B, context):
        return (context.tokens_B >= 6).float()

@register_weighter("broken")
class Broken(Weighter):
    def weights(self, losses_B, context):
        return losses_B - losses_B.mean() if context.step == 1 else losses_B

@register_weighter("fragile")
class Fragile(Pointwise):
    """Fails in the second micro-batch of step 3 for as long as ``broken.txt`` lies in the output directory."""
    micro_batches = 0
    def weights(self, losses_B, context):
        self.micro_batches = self.micro_batches + 1 if context.step == 3 else 0
        if self.micro_batches == 2 and (self.context.output_dir / "broken.txt").exists():
            raise ZeroDivisionError("it broke")
        return super().weights(losses_B, context)

@register_weighter("short_memory")
class ShortMemory(Pointwise):
    window = 4

@register_weighter("watching")
class Watching(Ones):
    watches_warmup = True
    def on_step(self, stats):
        self.seen = [*getattr(self, "seen", ()), (stats.step, stats.losses.tolist(), stats.weights.tolist())]

@register_weighter("failing_later")
class FailingLater(Ones):
    def on_step(self, stats):
        raise ZeroDivisionError("in on_step")

@register_weighter("idle")
class Idle(Weighter):
    statistics = "batch"
    def weights(self, losses_B, context):
        return torch.zeros_like(losses_B)

@register_weighter("overflowing")
class Overflowing(Weighter):
    window = 1
    def weights(self, losses_B, context):
        return torch.full_like(losses_B, 1e-38 if context.step == 0 else 3e38)

@register_weighter("detached")
class Detached:
    def get_weighted_loss(self, losses, *, ctx=None, model=None, inputs=None):
        return losses.detach().mean()

@register_weighter("not_a_number")
class NotANumber:
    def get_weighted_loss(self, losses, *, ctx=None, model=None, inputs=None):
        return losses.mean() * float("nan")

@register_weighter("both")
class Both(Ones):
    def training_step(self, ctx, model, inputs):
        raise AssertionError

@register_weighter("baseless")
class Baseless:
    """Native, but of no base class."""
    window = 4
    def weights(self, losses_B, context):
        return (losses_B - 3).square()

@register_weighter("endless")
class Endless(Ones):
    window = None

@register_weighter("chunkless")
class Chunkless(Ones):
    chunk_tokens = -4

@register_weighter("silent")
class Silent:
    def training_step(self, ctx, model, inputs):
        return None

@register_weighter("reducing")
class Reducing:
    def get_weighted_loss(self, losses, *, ctx=None, model=None, inputs=None):
        assert "labels" in inputs and ctx.state is not None
        weights = torch.ones_like(losses) / losses.numel()
        return torch.sum(weights * losses)

@register_weighter("owning")
class Owning:
    """The design note's training step, which writes down how it was called."""
    def training_step(self, ctx, model, inputs, num_items_in_batch=None, use_weighter=False):
        self.calls = [*getattr(self, "calls", ()), (ctx.state.global_step, num_items_in_batch, use_weighter)]
        model.train()
        inputs = ctx._prepare_inputs(inputs)
        with ctx.compute_loss_context_manager():
            loss, outputs = ctx.compute_loss(model, inputs, num_items_in_batch=num_items_in_batch, return_outputs=True)
        loss = loss / ctx.args.gradient_accumulation_steps
        ctx.accelerator.backward(loss)
        return loss.detach()

@register_weighter("nothing")
class Nothing:
    pass
'''
WEIGHT = {"train_type": "dynamic_weight", "component_name": "ones", "warmup_step": 0}


def pool(rows: int = 24, *, masked: Sequence[int] = ()) -> list[dict[str, list[int]]]:
    """Ragged rows whose first two tokens are no targets; those of ``masked`` have no target at all."""
    draw = torch.Generator().manual_seed(7)
    made = []
    for row in range(rows):
        length = int(torch.randint(4, 12, (), generator=draw))
        ids = torch.randint(1, 40, (length,), generator=draw).tolist()
        made.append({"input_ids": ids, "labels": [IGNORED] * (length if row in masked else 2) + ids[2:]})
        made[-1]["labels"] = made[-1]["labels"][:length]
    return made


def collate(rows: Sequence[Mapping[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Pad on the right; a packed row comes alone, as it is."""
    if "position_ids" in rows[0]:
        return {name: torch.tensor([numbers]) for name, numbers in rows[0].items()}
    length = max(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": 0, "labels": IGNORED}
    batch = {
        name: torch.tensor([list(row[name]) + [fill[name]] * (length - len(row[name])) for row in rows])
        for name in fill
    }
    return {**batch, "attention_mask": (batch["input_ids"] != 0).long()}


def model(dtype: torch.dtype = torch.float32) -> Qwen2ForCausalLM:
    """The same model each time."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=32, initializer_range=0.3,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).to(dtype)


def mixture_of_experts(dtype: torch.dtype = torch.float64) -> Qwen2MoeForCausalLM:
    """A model with a load-balancing loss that is felt."""
    torch.manual_seed(0)
    config = Qwen2MoeConfig(
        vocab_size=40, hidden_size=16, intermediate_size=32, moe_intermediate_size=16, num_hidden_layers=1,
        shared_expert_intermediate_size=16, num_attention_heads=2, num_key_value_heads=1, num_experts=4,
        num_experts_per_tok=2, max_position_embeddings=32, initializer_range=0.3, output_router_logits=True,
        router_aux_loss_coef=0.5,
    )  # fmt: skip
    config._experts_implementation = "eager"  # the grouped kernels know no fp64
    return Qwen2MoeForCausalLM(config).to(dtype)


def trainer(config: Mapping[str, Any] | None, folder: Path, *, base: type = Trainer, **arguments: Any) -> Trainer:
    """A Trainer of the tiny model, with one of :data:`WEIGHTERS`; a stock one for no configuration.

    ``double`` trains in fp64: what differs by rounding then agrees far below the tolerance, what is wrong does not.
    """
    rows, given = arguments.pop("rows", None), arguments.pop("model", None)
    dtype = torch.float64 if arguments.pop("double", False) else torch.float32
    defaults: dict[str, Any] = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "max_steps": 6}
    fixed: dict[str, Any] = {
        "optim": "sgd", "learning_rate": 0.2, "lr_scheduler_type": "constant", "max_grad_norm": 0.0,
        "use_cpu": True, "report_to": "none", "save_strategy": "no", "logging_steps": 1, "seed": 5,
        "disable_tqdm": True, "remove_unused_columns": False,
    }  # fmt: skip
    args = TrainingArguments(str(folder / "out"), **{**fixed, **defaults, **arguments})
    cls = base if config is None else weighted(base, config, folder)
    data = pool() if rows is None else rows
    return cls(model=model(dtype) if given is None else given, args=args, train_dataset=data, data_collator=collate)


def weighted(base: type, config: Mapping[str, Any], folder: Path) -> type:
    """The class that trains with one of :data:`WEIGHTERS`."""
    from dataflex.trainers import dynamic_trainer

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weighters.py").write_text(WEIGHTERS)
    return dynamic_trainer(base, {**WEIGHT, **config}, plugins=[folder / "weighters.py"])


def supervised(config: Mapping[str, Any] | None, folder: Path, *, packed: bool = False, **more: Any) -> torch.Tensor:
    """All parameters after some steps of TRL's SFTTrainer; packed, and so without padding, by its own collator."""
    from trl import SFTConfig, SFTTrainer

    args = SFTConfig(
        str(folder / "out"), optim="sgd", learning_rate=0.2, max_steps=4, gradient_accumulation_steps=2, use_cpu=True,
        per_device_train_batch_size=2, report_to="none", save_strategy="no", disable_tqdm=True, seed=5, bf16=False,
        gradient_checkpointing=False, remove_unused_columns=False, dataset_kwargs={"skip_prepare_dataset": not packed},
        packing=packed, max_length=24, **more,
    )  # fmt: skip
    made = (SFTTrainer if config is None else weighted(SFTTrainer, config, folder))(
        model=model(), args=args, train_dataset=Dataset.from_list(pool()),
        data_collator=None if packed else collate,
        processing_class=AutoTokenizer.from_pretrained(write_model(folder / "model")),
    )  # fmt: skip
    made.train()
    return parameters(made)


def trained(config: Mapping[str, Any] | None, folder: Path, **arguments: Any) -> torch.Tensor:
    """Train and return all parameters in one vector."""
    made = trainer(config, folder, **arguments)
    made.train()
    return parameters(made)


def parameters(made: Trainer) -> torch.Tensor:
    """All parameters in one vector."""
    weights = made.accelerator.unwrap_model(made.model).parameters()
    return torch.cat([weight.detach().double().flatten() for weight in weights])


def keep(found: torch.Tensor, path: Path) -> None:
    """Hand parameters over to another process."""
    save_file({"parameters": found}, path.with_suffix(".safetensors"))


def kept(path: Path) -> torch.Tensor:
    """What :func:`keep` was given."""
    return load_file(path.with_suffix(".safetensors"))["parameters"]


def train_rank(rank: int, world_size: int, folder: str) -> None:
    """Run ``folder/job.json`` on this rank; rank 0 leaves the parameters and the log in ``folder``."""
    os.environ.update(OMP_NUM_THREADS="1", ACCELERATE_USE_CPU="true")
    torch.set_num_threads(1)
    jobs = json.loads(Path(folder, "jobs.json").read_text())
    with joined(rank, world_size, folder):
        for name, job in jobs.items():
            made = trainer(
                job["config"], Path(folder, f"rank-{rank}"), rows=pool(job.get("rows", 24)), **job["arguments"]
            )
            assert made.args.world_size == world_size
            made.train()
            told = gather_object([getattr(getattr(made, "component", None), "told", None)])
            if rank == 0:
                if told[0] is not None:
                    Path(folder, f"{name}-told.json").write_text(json.dumps(told))
                keep(parameters(made), Path(folder, name))
                Path(folder, f"{name}.json").write_text(json.dumps(made.state.log_history))


if __name__ == "__main__":  # in a process of its own: TRL, once imported, does not import under LlamaFactory's patches
    root = Path(sys.argv[1])
    for name, config in (("stock", None), ("ones", {}), ("pointwise", {"component_name": "pointwise"})):
        keep(supervised(config, root / name), root / name)
        keep(supervised(config, root / f"packed-{name}", packed=True), root / f"packed-{name}")
    try:
        supervised({}, root / "dft", loss_type="dft")
    except ConfigError as error:
        (root / "dft.txt").write_text(str(error))
