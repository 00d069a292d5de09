"""The keys of a run, gathered from its arguments and its session, and compared with a checkpoint's."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from dataflex.checkpoint.state import Saved
from dataflex.checkpoint_keys import models
from dataflex.checkpoint_keys.at_work import COMPONENT_PARAMS
from dataflex.checkpoint_keys.compare import FILE, Changes, ModelFiles, RunKeys, compare
from dataflex.checkpoint_keys.groups import Group
from dataflex.checkpoint_keys.held import COMPONENTS, DATA, MEDIA, MODELS
from dataflex.checkpoint_keys.keys import group_of
from dataflex.config.plan import PreparedRun
from dataflex.data.fingerprint import fingerprint
from dataflex.distributed import all_gather, together
from dataflex.errors import ConfigError
from dataflex.paths import user_path
from dataflex.record.run import hide_secrets
from dataflex.runs import RunFacts, TrainType
from dataflex.spec import Need
from dataflex.trainers.host import Host

_DEEPSPEED = ("optimizer", "scheduler", "fp16", "bf16")
_STAGE = "zero_optimization.stage"
_TRAINED_AS = "stage"
_PLACES = ("dataset", "dataset_dir", "media_dir", "tokenized_path")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Arguments as a parser left them.

    Attributes:
        values: By name, JSON values; secrets hidden.
        given: Those that the user gave.
        objects: The objects they were read from: what loads a model may put a local folder in the place of a name.
    """

    values: Mapping[str, Any]
    given: frozenset[str]
    objects: Sequence[Any] = ()

    @classmethod
    def read(cls, objects: Iterable[Any], given: Collection[str] | None = None) -> Arguments:
        """Read dataclasses of arguments.

        Args:
            objects: In order; of a name that several have, the first counts.
            given: What the user gave; ``None`` takes whatever differs from its default.
        """
        objects = [item for item in objects if dataclasses.is_dataclass(item)]
        values: dict[str, Any] = {}
        defaults: dict[str, Any] = {}
        for item in objects:
            for field in dataclasses.fields(item):
                if field.init and field.name not in values and hasattr(item, field.name):
                    values[field.name] = _plain(field.name, getattr(item, field.name))
                    defaults[field.name] = _plain(field.name, _default(field))
        values, defaults = hide_secrets(values), hide_secrets(defaults)
        differing = {name for name, value in values.items() if value != defaults[name]}
        return cls(values, frozenset(differing if given is None else set(given) & values.keys()), objects)


class KeyedRun(Protocol):
    """A session, as far as its keys go."""

    @property
    def run(self) -> PreparedRun:
        """The checked run."""

    @property
    def arguments(self) -> Arguments | None:
        """The parsed arguments of the front end; ``None`` takes the Trainer's own."""

    def mixture_settings(self) -> dict[str, Any]:
        """The keys of a mix run that may not change on resume."""


def gather(trainer: Host, run: KeyedRun) -> RunKeys:
    """The keys of the run that a Trainer is about to begin. Called on every rank; rank 0 looks at the models' files."""
    arguments = run.arguments
    if arguments is None:
        arguments = _of_trainer(trainer)
    own = _own_keys(run)
    named = dict(_named_models(trainer, arguments, own))
    known: dict[str, ModelFiles] = {}
    aims: dict[str, str] = {}
    with together("looking at the files of the models and at the eval sets", trainer.accelerator):
        if trainer.is_world_process_zero():
            known = {key: _look_at(paths, arguments) for key, paths in named.items()}
            aims = _aims(trainer, run.run)
    known, aims = all_gather((known, aims), trainer.accelerator)[0]
    return RunKeys(
        arguments=arguments.values,
        given=sorted(arguments.given),
        dataflex=own,
        ranks=int(trainer.args.world_size),
        models=known,
        aims=aims,
    )


def _aims(trainer: Host, run: PreparedRun) -> dict[str, str]:
    """Fingerprints of the eval sets, if a component decides by them."""
    if not any(Need.EVAL_SET in part.component.needs for part in run.facts.parts):
        return {}
    evals = trainer.eval_dataset
    named = evals if isinstance(evals, dict) else {"eval": evals} if evals is not None else {}
    return {name: fingerprint(rows) for name, rows in named.items()}


def changes_since(
    saved: Saved, now: RunKeys, source: Path, of_interest: Callable[[Group], bool] = lambda group: True
) -> Changes:
    """What differs between the run that wrote a checkpoint and this one.

    Of a checkpoint without keys only the component's parameters are known.

    Args:
        saved: The checkpoint.
        now: The keys of this run.
        source: Where it lies, for messages.
        of_interest: Which groups of keys are compared.

    Raises:
        ConfigError: when the checkpoint's keys are not what this version writes.
    """
    if not saved.keys:
        then, here = hide_secrets(saved.engine.params), now.dataflex.get(COMPONENT_PARAMS, {})
        known = (RunKeys(dataflex={COMPONENT_PARAMS: params}) for params in (then, here))
        return compare(*known, of_interest=of_interest)
    try:
        before = RunKeys.from_json(saved.keys)
    except ValueError as error:
        raise ConfigError(f"cannot resume from {source}: its keys.json is damaged ({error}).") from error
    return compare(before, now, of_interest=of_interest)


def data_keys(arguments: Arguments | None, unchecked: Collection[str]) -> dict[str, Any]:
    """LlamaFactory's keys that the pool of a run was tokenised under, as parsed; without those not known of its rows.

    What names data sets is not among them: their names stand beside, and their rows are known by a fingerprint.

    Args:
        arguments: Of the front end; ``None`` under another one than LlamaFactory.
        unchecked: Keys that could not be compared with the rows.
    """
    if arguments is None:
        return {}
    return {
        name: value
        for name, value in sorted(arguments.values.items())
        if (name == _TRAINED_AS or group_of(name) in (DATA, MEDIA)) and name not in {*_PLACES, *unchecked}
    }


def to_keep(keys: RunKeys, component: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint keeps of a run's keys: with them, the files and folders that the component's state names.

    Args:
        keys: Of the run.
        component: The component's state.
    """
    named = {place: text for place, text in _texts(component, "") if os.sep in text and _exists(text)}
    return dataclasses.replace(keys, paths=named).to_json()


def missing_paths(keys: Mapping[str, Any]) -> dict[str, str]:
    """Files and folders that the component's state in a checkpoint named and that are gone, by place."""
    named = keys.get("paths")
    return {str(place): str(text) for place, text in dict(named or {}).items() if not _exists(str(text))}


def _exists(path: str) -> bool:
    try:
        return user_path(path).exists()
    except (OSError, RuntimeError, ValueError):  # too long for a path, nobody's home, a byte that no path has
        return False


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, f"{place}.{name}" if place else str(name))
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            yield from _texts(inner, f"{place}[{number}]")


def _of_trainer(trainer: Host) -> Arguments:
    """The Trainer's own arguments; ``train`` sets max_steps, so that of the first call is what the user gave."""
    asked = trainer.__dict__.setdefault("_asked_max_steps", int(trainer.args.max_steps))
    found = Arguments.read([trainer.args])
    given = found.given - {"max_steps"} if asked <= 0 else found.given
    return dataclasses.replace(found, values={**found.values, "max_steps": asked}, given=given)


def _own_keys(session: KeyedRun) -> dict[str, Any]:
    """DataFlex's keys as they were bound, JSON values."""
    run = session.run
    plan, steps = run.facts, run.facts.steps
    keys = {
        "train_type": plan.train_type.value,
        "component_name": plan.component.name,
        COMPONENT_PARAMS: dict(plan.params),
        **_several(plan),
        "component_timeout": run.timeout,
        "warmup_step": steps.warmup,
        "update_step": steps.update,
        "update_times": steps.times,
        "train_step": steps.train,
        **session.mixture_settings(),
    }
    if run.mixture is not None:
        keys["mixture_max_epochs"] = run.mixture.max_epochs
    return hide_secrets(keys)


def _several(plan: RunFacts) -> dict[str, Any]:
    """The keys of a run with several components: which they are, when they are asked, and all their parameters."""
    if plan.train_type is not TrainType.COMPOSED:
        return {}
    parts = {part.component.kind.value: part for part in plan.parts}
    return {
        COMPONENTS: {kind: [part.component.name, part.every, part.keep] for kind, part in parts.items()},
        COMPONENT_PARAMS: {f"{kind}.{name}": v for kind, part in parts.items() for name, v in part.params.items()},
    }


def _named_models(trainer: Host, arguments: Arguments, own: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """The keys that name models, each with what it names."""
    for item in arguments.objects:
        for key in MODELS:
            if hasattr(item, key):
                given = getattr(item, key)
                yield key, [str(path) for path in (given if isinstance(given, (list, tuple)) else [given]) if path]
    if "model_name_or_path" not in arguments.values:
        base = _base_of_adapter(getattr(trainer, "model", None))
        if base is not None:
            yield "model_name_or_path", [base]
    for name, value in (own.get(COMPONENT_PARAMS) or {}).items():
        if isinstance(value, str) and value and (models.is_model(user_path(value)) or _file_of(value) is not None):
            yield f"{COMPONENT_PARAMS}.{name}", [value]


def _base_of_adapter(model: Any) -> str | None:
    """Where the base of an adapter was loaded from. All of another model is in a checkpoint, whatever it began as."""
    if not hasattr(model, "peft_config") or not hasattr(model, "get_base_model"):
        return None
    return str(getattr(model.get_base_model().config, "_name_or_path", "") or "") or None


def _look_at(paths: Sequence[str], arguments: Arguments) -> ModelFiles:
    found = []
    for path in paths:
        file = _file_of(path)
        folder = _folder(path, arguments) if file is None else None
        try:
            found.append(models.file_identity(file) if file else "" if folder is None else models.identity(folder))
        except OSError:  # whoever loads the model says what is wrong with its files
            found.append("")
    return ModelFiles(path=",".join(paths), identity=",".join(found) if all(found) else "")


def _file_of(value: str) -> Path | None:
    """The file of a parameter such as ``by: file:scores.npy``; ``None`` if it names none, or none that is there."""
    path = user_path(value.removeprefix(FILE))
    return path if value.startswith(FILE) and path.is_file() else None


def _folder(path: str, arguments: Arguments) -> Path | None:
    """The folder of a model: as named, or where a hub's cache keeps it."""
    subfolder = arguments.values.get("adapter_folder") or ""
    folder = user_path(path)
    if folder.is_dir():
        return folder / subfolder if (folder / subfolder / "adapter_config.json").is_file() else folder
    from transformers.utils.hub import cached_file

    revision, cache = (arguments.values.get(key) for key in ("model_revision", "cache_dir"))
    for name in ("config.json", f"{subfolder}/adapter_config.json".lstrip("/")):
        try:
            cached = cached_file(path, name, cache_dir=cache or None, revision=revision or None, local_files_only=True)
        except (OSError, ValueError):  # not in the cache, or no name that a hub could have
            continue
        if isinstance(cached, str):
            return Path(cached).parent
    return None


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else None


def _plain(name: str, value: Any) -> Any:
    """An argument as a JSON value."""
    if name == "deepspeed":
        return _deepspeed(value)
    try:
        return json.loads(json.dumps(value.to_dict() if hasattr(value, "to_dict") else value, default=str))
    except (TypeError, ValueError):  # names that are no text, a value that holds itself
        return str(value)


def _deepspeed(value: Any) -> Any:
    """What of DeepSpeed's configuration a checkpoint depends on, whether it was given as a file or in place."""
    if isinstance(value, str) and value:
        try:
            value = json.loads(user_path(value).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return value
    if not isinstance(value, Mapping):
        return None if not value else str(value)
    zero = value.get("zero_optimization")
    stage = zero.get("stage", 0) if isinstance(zero, Mapping) else 0
    kept = {name: value[name] for name in _DEEPSPEED if name in value}
    return json.loads(json.dumps({_STAGE: stage, **kept}, default=str))
