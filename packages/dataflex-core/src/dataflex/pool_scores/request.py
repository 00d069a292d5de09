"""A run file turned into a request for the scores of one component."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataflex.checkpoint_keys.held import MODELS
from dataflex.config.keys import COMPONENTS
from dataflex.config.names import listed
from dataflex.config.prepared import PreparedRun
from dataflex.config.run import RunFile, read_run_file
from dataflex.errors import ConfigError
from dataflex.paths import LISTS_OF_PATHS, user_path
from dataflex.record.run import hide_secrets
from dataflex.runs import TrainType
from dataflex.spec import Kind

if TYPE_CHECKING:
    from dataflex.pool_scores.keep import Keep

WORK = "work"
"""Folder that stands in for the run's output directory while scoring, and is deleted afterwards."""

_KEPT = ("components_cfg_file", "component_params", "plugins")
_FORCED = {
    "do_train": True,
    "do_eval": False,
    "do_predict": False,
    "predict_with_generate": False,
    "overwrite_output_dir": True,
    "per_device_train_batch_size": 1,  # nothing is trained; scoring batches have a token_budget of their own
    "gradient_accumulation_steps": 1,
    "save_strategy": "no",
    "eval_strategy": "no",
    "load_best_model_at_end": False,
    "plot_loss": False,
    "push_to_hub": False,
    "report_to": "none",
    "disable_tqdm": True,  # the training bar; scoring shows its own
}
_DROPPED = (
    *("resume_from_checkpoint", "max_steps", "num_train_epochs", "early_stopping_steps", "save_only_model"),
    *("include_effective_tokens_per_second", "use_swanlab", "run_name"),
)
_STATE = "trainer_state.json"


@dataclass(frozen=True)
class ScoreRequest:
    """What to score, with what.

    Attributes:
        run: A run file whose only boundary is at the checkpoint's step.
        checkpoint: Where weights and optimizer state come from; ``None`` for the run file's model as it is.
        step: Its optimizer steps; 0 without one.
    """

    run: RunFile
    checkpoint: Path | None
    step: int


def read_request(
    run_file: Path, overrides: Sequence[str], component: str | None, checkpoint: Path | None, out: Path
) -> ScoreRequest:
    """Read a run file for scoring: of any train type, LlamaFactory's own included.

    Its ``component_params`` count only if they are meant for the component; those of the command line always do.

    Args:
        run_file: YAML or JSON.
        overrides: ``key=value`` items.
        component: Name of the selector; ``None`` takes the run file's.
        checkpoint: A checkpoint of a run, or ``None``.
        out: Folder of the results.

    Raises:
        ConfigError: for a file that cannot be read, no component, or something that is no checkpoint.
    """
    work = json.dumps(str(out.absolute() / WORK))  # first of all: other keys may interpolate it
    given = read_run_file(run_file, [*overrides, f"output_dir={work}"])
    given = _as_one(given, component)
    name = component or given.ours.get("component_name")
    if not name:
        raise ConfigError(f"{run_file.name} names no component. Name a selector: --component loss.")
    step = 0 if checkpoint is None else _step(checkpoint)
    ours = {key: given.ours[key] for key in _KEPT if key in given.ours}
    if name != given.ours.get("component_name", name):
        ours["component_params"] = _of_command_line(given)
    ours |= {"train_type": TrainType.SELECT.value, "component_name": name}
    ours |= {"warmup_step": step, "update_step": 1, "update_times": 1}
    theirs = {key: value for key, value in given.llamafactory.items() if key not in _DROPPED} | _FORCED
    if checkpoint is not None:
        theirs["resume_from_checkpoint"] = str(checkpoint.absolute())
    return ScoreRequest(RunFile(given.path, ours, theirs, given.overridden, given.written), checkpoint, step)


def _as_one(given: RunFile, component: str | None) -> RunFile:
    """The run file with the selector of several components as its only one.

    Raises:
        ConfigError: when it has none, and none is named.
    """
    if given.ours.get("train_type") != TrainType.COMPOSED:
        return given
    several = given.ours.get(COMPONENTS)
    selector = several.get(Kind.SELECTOR) if isinstance(several, Mapping) else None
    if selector is None and component is None:
        raise ConfigError(
            f"{COMPONENTS} of {given.path.name} has no selector, and only a selector scores rows. Name one: "
            "--component loss."
        )
    entry = selector if isinstance(selector, Mapping) else {"name": selector}
    own = {"component_name": entry.get("name"), "component_params": entry.get("params") or {}}
    below, typed = f"{COMPONENTS}.{Kind.SELECTOR}.params.", set()
    for key in given.overridden:
        typed.add(key.replace(below, "component_params.") if key.startswith(below) else key)
    return replace(given, ours={**given.ours, **own}, overridden=frozenset(typed))


def identity(request: ScoreRequest, prepared: PreparedRun, keep: Keep | None = None) -> dict[str, Any]:
    """Everything scores depend on that can be told before anything loads, as JSON values.

    Rows that are drawn are drawn together with the scores, so how many of them belongs to it too.
    """
    facts = prepared.facts
    arguments = {key: value for key, value in facts.arguments.items() if key != "output_dir"}
    models = (
        place
        for key in MODELS
        for place in (listed(arguments.get(key)) if key in LISTS_OF_PATHS else [arguments.get(key)])
    )
    named_by_params = (value for value in facts.params.values() if isinstance(value, str) and os.sep in value)
    places = [request.checkpoint, *models, *named_by_params, facts.dist, *_data_files(arguments)]
    named = {
        "component": facts.component.name,
        "dist": facts.dist,
        "version": facts.version,
        "params": dict(facts.params),
        "arguments": hide_secrets(arguments),
        "step": request.step,
        "files": {str(place): _stamps(user_path(str(place))) for place in places if place},
    }
    if keep is not None and keep.draw:
        named["draw"] = {"rows": keep.rows, "share": keep.share}
    return dict(json.loads(json.dumps(named, default=str)))


def _step(checkpoint: Path) -> int:
    if not checkpoint.is_dir():
        raise ConfigError(f"--checkpoint {checkpoint} is not a directory (working directory {Path.cwd()}).")
    try:
        return int(json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))["global_step"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"--checkpoint {checkpoint} is no checkpoint of a training run: its {_STATE} cannot be read ({error}). For "
            "weights alone, say model_name_or_path=DIR, or adapter_name_or_path=DIR for an adapter, in its place."
        ) from error


def _of_command_line(run: RunFile) -> Any:
    given = run.ours.get("component_params")
    if "component_params" in run.overridden or not isinstance(given, Mapping):
        return given
    return {key: value for key, value in given.items() if f"component_params.{key}" in run.overridden}


def _data_files(arguments: Mapping[str, Any]) -> Iterator[Path]:
    """Where the files of the data sets lie, as far as ``dataset_info.json`` of a folder says it."""
    folder = user_path(str(arguments.get("dataset_dir") or "data"))
    try:
        described = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    for name in [*listed(arguments.get("dataset")), *listed(arguments.get("eval_dataset"))]:
        entry = described.get(name) if isinstance(described, Mapping) else None
        file = entry.get("file_name") if isinstance(entry, Mapping) else None
        if isinstance(file, str):
            yield folder / file


def _stamps(place: Path) -> dict[str, list[int]] | list[int]:
    """Size and time of change of a file, or of each file of a folder; nothing for what is not on this machine."""
    try:
        if place.is_file():
            return _stamp(place)
        return {path.name: _stamp(path) for path in sorted(place.iterdir()) if path.is_file()}
    except (OSError, ValueError):  # the name of a model on a hub, of a distribution
        return {}


def _stamp(file: Path) -> list[int]:
    return [file.stat().st_size, file.stat().st_mtime_ns]
