"""What a run was doing when another library failed, read off the traceback.

LlamaFactory's and transformers' functions are known by module and name, so nothing has to be wrapped, and ``static``
runs as if we were not there. A function that was moved leaves the words of the one that called it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

from dataflex.failures.saying import is_out_of_memory

_TRAINER = r"transformers\.(trainer(_seq2seq)?|.*trainer.*)$|trl\.|llamafactory\.train\."
_WORKERS = r"(multiprocessing|multiprocess|torch\.multiprocessing)\.(process|context|popen\w*)$"

START_WORKERS = (
    "Set dataloader_num_workers: 0 (preprocessing_num_workers for tokenising), or have processes forked: "
    "multiprocessing.set_start_method('fork')"
)
MORE_MEMORY = (
    "Lower per_device_train_batch_size (gradient_accumulation_steps keeps the samples of a step), per_device_eval_"
    "batch_size or cutoff_len, or take a smaller model"
)


@dataclass(frozen=True)
class Place:
    """Where an error came up.

    Attributes:
        what: What could not be done or failed, the beginning of a sentence.
        advice: What to do, a sentence without its full stop; ``""`` where nothing follows from the place.
    """

    what: str
    advice: str = ""


@dataclass(frozen=True)
class _Station:
    module: str
    functions: tuple[str, ...]
    tell: Callable[[Mapping[str, Any]], Place | None]
    last: bool = False  # nothing further in says more


def _plain(what: str, advice: str = "") -> Callable[[Mapping[str, Any]], Place]:
    return lambda names: Place(what, advice)


def _callback(names: Mapping[str, Any]) -> Place:
    event, callback = names.get("event"), names.get("callback")
    return Place(f"the callback {type(callback).__name__} failed in {event}" if event else "a callback failed")


def _evaluation(names: Mapping[str, Any]) -> Place:
    """With the eval set, where each has an evaluation of its own."""
    evaluated = str(names.get("metric_key_prefix", "eval")).removeprefix("eval").removeprefix("_")
    return Place(f"the evaluation on {evaluated} failed" if evaluated else "the evaluation failed")


def _optimizer(names: Mapping[str, Any]) -> Place | None:
    optimizer = names.get("self")
    named = hasattr(optimizer, "param_groups") and hasattr(optimizer, "zero_grad")
    return Place(f"the step of the optimizer {type(optimizer).__name__} failed") if named else None


_STATIONS = (
    _Station(r"llamafactory\.hparams\.", ("get_train_args",), _plain("LlamaFactory could not read the keys")),
    _Station(r"llamafactory\.model\.", ("load_tokenizer",), _plain("the tokenizer could not be loaded")),
    _Station(r"llamafactory\.data\.", ("get_template_and_fix_tokenizer",), _plain("the template could not be set up")),
    _Station(r"llamafactory\.data\.", ("get_dataset",), _plain("the data could not be loaded")),
    _Station(r"llamafactory\.model\.", ("load_config", "load_model"), _plain("the model could not be loaded")),
    _Station(_TRAINER, ("__init__",), _plain("the Trainer could not be set up")),
    _Station(_TRAINER, ("train",), _plain("training failed")),
    _Station(
        _TRAINER,
        ("_load_from_checkpoint", "_load_optimizer_and_scheduler", "_load_rng_state", "_load_callback_state"),
        _plain("the checkpoint could not be loaded"),
    ),
    _Station(
        _TRAINER,
        ("create_optimizer_and_scheduler", "create_optimizer", "create_scheduler"),
        _plain("optimizer or schedule could not be made"),
    ),
    _Station(_TRAINER, ("get_batch_samples",), _plain("a batch could not be made")),
    _Station(_TRAINER, ("training_step",), _plain("the training step failed")),
    _Station(r"", ("step",), _optimizer),
    _Station(_TRAINER, ("evaluate",), _evaluation),
    _Station(_TRAINER, ("predict",), _plain("the prediction failed")),
    _Station(_TRAINER, ("_load_best_model",), _plain("the best checkpoint could not be loaded")),
    _Station(_TRAINER, ("_save_checkpoint",), _plain("the checkpoint could not be written")),
    _Station(_TRAINER, ("save_model",), _plain("the model could not be saved")),
    _Station(_TRAINER, ("push_to_hub", "init_hf_repo"), _plain("the model could not be published")),
    _Station(r"transformers\.trainer_callback$", ("call_event",), _callback, last=True),
    _Station(r"llamafactory\.extras\.", ("plot_loss",), _plain("the curves of the losses could not be drawn")),
    _Station(_WORKERS, ("start",), _plain("worker processes could not be started", START_WORKERS), last=True),
)


def of(error: BaseException, otherwise: str = "the command failed") -> Place:
    """Tell what was being done.

    Args:
        error: With its traceback.
        otherwise: What is said of a traceback in which nothing is known.
    """
    place, step = Place(otherwise), ""
    traceback = error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        station = _station(frame)
        if station is not None:
            place = station.tell(frame.f_locals) or place
            step = _step(frame) or step
            if station.last:
                break
        traceback = traceback.tb_next
    advice = MORE_MEMORY if is_out_of_memory(error) else place.advice
    return Place(f"{place.what}{step}", advice)


def starts_workers(error: BaseException) -> bool:
    """Whether the error came up while worker processes were being started, and not in one of them."""
    return of(error).advice == START_WORKERS


def _station(frame: FrameType) -> _Station | None:
    module, name = str(frame.f_globals.get("__name__", "")), frame.f_code.co_name
    for station in _STATIONS:
        if name in station.functions and re.match(station.module, module):
            return station
    return None


def _step(frame: FrameType) -> str:
    """The optimizer step, where the frame is a Trainer's method or one of its callbacks' and training has begun."""
    for holder in (frame.f_locals.get("self"), frame.f_locals):
        state: Any = holder.get("state") if isinstance(holder, dict) else getattr(holder, "state", None)
        step: Any = getattr(state, "global_step", None)
        if isinstance(step, int) and getattr(state, "max_steps", None):
            return f" at step {step}"
    return ""
