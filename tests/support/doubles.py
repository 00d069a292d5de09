"""Small typed stand-ins for accelerators and Trainers, with the parts of them that DataFlex asks for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

Autocast = Callable[[], contextlib.AbstractContextManager[Any]]


@dataclass
class Scaler:
    """A gradient scaler of fp16, at a fixed scale."""

    scale: float

    def get_scale(self) -> float:
        """The factor of the loss."""
        return self.scale


@dataclass
class Spread:
    """How a run is spread over ranks: the ``DistributedType`` of an accelerator."""

    value: str = "NO"


@dataclass
class ScaledOptimizer:
    """DeepSpeed's optimizer, as far as its loss scale goes."""

    loss_scale: float


@dataclass
class DeepSpeedEngine:
    """DeepSpeed's engine around a model."""

    optimizer: ScaledOptimizer


@dataclass
class WrappedEngine:
    """What an accelerator keeps of DeepSpeed's engine."""

    engine: DeepSpeedEngine


@dataclass
class OneRank:
    """An accelerator of one process on a CPU.

    Attributes:
        autocast: The context of a forward pass.
        scaler: Of fp16.
        mixed_precision: As ``accelerate`` names it.
        device: Where batches go.
        distributed_type: How parameters are spread.
        deepspeed_engine_wrapped: DeepSpeed's engine, if there is one.
        process_index: This rank.
        num_processes: All ranks.
    """

    autocast: Autocast = contextlib.nullcontext
    scaler: Scaler | None = None
    mixed_precision: str = "no"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    distributed_type: Spread = field(default_factory=Spread)
    deepspeed_engine_wrapped: WrappedEngine | None = None
    process_index: int = 0
    num_processes: int = 1

    def unwrap_model(self, wrapped: torch.nn.Module) -> torch.nn.Module:
        """The model itself: it is not wrapped."""
        return wrapped

    def backward(self, loss: torch.Tensor) -> None:
        """An ordinary backward."""
        loss.backward()


def in_numbers(kind: torch.dtype) -> Autocast:
    """An autocast on a CPU to some kind of numbers."""
    return lambda: torch.autocast("cpu", kind)


@dataclass
class SecondRank:
    """An accelerator of two processes, the other of which always has the same to say.

    Attributes:
        other: What the other rank gathers, with the shape of what this one does.
        num_processes: All ranks.
    """

    other: torch.Tensor
    num_processes: int = 2

    def pad_across_processes(self, part: torch.Tensor, dim: int, pad_index: float) -> torch.Tensor:
        """Nothing to pad: both ranks have as much."""
        return part

    def gather(self, part: torch.Tensor) -> torch.Tensor:
        """This rank's rows, then the other's."""
        return torch.cat([part, self.other])


@dataclass
class Scheduler:
    """A schedule at a rate that a test sets.

    Attributes:
        rate: The learning rate of now.
    """

    rate: float

    def get_last_lr(self) -> list[float]:
        """The rate of the one group."""
        return [self.rate]


@dataclass
class IdleTrainer:
    """A Trainer that has not begun: what :class:`dataflex.trainers.host.DynamicHost` names, on one rank.

    Attributes:
        args: The ``TrainingArguments``, or what a test asks of them.
    """

    args: Any
    state: Any = None
    control: Any = None
    accelerator: Any = field(default_factory=OneRank)
    model: Any = None
    model_wrapped: Any = None
    train_dataset: Any = ()
    eval_dataset: Any = None
    data_collator: Any = None
    processing_class: Any = None
    optimizer: Any = None
    lr_scheduler: Any = None
    compute_loss_func: Callable[..., Any] | None = None
    callback_handler: Any = None
    current_gradient_accumulation_steps: int = 1
    is_deepspeed_enabled: bool = False
    is_fsdp_enabled: bool = False
    running: Any = None
    sealed_step: int | None = None

    def is_world_process_zero(self) -> bool:
        """It is the only rank."""
        return True

    def get_total_train_batch_size(self, args: Any) -> int:
        """As its arguments say."""
        return int(args.per_device_train_batch_size * args.gradient_accumulation_steps)

    def add_callback(self, callback: Any) -> None:
        """Nothing is called back."""

    def remove_callback(self, callback: Any) -> None:
        """Nothing is called back."""

    def log(self, logs: dict[str, float]) -> None:
        """Nothing is logged."""

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Nothing is written."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The model's own loss."""
        return model(**inputs).loss

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """The rows themselves."""
        return eval_dataset

    def keep_progress(self) -> Any:
        """There is none."""

    def seal_checkpoint(self) -> None:
        """There is none."""

    def stock_sampler(self) -> Any:
        """Nothing is read."""

    def stock_train_dataloader(self) -> Any:
        """Nothing is read."""

    def _remove_unused_columns(self, dataset: Any, description: str | None = None) -> Any:
        return dataset

    def _get_collator_with_removed_columns(self, data_collator: Any, description: str | None = None) -> Any:
        return data_collator

    def _prepare_inputs(self, inputs: Mapping[str, Any]) -> Any:
        return inputs
