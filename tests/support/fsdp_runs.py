"""Short runs of a tiny language model whose parameters FSDP2 spreads over two gloo ranks on a CPU.

accelerate takes FSDP up only on accelerators: on a CPU it drops it without a word and trains under DDP. So its state is
told here, and each run checks that it is sharded.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from gloo import joined
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers import Qwen2Config, Qwen2ForCausalLM, Trainer, TrainingArguments

from dataflex.errors import ConfigError
from dataflex.spread import whole
from dataflex.trainers import dynamic_trainer

SELECT = {
    "train_type": "dynamic_select",
    "component_name": "loss",
    "warmup_step": 2,
    "update_step": 2,
    "update_times": 1,
}
VARIABLES = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "Qwen2DecoderLayer",
}
"""As ``accelerate launch`` sets them."""


@contextmanager
def sharding(state_type: str) -> Iterator[None]:
    """Let Trainers of this process shard on a CPU.

    Args:
        state_type: Name of torch's ``StateDictType`` that checkpoints are written as.
    """
    variables = VARIABLES | {"FSDP_STATE_DICT_TYPE": state_type}
    stock = AcceleratorState.__init__
    os.environ.update(variables)
    AcceleratorState.__init__ = functools.partialmethod(_sharding, stock)
    AcceleratorState._reset_state()
    try:
        yield
    finally:
        AcceleratorState.__init__ = stock
        AcceleratorState._reset_state()
        for name in variables:
            del os.environ[name]


def _sharding(state: Any, stock: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    plugin = kwargs.get("fsdp_plugin")
    stock(state, *args, **kwargs)
    if plugin is not None and state.distributed_type is DistributedType.MULTI_CPU:
        state.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        state.fsdp_plugin = plugin


def make(output: Path, *, lora: bool = False) -> Any:
    """A Trainer of four steps, the second half of them on rows of high loss."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 40}
    model: Any = Qwen2ForCausalLM(Qwen2Config(**sizes, num_attention_heads=2, num_key_value_heads=2))
    if lora:
        model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    ids = torch.randint(0, 40, (24, 6), generator=torch.Generator().manual_seed(5))
    args = TrainingArguments(
        str(output),
        per_device_train_batch_size=2,
        max_steps=4,
        save_strategy="steps",
        save_steps=2,
        learning_rate=0.02,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    pool = [{"input_ids": row, "labels": row, "attention_mask": torch.ones_like(row)} for row in ids]
    return dynamic_trainer(Trainer, SELECT)(model=model, args=args, train_dataset=pool)


def train(output: Path, checkpoint: Path | None = None, **keys: Any) -> dict[str, Any]:
    """Train, write the final model, and say what was refused and whether the parameters were spread, layer by layer."""
    trainer, said = make(output, **keys), ""
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        trainer.save_model()
        gathered = {name: whole(value).clone() for name, value in trainer.model.named_parameters()}
        if trainer.is_world_process_zero():
            save_file(gathered, output / "gathered.st")
    except ConfigError as error:
        said = str(error)
    trainer.accelerator.wait_for_everyone()
    return {"said": said, "sharded": is_sharded(trainer.model)}


def is_sharded(model: Any) -> bool:
    """Whether all parameters are in pieces, and there is a unit for each decoder layer and the root."""
    units = [type(module).__name__ for module in model.modules() if isinstance(module, FSDPModule)]
    layers = sum(name.endswith("DecoderLayer") for name in units)
    return layers == 2 and len(units) == 3 and all(isinstance(value, DTensor) for value in model.parameters())


KINDS = (
    ("full", "FULL_STATE_DICT", False),
    ("lora", "FULL_STATE_DICT", True),
    ("shards", "SHARDED_STATE_DICT", False),
    ("lora-shards", "SHARDED_STATE_DICT", True),
)


def every_run(rank: int, world_size: int, folder: str) -> None:
    """Full fine-tuning and LoRA under both types of state, each to be resumed."""
    here, said = Path(folder), {}
    torch.serialization.register_package(5, lambda _: None, lambda data, place: data if place == "cpu:0" else None)
    with joined(rank, world_size, folder) as accelerator:
        for name, state_type, lora in KINDS:
            with sharding(state_type):
                said[name] = train(here / name, lora=lora)
                if rank == 0:
                    shutil.copytree(here / name / "checkpoint-2", here / f"{name}-resumed" / "checkpoint-2")
                accelerator.wait_for_everyone()
                checkpoint = here / f"{name}-resumed" / "checkpoint-2"
                said[f"{name}-resumed"] = train(checkpoint.parent, checkpoint, lora=lora)
                if name == "lora-shards":
                    said["forgetful"] = _without_the_optimizers_state(here, checkpoint)
        (here / f"said-{rank}.json").write_text(json.dumps(said), encoding="utf-8")


def _without_the_optimizers_state(here: Path, checkpoint: Path) -> dict[str, Any]:
    """A resume whose optimizer state is all zeros, as accelerate 1.11's own load leaves it."""
    stock = dcp.load

    def forgetful(held: dict[str, Any], **keys: Any) -> None:
        stock(held, **keys)
        for memory in held.get("optimizer", {}).get("state", {}).values():
            for value in memory.values():
                value.zero_()

    dcp.load = forgetful
    try:
        return train(here / "forgetful", checkpoint, lora=True)
    finally:
        dcp.load = stock
