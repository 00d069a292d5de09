"""What is handed to the Trainer is checked for having been used: a class may go past it without a word.

what we hand over       who may go past it                          noticed
the plan's sampler      a get_train_dataloader with its own         at the first batch
the ticket loader       a loader put in its place                   when the first step ends
                        one that reads ahead of the loop            at the first batch too many
training_step           one that does not call super()              when the first step ends
compute_loss            a training_step with a forward of its own   at the first micro-batch
compute_loss_func       a compute_loss with a loss of its own       at the first micro-batch it is to act on
get_batch_samples       one that does not call super()              at the first micro-batch whose loss is weighed
_save_checkpoint        one that does not call super()              when the first checkpoint has been written
callbacks               one that empties the list of callbacks      at the first micro-batch of the second step
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from dataflex.errors import ConfigError
from dataflex.trainers.host import Host

_OURS = "dataflex"
_LIBRARIES = ("transformers", "llamafactory", "trl")


class HooksAreUsed(TrainerCallback):
    """Sees when the first step has ended whether it was made of our batches and through our ``training_step``.

    Args:
        trainer: The ``transformers.Trainer``.
        has_served: Whether it has asked us for a batch.
        took_step: Whether it has called our ``training_step``.
    """

    def __init__(self, trainer: Host, *, has_served: Callable[[], bool], took_step: Callable[[], bool]) -> None:
        self._trainer, self._looked = trainer, False
        self._first: int | None = None  # steps done as the first micro-batch came
        self._has_served, self._took_step = has_served, took_step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look once.

        Raises:
            ConfigError: names the class that goes past them.
        """
        if self._looked:
            return
        self._looked = True
        if not self._has_served():
            raise passed_by(self._trainer, "get_train_dataloader", "the plan of the component would not be trained on")
        if not self._took_step():
            raise passed_by(self._trainer, "training_step", "the component would not act on the loss")

    def require_called(self, done: int) -> None:
        """Check that a first step has not gone by this callback, and so by the others of ours.

        Args:
            done: Steps done. Call it with every micro-batch.

        Raises:
            ConfigError: names the class.
        """
        self._first = done if self._first is None else self._first
        if self._looked or done == self._first:
            return
        theirs = next((cls for cls in type(self._trainer).__mro__ if not _is_ours(cls)), type(self._trainer))
        raise ConfigError(
            f"the Trainer class {theirs.__qualname__} does not call the callbacks that DataFlex has added, so neither "
            "checkpoints nor records would be whole. Let it keep what stands in callback_handler.callbacks "
            "(docs/without_llamafactory.md)."
        )


def passed_by(trainer: Host, method: str, otherwise: str) -> ConfigError:
    """The error for a Trainer class whose ``method`` does not call the one it overrides.

    Args:
        trainer: The ``transformers.Trainer``.
        method: The method's name.
        otherwise: What would happen.
    """
    own, stock = _owner(trainer, method), f"super().{method}"
    return ConfigError(
        f"{own} goes its own way in {method}() and does not call {stock}(), so {otherwise}. Let it call {stock}(...) "
        "and work with what that returns (docs/without_llamafactory.md)."
    )


def reads_ahead(trainer: Host, what: str) -> Exception:
    """The error for a loop that asks for a batch which is not the next one.

    Args:
        trainer: The ``transformers.Trainer``.
        what: What the loop did.

    Returns:
        An error that names the user's class, if it has a loader of its own; otherwise one to report.
    """
    if _stands_in_front(trainer, "get_train_dataloader"):
        return ConfigError(
            f"{_owner(trainer, 'get_train_dataloader')} reads ahead in get_train_dataloader(): batches of a later step "
            "are not known before that step. Let it return what super().get_train_dataloader() returns, and set "
            "dataloader_num_workers or dataloader_prefetch_factor to read ahead (docs/without_llamafactory.md)."
        )
    return RuntimeError(
        f"the training loop {what}. This transformers version reads ahead in a way DataFlex does not know; please "
        "report it."
    )


def batches_not_seen(trainer: Host) -> ConfigError:
    """The error for a Trainer whose steps are not begun by our ``get_batch_samples``."""
    return passed_by(trainer, "get_batch_samples", "the component would not see the batches that it weighs")


def loss_not_seen(trainer: Host) -> ConfigError:
    """The error for a micro-batch whose loss did not come by our ``compute_loss``."""
    in_front = getattr(trainer.compute_loss, "__func__", trainer.compute_loss)
    ours = any(vars(cls).get("compute_loss") is in_front for cls in type(trainer).__mro__ if _is_ours(cls))
    return passed_by(trainer, "training_step" if ours else "compute_loss", "the component would not see the loss")


def loss_not_asked(trainer: Host) -> ConfigError:
    """The error for a Trainer class whose ``compute_loss`` does not use the loss function it is given."""
    own = _owner(trainer, "compute_loss")
    return ConfigError(
        f"{own} computes the loss by itself and does not ask the loss function that weighs it (compute_loss_func), so "
        "the weights would do nothing. Let its compute_loss() call super().compute_loss(model, inputs, ...) and add to "
        "what that returns, or take a weighter with a training_step of its own (docs/without_llamafactory.md)."
    )


def _owner(trainer: Host, method: str) -> str:
    """Whose ``method`` a Trainer runs, ours and transformers' own left out."""
    if method in vars(trainer):
        return f"the {method} that was put into the Trainer"
    owners = [cls for cls in type(trainer).__mro__ if method in vars(cls) and not _is_ours(cls)]
    return (
        f"the Trainer class {owners[0].__qualname__}" if owners else f"the Trainer class {type(trainer).__qualname__}"
    )


def _stands_in_front(trainer: Host, method: str) -> bool:
    """Whether a class of somebody else than a library's, or the object itself, has the method."""
    if method in vars(trainer):
        return True
    theirs = next(cls for cls in type(trainer).__mro__ if method in vars(cls) and not _is_ours(cls))
    return theirs.__module__.partition(".")[0] not in _LIBRARIES


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == _OURS
