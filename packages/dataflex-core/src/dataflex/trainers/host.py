"""What DataFlex uses of a ``transformers.Trainer``, as a type: transformers ships none.

Values of other libraries (arguments, state, accelerator, model) stay ``Any``; which of them there are does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol


class Host(Protocol):
    """A Trainer. Each attribute is as in ``transformers.Trainer``.

    Attributes:
        args: The ``TrainingArguments``.
        state: The ``TrainerState``: ``global_step``, ``max_steps``, ``log_history``, ...
        control: The ``TrainerControl``.
        accelerator: The ``accelerate.Accelerator``.
        model: The model.
        model_wrapped: The model as it is called, in the wrapper that spreads it over ranks.
        train_dataset: The pool.
        eval_dataset: One data set, several by name, or ``None``.
        data_collator: Makes a batch of rows.
        processing_class: The tokenizer or processor; ``None`` without one.
        optimizer: ``None`` before training begins.
        lr_scheduler: Likewise.
        compute_loss_func: A loss function that replaces the model's own, or ``None``.
        callback_handler: Holds the callbacks.
        current_gradient_accumulation_steps: Micro-batches of the step under way.
        is_deepspeed_enabled: Whether DeepSpeed wraps the model.
        is_fsdp_enabled: Whether FSDP does.
    """

    args: Any
    state: Any
    control: Any
    accelerator: Any
    model: Any
    model_wrapped: Any
    train_dataset: Any
    eval_dataset: Any
    data_collator: Any
    processing_class: Any
    optimizer: Any
    lr_scheduler: Any
    compute_loss_func: Callable[..., Any] | None
    callback_handler: Any
    current_gradient_accumulation_steps: int
    is_deepspeed_enabled: bool
    is_fsdp_enabled: bool

    def is_world_process_zero(self) -> bool:
        """Whether this rank writes and speaks."""

    def get_total_train_batch_size(self, args: Any) -> int:
        """Samples of one optimizer step over all ranks."""

    def add_callback(self, callback: Any) -> None:
        """Add a callback."""

    def remove_callback(self, callback: Any) -> None:
        """Remove a callback, or those of a class."""

    def log(self, logs: dict[str, float]) -> None:
        """Log values, beside the step."""

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the model."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The loss of a micro-batch."""

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """A loader over an evaluation set."""

    def _remove_unused_columns(self, dataset: Any, description: str | None = None) -> Any:
        """A data set without the columns that the model does not take."""

    def _get_collator_with_removed_columns(self, data_collator: Any, description: str | None = None) -> Any:
        """A collator that leaves them out."""

    def _prepare_inputs(self, inputs: Mapping[str, Any]) -> Any:
        """A batch on the model's device."""


class DynamicHost(Host, Protocol):
    """A Trainer with our mixin.

    Attributes:
        sealed_step: Step of the latest checkpoint that was declared whole; ``None`` before one.
    """

    sealed_step: int | None

    @property
    def running(self) -> Any:
        """The engine, while there is one."""

    def keep_progress(self) -> Any:
        """Write a checkpoint of the current step unless there is one; its folder, or ``None`` before the first."""

    def seal_checkpoint(self) -> None:
        """Declare the checkpoint that was just written whole."""

    def stock_sampler(self) -> Any:
        """The sampler of the Trainer as it would be without a component."""

    def stock_train_dataloader(self) -> Any:
        """The loader of the Trainer as it would be without a component."""
