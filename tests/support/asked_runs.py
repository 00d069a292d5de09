"""Run files, started up to where LlamaFactory loads a model, and whether the plan says what they ask for."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataflex.config.bind import schema
from dataflex.config.run import OUR_KEYS
from dataflex.runs import TrainType

POOL = 64
"""Rows of every data set of a started run."""

_STAGES = ("pt", "sft", "dpo", "rm", "kto")
_WORDS = {True: {"true", "yes", "on", "1", "t", "y"}, False: {"false", "no", "off", "0", "f", "n"}}


@dataclass
class Started:
    """What came of a run file.

    Attributes:
        code: The exit code.
        told: What was printed for the user, every run of blanks made one.
        session: The checked run; ``None`` for a refused and for a static one.
        arguments: What LlamaFactory's parsers were given; ``None`` if it did not come to that.
    """

    code: int
    told: str
    session: Any = None
    arguments: dict[str, Any] | None = None


@dataclass
class Stage:
    """A stage set for runs that never train: see :func:`stage_without_model`."""

    session: Any = None
    arguments: dict[str, Any] | None = None
    parsed: list[Any] = field(default_factory=list)

    def start(self, run_file: Path, *overrides: str) -> Started:
        """Run ``dataflex train`` as a user does, to where the model would be loaded."""
        from dataflex.cli.app import main

        self.session, self.arguments, told = None, None, io.StringIO()
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
            try:
                main(["train", str(run_file), "--", *overrides] if overrides else ["train", str(run_file)])
            except SystemExit as ended:
                code = int(ended.code or 0)
        return Started(code, " ".join(told.getvalue().split()), self.session, self.arguments)


@contextlib.contextmanager
def stage_without_model() -> Iterator[Stage]:
    """Let runs go through everything of ours and ``get_train_args``, and end where LlamaFactory would load a model.

    Data sets have :data:`POOL` rows and are read from nowhere. The global generators and the logger are left as they
    were.
    """
    import torch
    from llamafactory.train import tuner

    from dataflex.bridge import llamafactory

    logger = logging.getLogger("dataflex")
    level, handlers = logger.level, list(logger.handlers)
    stage, states = Stage(), (random.getstate(), np.random.get_state(), torch.get_rng_state())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISABLE_VERSION_CHECK", "1")
        for name in ("FORCE_TORCHRUN", "RANK", "LOCAL_RANK", "WORLD_SIZE", "ALLOW_EXTRA_ARGS"):
            patch.delenv(name, raising=False)
        run_dynamic, get_train_args = llamafactory.run_dynamic, tuner.get_train_args

        def noted_dynamic(session: Any, *args: Any, **kwargs: Any) -> None:
            stage.session = session
            run_dynamic(session, *args, **kwargs)

        def noted_parse(arguments: dict[str, Any]) -> Any:
            stage.arguments = dict(arguments)
            return get_train_args(arguments)

        patch.setattr(llamafactory, "run_dynamic", noted_dynamic)
        patch.setattr(tuner, "get_train_args", noted_parse)
        for name in _STAGES:
            workflow = importlib.import_module(f"llamafactory.train.{name}.workflow")
            patch.setattr(workflow, "get_dataset", _rows)
            patch.setattr(tuner, f"run_{name}", _only_load(workflow))
        try:
            yield stage
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            torch.set_rng_state(states[2])
            logger.setLevel(level)
            logger.handlers[:] = handlers


def _only_load(workflow: Any) -> Any:
    def run(model_args: Any, data_args: Any, training_args: Any, finetuning_args: Any, *rest: Any) -> None:
        if workflow.get_dataset is not _rows:  # a dynamic run checks its pool there
            workflow.get_dataset(None, model_args, data_args, training_args, finetuning_args.stage, None)

    return run


def _rows(
    template: Any,
    model_args: Any,
    data_args: Any,
    training_args: Any,
    stage: Any,
    tokenizer: Any,
    processor: Any = None,
) -> dict[str, Any]:
    from datasets import Dataset

    return {"train_dataset": Dataset.from_dict({"input_ids": [[1, 2]] * POOL, "labels": [[1, 2]] * POOL})}


def differences(started: Started, asked: Mapping[str, Any]) -> Iterator[str]:
    """Where an accepted run is not what its keys ask for. A key that is ``null`` asks for nothing.

    Args:
        started: The run.
        asked: All keys of the run file.
    """
    given = {key: value for key, value in asked.items() if value is not None}
    theirs = {key: value for key, value in asked.items() if key not in OUR_KEYS}
    if not same(theirs, started.arguments):
        yield f"LlamaFactory got {started.arguments}"
    if started.session is None:
        if given.get("train_type", "static") != "static":
            yield "it became a static run"
        return
    run = started.session.run
    found = {"train_type": run.facts.train_type.value, "component_timeout": run.timeout, **_steps(run, given)}
    if run.facts.train_type is not TrainType.STATIC_MIX:
        named = str(given["component_name"]).rpartition("/")[0]  # DIST/NAME
        found["component_name"] = f"{run.facts.dist}/{run.facts.component.name}" if named else run.facts.component.name
        yield from _params(run, given.get("component_params", {}))
    if run.mixture is not None:
        settings = run.mixture
        found |= {"mixture_sample_rule": settings.rule, "init_mixture_proportions": settings.initial}
        found |= {"mixture_unit": settings.unit, "mixture_temperature": settings.temperature}
        found |= {"mixture_max_epochs": settings.max_epochs, "mixture_on_exhausted": settings.on_exhausted}
    for key, value in found.items():
        wanted = given.get(key, _DEFAULTS.get(key))
        if not same(wanted, value):
            yield f"{key} is {value!r}, asked was {wanted!r}"


_DEFAULTS = {
    "warmup_step": 0,
    "train_step": 0,
    "update_times": 0,
    "mixture_sample_rule": "mixture",
    "mixture_unit": "samples",
    "mixture_temperature": 1.0,
    "mixture_on_exhausted": "redistribute",
}


def _steps(run: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    steps, kind = run.facts.steps, run.facts.train_type
    if kind is TrainType.STATIC_MIX:
        total = given.get("warmup_step", 0) + given.get("update_step", 0) * max(given.get("update_times", 0), 0)
        return {"train_step": given.get("train_step", 0) if steps.train == (given.get("train_step") or total) else -1}
    found = {"warmup_step": steps.warmup, "train_step": steps.train}
    return found if kind is TrainType.WEIGHT else found | {"update_step": steps.update, "update_times": steps.times}


def _params(run: Any, given: Mapping[str, Any]) -> Iterator[str]:
    taken = {**run.facts.params, **run.bound.run_values}
    defaults = {info.name: info.default for info in schema(run.entry) if not info.required}
    for name, value in {**defaults, **given}.items():
        if name not in taken or not same(value, taken[name], text_counts=True):
            yield f"component_params.{name} is {taken.get(name)!r}, asked was {value!r}"


def same(asked: Any, taken: Any, *, text_counts: bool = False) -> bool:
    """Whether a value means what was asked: no truth value for a number, no number cut off.

    Args:
        asked: As it was written.
        taken: As it is used.
        text_counts: Whether the text of a number or truth value may stand for it, as parameters of components allow.
    """
    if isinstance(asked, Mapping) and isinstance(taken, Mapping):
        pairs = zip(asked.items(), taken.items(), strict=False)
        return len(asked) == len(taken) and all(
            same(str(key), str(name)) and same(value, each, text_counts=text_counts)
            for (key, value), (name, each) in pairs
        )
    if isinstance(asked, (list, tuple)) and isinstance(taken, (list, tuple)):
        return len(asked) == len(taken) and all(
            same(*pair, text_counts=text_counts) for pair in zip(asked, taken, strict=True)
        )
    if isinstance(asked, str) and text_counts and isinstance(taken, (bool, int, float)):
        return asked.lower() in _WORDS[taken] if isinstance(taken, bool) else _spells(asked, taken)
    if isinstance(asked, bool) or isinstance(taken, bool) or asked is None or taken is None:
        return asked is taken
    if isinstance(asked, (int, float)) and isinstance(taken, (int, float)):
        return asked == taken or _alike(asked, taken)
    return bool(asked == taken)


def _alike(asked: float, taken: float) -> bool:
    """Whether a float is the nearest to a number; NaN is NaN."""
    if isinstance(asked, int):
        return isinstance(taken, float) and float(asked) == taken
    return math.isnan(asked) and math.isnan(taken)


def _spells(text: str, number: float) -> bool:
    try:
        return float(text) == number or _alike(float(text), number)
    except ValueError:
        return False
