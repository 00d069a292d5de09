"""Every load of a checkpoint's weights is compared with the file: resuming, the best model, scoring.

The Trainer loads with ``load_state_dict(strict=False)`` and only warns of tensors that found no place. Here a
difference ends the run before its first step, and models that transformers keeps otherwise in memory than in files
are loaded through transformers' own conversion.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from dataflex.distributed import all_gather
from dataflex.errors import ConfigError, reason
from dataflex.trainers.host import Host
from dataflex.trainers.mixin import TrainerMixin
from dataflex.trainers.sharded_state import in_pieces, whole_state
from dataflex.weights import compare, convert
from dataflex.weights.compare import Difference
from dataflex.weights.files import ADAPTER, MODEL, SavedWeights, saved_weights
from dataflex.weights.views import (
    View,
    adapter_view,
    identities,
    in_memory,
    model_views,
    on_meta,
    tolerated,
    whole_here,
)

logger = logging.getLogger("dataflex")

_NOT_OF_A_MODEL = ("optimizer", "scheduler", "scaler", "rng_state", "trainer_state")
_SHARDED = ("pytorch_model_fsdp*", "global_step*")  # what FSDP and DeepSpeed load instead of a model file
_DEFAULT = "default"  # PEFT's name of an adapter that was given none
_ADVICE = "Take another checkpoint, or the model and the library versions that it was written with."


class _LoadsChecked(Host, Protocol):
    """A Trainer with :class:`CheckedLoads`."""

    _before_wrapping: Sequence[View]
    _reported: Any


class CheckedLoads(TrainerMixin):
    """Checks what the Trainer class after it in the bases loads."""

    _reported: Any = None  # what load_state_dict said of the last load
    _before_wrapping: Sequence[View] = ()
    wrote_final_model: bool = False  # that of the last step, before the best one was loaded in vain

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *args: Any, **kwargs: Any) -> None:
        stock = functools.partial(super()._load_from_checkpoint, resume_from_checkpoint, *args, **kwargs)
        with in_pieces(self):
            load_checked(self, Path(resume_from_checkpoint), stock)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None and self.is_deepspeed_enabled:  # which has loaded the weights by itself just now
            load_checked(self, Path(checkpoint), lambda: None)
        with in_pieces(self):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        with in_pieces(self):
            super()._save_optimizer_and_scheduler(output_dir)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model; same arguments as ``transformers.Trainer.save_model``. Under FSDP2, in one piece."""
        with contextlib.nullcontext() if _internal_call else whole_state(self):
            super().save_model(output_dir, _internal_call)

    def _load_best_model(self) -> None:
        """Load the best model; if that fails, the last weights are the final model and the run ends in an error."""
        best, output = Path(self.state.best_model_checkpoint), Path(self.args.output_dir)
        last = Path(self._get_output_dir(trial=None)) / f"checkpoint-{self.state.global_step}"
        saved = any(_weights_in(last, stem) for stem in (MODEL, ADAPTER))
        if not saved:
            self.save_model()  # no checkpoint of this step: what is loaded now would be all there is
        try:
            with in_pieces(self):
                load_checked(self, best, super()._load_best_model)
        except ConfigError as error:
            if saved and self.args.should_save:
                _copy_model(last, output)
            self.wrote_final_model = True
            self.accelerator.wait_for_everyone()
            raise ConfigError(
                f"the best model is not the final one: {error} {output} holds the weights of the last step, "
                f"{self.state.global_step}; those of the best one lie in {best}."
            ) from error

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        self._reported = load_result
        super()._issue_warnings_after_load(load_result)

    def _wrap_model(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(self, "is_fsdp_enabled", False) and not self._before_wrapping:
            self._before_wrapping = [on_meta(view) for view in model_views(model)] if not _is_peft(model) else ()
        return super()._wrap_model(model, *args, **kwargs)


def load_checked(trainer: _LoadsChecked, folder: Path, stock: Callable[[], None]) -> None:
    """Load a checkpoint's weights and compare the model with the files.

    All ranks load; rank 0 compares, and all hear of it.

    Args:
        trainer: Holds the model.
        folder: The checkpoint.
        stock: The Trainer's own load of it.

    Raises:
        ConfigError: on every rank, when the model does not hold the checkpoint's weights.
    """
    cause: Exception | None = None
    problem = ""
    try:
        problem = _load(trainer, folder, stock)
    except ConfigError as error:
        problem = str(error)
    except Exception as error:  # whatever a file or a model's class has to say; the other ranks would wait
        cause, problem = error, f"the weights of {folder} cannot be loaded: {reason(error)}. {_ADVICE}"
    told = [text for text in all_gather(problem, trainer.accelerator) if text]
    if told:
        raise ConfigError(told[0]) from cause


def conversion_needed(model: Any, folder: Path) -> str:
    """Say what the Trainer's own load would leave out of a checkpoint of a model that transformers converts.

    Returns:
        A sentence without its end; ``""`` if it loads everything.
    """
    try:
        saved = None if _is_peft(model) else saved_weights(folder)
    except ConfigError:
        return ""
    views = model_views(model) if saved is not None else []
    if saved is None or saved.pickled or not compare.fitting(saved, views).converts:
        return ""
    return compare.describe(
        compare.names_and_shapes(saved, views[-1], tolerated(model, saved.tensors)), len(saved.tensors)
    )


def _load(trainer: _LoadsChecked, folder: Path, stock: Callable[[], None]) -> str:
    """Load, and say what is wrong; ``""`` if nothing is."""
    model = getattr(trainer.model, "_orig_mod", trainer.model)
    if _is_peft(model):
        return _load_adapters(trainer, model, folder, stock)
    saved = saved_weights(folder)
    if saved is None:
        if _weights_in(folder, ADAPTER):
            return f"{folder} holds an adapter, but the run trains the model itself. {_ADVICE}"
        return _unchecked(folder, stock)
    by_itself = trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled  # loads files of its own
    views = [*trainer._before_wrapping] or model_views(model)
    if saved.pickled:
        return _load_pickled(trainer, model, saved, views, stock, by_itself=by_itself)
    view = compare.fitting(saved, views)
    found = compare.names_and_shapes(saved, view, tolerated(model, saved.tensors))
    if found:
        return _misfit(folder, found, saved)
    if view.converts and not by_itself:
        logger.info("loading %s through transformers' conversion of this model's weights", folder)
        found = convert.load_converted(model, saved)
    else:
        stock()
    if not found and trainer.is_world_process_zero() and whole_here(model):
        found = compare.values(saved, compare.fitting(saved, model_views(model)), seed=int(trainer.args.seed))
    return _differs(folder, found, saved) if found else ""


def _load_adapters(trainer: _LoadsChecked, model: Any, folder: Path, stock: Callable[[], None]) -> str:
    parts = dict(_adapters(folder, model))
    if not parts:
        if _weights_in(folder, MODEL):
            return f"{folder} holds a whole model, but the run trains an adapter of one. {_ADVICE}"
        return _unchecked(folder, stock)
    for adapter, saved in parts.items():
        found = [] if saved.pickled else compare.names_and_shapes(saved, adapter_view(model, adapter))
        if found:
            return _misfit(saved.folder, found, saved)
    forgotten = _trained_but_in_none_of(parts, model)
    if forgotten:
        return f"{folder} lacks an adapter: {compare.describe(forgotten, 0)}. {_ADVICE}"
    active = list(model.active_adapters)
    stock()
    if len(parts) > 1 and not (trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled):
        _load_each(model, parts, active)
    for adapter, saved in parts.items():
        if saved.pickled:
            _say_pickled(saved)
        elif trainer.is_world_process_zero() and whole_here(model):
            found = compare.values(saved, adapter_view(model, adapter), seed=int(trainer.args.seed))
            if found:
                return _differs(saved.folder, found, saved)
    return ""


def _load_pickled(
    trainer: _LoadsChecked,
    model: Any,
    saved: SavedWeights,
    views: Sequence[View],
    stock: Callable[[], None],
    *,
    by_itself: bool,
) -> str:
    """Load a ``.bin`` file, which is not opened here: what its loader reports is what can be known of it."""
    _say_pickled(saved)
    if views[0].converts and not by_itself:
        found = convert.load_converted(model, saved)
        return _differs(saved.folder, found, saved) if found else ""
    trainer._reported = None
    stock()
    if trainer._reported is None:
        return ""
    missing, unexpected = map(set, (trainer._reported.missing_keys, trainer._reported.unexpected_keys))
    memory = in_memory(model)
    there = identities(memory[name] for name in memory if name not in missing) | views[-1].optional
    missing = {name for name in missing if name not in memory or not identities([memory[name]]) <= there}
    found = convert.loading_differences(missing, unexpected - tolerated(model, unexpected))
    return _differs(saved.folder, found, saved) if found else ""


def _load_each(model: Any, parts: Mapping[str, SavedWeights], active: Sequence[str]) -> None:
    """Load several adapters: the Trainer takes those in folders of their own, or the first active one alone."""
    for adapter, saved in parts.items():
        model.load_adapter(str(saved.folder), adapter, is_trainable=adapter in active)
    if len(active) == 1:
        model.set_adapter(active[0])
    else:
        model.base_model.set_adapter(active)


def _trained_but_in_none_of(parts: Mapping[str, SavedWeights], model: Any) -> list[Difference]:
    """Trainable tensors of adapters that a checkpoint holds no file of."""
    absent = [f".{adapter}." for adapter in model.peft_config if adapter not in parts]
    return [
        Difference(name, "is trained but not in the checkpoint")
        for name, value in model.named_parameters()
        if value.requires_grad and any(part in f"{name}." for part in absent)
    ]


def _adapters(folder: Path, model: Any) -> Iterator[tuple[str, SavedWeights]]:
    """Each adapter of the model with its files: PEFT writes each into a folder of its own, but for ``default``."""
    below = {name: saved_weights(folder / name, ADAPTER) for name in model.peft_config}
    yield from ((name, saved) for name, saved in below.items() if saved is not None)
    beside = _DEFAULT if any(below.values()) else model.active_adapters[0]
    if beside in model.peft_config and below.get(beside) is None:
        saved = saved_weights(folder, ADAPTER)
        if saved is not None:
            yield beside, saved


def _weights_in(folder: Path, stem: str) -> bool:
    try:
        return saved_weights(folder, stem) is not None
    except ConfigError:  # there, but not readable
        return True


def _unchecked(folder: Path, stock: Callable[[], None]) -> str:
    if not any(next(folder.glob(pattern), None) for pattern in _SHARDED):
        return f"{folder} holds no weights. {_ADVICE}"
    logger.info("the weights of %s lie in parts of several ranks, so they are not compared with the model's", folder)
    stock()
    return ""


def _say_pickled(saved: SavedWeights) -> None:
    logger.info("%s is pickled and is not opened for a comparison: the model's values are not checked", saved.pickled)


def _misfit(folder: Path, found: Sequence[Difference], saved: SavedWeights) -> str:
    return f"the weights of {folder} do not fit the model: {_told(found, saved)}. {_ADVICE}"


def _differs(folder: Path, found: Sequence[Difference], saved: SavedWeights) -> str:
    return f"the model does not hold the weights of {folder} after loading them: {_told(found, saved)}. {_ADVICE}"


def _told(found: Sequence[Difference], saved: SavedWeights) -> str:
    return compare.describe(found, len(saved.tensors))


def _copy_model(checkpoint: Path, output: Path) -> None:
    for path in sorted(checkpoint.iterdir()):
        if path.is_file() and not path.name.startswith(_NOT_OF_A_MODEL):
            shutil.copy2(path, output / path.name)


def _is_peft(model: Any) -> bool:
    return hasattr(model, "peft_config") and hasattr(model, "load_adapter") and hasattr(model, "base_model")
