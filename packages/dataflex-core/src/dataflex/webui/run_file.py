"""From LlamaBoard's arguments and a choice to the run file that is shown, saved and started."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dataflex.config.run import RunFile
from dataflex.errors import ConfigError, DataFlexError
from dataflex.kinds import StepKeys, step_keys
from dataflex.paths import user_path
from dataflex.schedule import resolve
from dataflex.webui.choice import Choice, Chosen

NAME = "dataflex_run.yaml"
"""The run file in the output directory."""

PRESETS = "components_cfg_file"
"""The key that names a file of presets, which are chosen as components are."""

_COUNTED = (StepKeys.BOUNDARIES, StepKeys.EVERY_STEP, StepKeys.ONE_STAGE)


def our_keys(choice: Choice, params: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """DataFlex's keys of the run.

    Args:
        choice: The choice.
        params: The parameters of each of its components, in the order of ``choice.components``, as a run file has them.
    """
    keys: dict[str, Any] = {"train_type": choice.train_type.value}
    pairs = dict(zip((each.kind for each in choice.components), params, strict=True))
    if choice.is_composed:
        keys["components"] = {each.kind.value: _part(each, pairs[each.kind]) for each in choice.in_turn()}
    elif choice.components:
        only = choice.components[0]
        keys["component_name"] = only.name
        keys |= {"component_params": dict(pairs[only.kind])} if pairs[only.kind] else {}
    return keys | {name: _number(value) for name, value in choice.keys.items() if value not in (None, "")}


def _part(chosen: Chosen, params: Mapping[str, Any]) -> Any:
    part: dict[str, Any] = {"name": chosen.name}
    part |= {"params": dict(params)} if params else {}
    part |= {"every": chosen.every} if chosen.every != 1 else {}
    return chosen.name if len(part) == 1 else part


def _number(value: Any) -> Any:
    """A key as a run file has it: texts are YAML, and a page knows one sort of numbers."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, str):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value


def run_file(arguments: Mapping[str, Any], keys: Mapping[str, Any], plugins: Sequence[str] = ()) -> dict[str, Any]:
    """The whole run.

    Args:
        arguments: LlamaBoard's own, without those that it leaves out.
        keys: Ours.
        plugins: The values of ``-p``: files by their absolute paths, since the run may start elsewhere.
    """
    named = [value if value.startswith("no:") else str(user_path(value).absolute()) for value in plugins]
    return {**arguments, **keys, **({"plugins": named} if named else {})}


def as_yaml(run: Mapping[str, Any]) -> str:
    """A run as its file has it, in the order of its keys."""
    return yaml.safe_dump(dict(run), sort_keys=False, allow_unicode=True)


def command(path: Path) -> list[str]:
    """What trains a run file, as one would type it."""
    return ["dataflex-cli", "train", str(path)]


def starting(path: Path) -> list[str]:
    """The same with the program of this environment, which a shell might not find."""
    program, *others = command(path)
    beside = Path(sys.executable).with_name(program)
    return [str(beside) if beside.is_file() else program, *others]


def preview(run: Mapping[str, Any], path: Path) -> str:
    """A run and its command as Markdown; no line of a run ends the block early."""
    text = as_yaml(run)
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}yaml\n{text}{fence}\n\n```bash\n{shlex.join(command(path))}\n```"


def total_steps(choice: Choice) -> int | None:
    """Optimizer steps of the run, as far as the step keys tell; ``None`` where they are known once data is loaded.

    Raises:
        DataFlexError: for step keys that cannot be, in the words of ``dataflex check-run``.
    """
    way = step_keys(choice.train_type, [each.kind for each in choice.components])
    if way not in _COUNTED:
        return None
    ours: dict[str, Any] = {"train_type": choice.train_type.value}
    ours |= {name: _number(value) for name, value in choice.keys.items() if value not in (None, "")}
    if choice.is_composed:
        ours["components"] = {each.kind.value: each.name for each in choice.components}
    steps = RunFile(path=Path("the page"), ours=ours, llamafactory={}, overridden=frozenset()).steps()
    if steps.train == 0 and (way is not StepKeys.BOUNDARIES or steps.times == -1):
        return None
    if way is not StepKeys.BOUNDARIES:
        return steps.train
    try:
        return resolve(steps, epochs=1, pool_size=1, global_batch=1).total
    except DataFlexError as error:
        raise ConfigError(str(error)) from error
