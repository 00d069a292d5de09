"""A file for ``-p``: writes down the samples of each step, and holds a run at the point where a test kills it.

    WITNESS_SAMPLES  folder for ``rank-N.jsonl``: the rows of every micro-batch with its optimizer step
    WITNESS_HOLD     ``POINT:STEP``, one of the points below at that optimizer step; only the last rank stops there,
                     the others go on until they wait for it
    WITNESS_HELD     file that says the point was reached

It also lets torch load a checkpoint of several processes that train on CPU, which transformers asks for as ``cpu:0``.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer

from dataflex import hookimpl
from dataflex.checkpoint import folders as checkpoints
from dataflex.data.scoring_loader import ScoringLoader
from dataflex.runs import RunFacts
from dataflex.trainers.planners.planner import ComponentPlanner

TRAINING = "training"  # in the second micro-batch of a step, the first has been accumulated
SCORING = "scoring"  # this rank has scored one batch of the pass
SAVING = "saving"  # the model and the optimizer are written, this rank's random state is not
ROTATED = "rotated"  # older checkpoints are gone, the callbacks have not heard of the new one


@hookimpl
def dataflex_check_run(run: RunFacts) -> tuple[()]:
    """Begin to watch: every process of a run comes here before its model loads."""
    torch.serialization.register_package(5, lambda _: None, _on_a_numbered_cpu)
    _wrap(Trainer, "training_step", _training_step)
    _wrap(Trainer, "_save_rng_state", _save_rng_state)
    _wrap(ComponentPlanner, "plan", _plan)
    _wrap(ScoringLoader, "__iter__", _scoring)
    _wrap(checkpoints, "rotate", _rotate)
    return ()


class _Now:
    """Where the run is."""

    step = -1
    micro_batches = 0


def _on_a_numbered_cpu(data: Any, place: str) -> Any:
    return data if place.startswith("cpu:") else None


def _hold(point: str, step: int) -> None:
    last = int(os.environ.get("RANK", "0")) == int(os.environ.get("WORLD_SIZE", "1")) - 1
    if last and os.environ.get("WITNESS_HOLD") == f"{point}:{step}":
        Path(os.environ["WITNESS_HELD"]).touch()
        time.sleep(3600)


def _wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    original = getattr(owner, name)
    setattr(owner, name, lambda *args, **kwargs: around(original, *args, **kwargs))


def _training_step(
    original: Callable[..., Any], trainer: Trainer, model: Any, inputs: Any, *args: Any, **kw: Any
) -> Any:
    step = trainer.state.global_step
    _Now.micro_batches = _Now.micro_batches + 1 if _Now.step == step else 1
    _Now.step = step
    if _Now.micro_batches == 2:
        _hold(TRAINING, step)
    _write_down(step, inputs)
    return original(trainer, model, inputs, *args, **kw)


def _write_down(step: int, inputs: Any) -> None:
    if "WITNESS_SAMPLES" not in os.environ:
        return
    rows = [
        hashlib.sha256(tokens[mask.bool()].numpy().tobytes()).hexdigest()[:12]
        for tokens, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
    ]
    folder = Path(os.environ["WITNESS_SAMPLES"])
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"rank-{os.environ.get('RANK', '0')}.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "rows": rows}) + "\n")


def _plan(original: Callable[..., Any], planner: Any, stage: int, step: int, num_samples: int) -> Any:
    _Now.step = step
    return original(planner, stage, step, num_samples)


def _scoring(original: Callable[..., Any], loader: ScoringLoader) -> Iterator[Any]:
    for batch in original(loader):
        yield batch
        _hold(SCORING, _Now.step)


def _save_rng_state(original: Callable[..., Any], trainer: Trainer, output_dir: str) -> None:
    _hold(SAVING, trainer.state.global_step)
    original(trainer, output_dir)


def _rotate(original: Callable[..., Any], *args: Any, **named: Any) -> None:
    original(*args, **named)
    _hold(ROTATED, _Now.step + 1)
