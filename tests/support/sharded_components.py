"""Every shipped component under FSDP2 on two gloo ranks, beside DDP, in one process a rank; importable by it."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from fsdp_runs import is_sharded, sharding
from gloo import joined
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import Qwen2Config, Qwen2ForCausalLM, Trainer, TrainingArguments

from dataflex.spread import whole
from dataflex.trainers import dynamic_trainer

TWO_STAGES = {"warmup_step": 2, "update_step": 2, "update_times": 2}


def _select(name: str, **params: Any) -> dict[str, Any]:
    return {"train_type": "dynamic_select", "component_name": name, "component_params": params, **TWO_STAGES}


def _mix(name: str, **params: Any) -> dict[str, Any]:
    keys = {"component_name": name, "component_params": params, "init_mixture_proportions": [0.5, 0.5]}
    return {"train_type": "dynamic_mix", **keys, **TWO_STAGES}


RUNS: dict[str, dict[str, Any]] = {
    "random": _select("random"),
    "loss": _select("loss"),
    "less": _select("less", preconditioner="adam"),
    "influence": _select("influence"),
    "near": _select("near"),
    "near of the model in training": _select("near", embedding_model="run"),
    "tsds": _select("tsds"),
    "mixer random": _mix("random"),
    "mixer loss": _mix("loss"),
    "weighter loss": {
        "train_type": "dynamic_weight",
        "component_name": "loss",
        "component_params": {"window": 8},
        "warmup_step": 1,
        "train_step": 6,
    },
    "orderer folding by loss": {
        "train_type": "dynamic_order",
        "component_name": "folding",
        "component_params": {"by": "loss"},
        "warmup_step": 0,
        "update_step": 3,
        "train_step": 6,
    },
    "prune": _select("prune"),
}
DOMAINS = {"one": 20, "two": 12}


def rows(count: int, seed: int) -> list[dict[str, torch.Tensor]]:
    """Rows of random tokens of unequal length."""
    made = torch.Generator().manual_seed(seed)
    lengths = torch.randint(4, 9, (count,), generator=made).tolist()
    ids = [torch.randint(1, 40, (length,), generator=made) for length in lengths]
    return [{"input_ids": row, "labels": row.clone(), "attention_mask": torch.ones_like(row)} for row in ids]


def pad(features: list[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Rows to one batch."""
    fill = {"input_ids": 0, "labels": -100, "attention_mask": 0}
    return {
        name: torch.nn.utils.rnn.pad_sequence([row[name] for row in features], batch_first=True, padding_value=value)
        for name, value in fill.items()
    }


def make(output: Path, config: Mapping[str, Any]) -> Any:
    """A Trainer of six steps on LoRA adapters."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 40}
    model: Any = Qwen2ForCausalLM(Qwen2Config(**sizes, num_attention_heads=2, num_key_value_heads=2))
    model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    args = TrainingArguments(
        str(output),
        per_device_train_batch_size=2,
        max_steps=6,
        save_strategy="steps",
        save_steps=3,
        learning_rate=0.02,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    mixes = config["train_type"] == "dynamic_mix"
    cls = dynamic_trainer(Trainer, config, domains=DOMAINS if mixes else None)
    goals = {"a": rows(4, 1), "b": rows(3, 2)}
    return cls(model=model, args=args, train_dataset=rows(32, 5), eval_dataset=goals, data_collator=pad)


def train(output: Path, name: str, checkpoint: Path | None = None) -> dict[str, Any]:
    """Train; whether parameters were spread, and what went wrong."""
    said, trainer = "", None
    try:
        trainer = make(output, RUNS[name])
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        gathered = {key: whole(value).clone() for key, value in trainer.model.named_parameters()}
        if trainer.is_world_process_zero():
            save_file(gathered, output / "gathered.st")
    except Exception as error:  # of all ranks alike; what is said, the test shows
        said = f"{type(error).__name__}: {error}"
    return {"said": said, "sharded": trainer is not None and is_sharded(trainer.model)}


def every_component(rank: int, world_size: int, folder: str) -> None:
    """Each under FSDP2, resumed from its third step, and under DDP."""
    here, said = Path(folder), {}
    with joined(rank, world_size, folder) as accelerator:
        for name in RUNS:
            for kind, spread in (("fsdp2", sharding("SHARDED_STATE_DICT")), ("ddp", contextlib.nullcontext())):
                with spread:
                    said[f"{name} {kind}"] = train(here / f"{name} {kind}", name)
                    accelerator.wait_for_everyone()
                    if kind == "ddp":
                        continue
                    resumed = here / f"{name} resumed"
                    if said[f"{name} {kind}"]["said"]:
                        continue
                    if rank == 0:
                        shutil.copytree(here / f"{name} {kind}" / "checkpoint-3", resumed / "checkpoint-3")
                    accelerator.wait_for_everyone()
                    said[f"{name} resumed"] = train(resumed, name, resumed / "checkpoint-3")
            (here / f"said-{rank}.json").write_text(json.dumps(said), encoding="utf-8")
