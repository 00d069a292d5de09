"""Reading a run file: our keys are taken off, the rest stays LlamaFactory's, untouched.

OmegaConf reads it, as in LlamaFactory: ``1e-4`` is a number, duplicate keys are errors, ``${output_dir}``
interpolates, and ``key=value`` overrides nest (``component_params.temperature=0.5``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataflex.config import legacy
from dataflex.config.gathering import Gathered
from dataflex.config.keys import COMPONENTS, RUN_KEYS
from dataflex.config.merging import merged
from dataflex.config.names import take_names
from dataflex.config.reading import look_for, naming, parse_json, read_dotlist, read_yaml
from dataflex.config.theirs import check_known_keys as check_known_keys  # where they are looked for
from dataflex.config.theirs import check_values as check_values
from dataflex.config.written import Written
from dataflex.errors import ConfigError
from dataflex.hints import did_you_mean
from dataflex.kinds import OLD_TRAIN_TYPES, Kind, StepKeys, in_turn, step_keys
from dataflex.paths import expand_keys, user_path
from dataflex.plugins.options import PluginOptions
from dataflex.runs import Steps, TrainType

OUR_KEYS = tuple(key.name for key in RUN_KEYS)
"""Keys of a run file that DataFlex reads and LlamaFactory never sees."""

COMMAND_LINE = "the command line"
MOST_STEPS = 10**8
"""More optimizer steps than any run has: a typing error, which arithmetic and memory would trip over later."""

_LONGEST = 1e8  # seconds a timer can be set to: three years


@dataclass(frozen=True)
class RunFile:
    """One run as the user wrote it.

    Attributes:
        path: The run file.
        ours: Values of :data:`OUR_KEYS` that were given.
        llamafactory: Everything else, ready for ``llamafactory.train.tuner.run_exp``.
        overridden: Keys given on the command line, nested ones by their full name.
        written: What words and numbers were written as, for those that stand for names.
    """

    path: Path
    ours: Mapping[str, Any]
    llamafactory: Mapping[str, Any]
    overridden: frozenset[str]
    written: Written = field(default_factory=Written)

    def origin(self, key: str) -> str:
        """Where the value of ``key`` came from, for messages."""
        given = any(name == key or name.startswith((f"{key}.", f"{key}[")) for name in self.overridden)
        return COMMAND_LINE if given else self.path.name

    @property
    def train_type(self) -> TrainType:
        """The ``train_type``; a run file without one is an ordinary LlamaFactory run."""
        given = self.ours.get("train_type", TrainType.STATIC)
        try:
            return OLD_TRAIN_TYPES.get(str(given)) or TrainType(given)
        except ValueError as error:
            names = [kind.value for kind in TrainType]
            raise ConfigError(
                f"train_type: {given!r} (from {self.origin('train_type')}) is not one of {', '.join(names)}."
                + (legacy.train_type(str(given)) or did_you_mean(str(given), names))
            ) from error

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Kinds of the components that the run asks for, in the order in which they decide; as far as keys tell."""
        if self.train_type is not TrainType.COMPOSED:
            return () if self.train_type.kind is None else (self.train_type.kind,)
        given = self.ours.get(COMPONENTS)
        return tuple(kind for kind in in_turn(Kind) if isinstance(given, Mapping) and given.get(kind) is not None)

    @property
    def step_keys(self) -> StepKeys | None:
        """How the run reads the step keys."""
        return step_keys(self.train_type, self.kinds)

    def steps(self) -> Steps:
        """The step keys, checked for type and range. Dynamic selecting and mixing need all of the note's three."""
        problems = Gathered()
        steps = self.steps_or_least(problems)
        problems.refuse()
        return steps

    def steps_or_least(self, problems: Gathered) -> Steps:
        """The step keys; the least that a wrong or missing one may be in its place.

        Args:
            problems: Takes what is wrong with each.
        """
        values = {}
        for name, least in (("warmup_step", 0), ("update_step", 1), ("update_times", 1), ("train_step", 0)):
            if self.ours.get(name) is not None:
                values[name] = 1  # not 0, which asks for something else: no warm-up, or other keys
                with problems.taking():
                    values[name] = self._step(name, least)
        if self.step_keys is StepKeys.ONE_STAGE:  # the note's keys add up to one stage without a boundary
            times = max(values.get("update_times", 0), 0)
            total = values.get("warmup_step", 0) + values.get("update_step", 0) * times
            return Steps(warmup=0, train=values.get("train_step") or total)
        if self.step_keys is StepKeys.EVERY_STEP:  # so update_step and update_times say nothing
            return Steps(warmup=values.get("warmup_step", 0), train=values.get("train_step", 0))
        if self.step_keys is StepKeys.PASSES:
            return Steps(
                warmup=values.get("warmup_step", 0),
                update=values.get("update_step", 0),
                times=values.get("update_times", -1),
                train=values.get("train_step", 0),
            )
        for name in ("warmup_step", "update_step", *([] if values.get("train_step") else ["update_times"])):
            with problems.taking():
                if name not in values:
                    raise ConfigError(self._missing(name))
        return Steps(
            warmup=values.get("warmup_step", 1),
            update=values.get("update_step", 1),
            times=values.get("update_times", 0 if values.get("train_step") else 1),
            train=values.get("train_step", 0),
        )

    def _step(self, name: str, least: int) -> int:
        value = self.ours[name]
        endless = name == "update_times" and value == -1
        if isinstance(value, bool) or not isinstance(value, int) or (value < least and not endless):
            allowed = f"a whole number of at least {least}" + (" (or -1)" if name == "update_times" else "")
            raise ConfigError(f"{name}: {value!r} (from {self.origin(name)}) must be {allowed}.")
        if value > MOST_STEPS:
            raise ConfigError(f"{name}: {value} (from {self.origin(name)}) is more than {MOST_STEPS:,}.")
        return value

    def timeout(self) -> float | None:
        """Most seconds a decision of the component may take; ``None`` for no limit."""
        value = self.ours.get("component_timeout")
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < _LONGEST:
            raise ConfigError(
                f"component_timeout: {value!r} (from {self.origin('component_timeout')}) must be a number of seconds "
                "above 0; leave it out for no limit."
            )
        return float(value)

    def component_name(self) -> str:
        """The chosen component, or an error that says the key is missing."""
        name = self.ours.get("component_name")
        if name is None:
            raise ConfigError(self._missing("component_name"))
        if not isinstance(name, str) or not name:
            origin = self.origin("component_name")
            raise ConfigError(f"component_name: {name!r} (from {origin}) must be the name of a component.")
        return name

    def plugins(self) -> list[str]:
        """The values of the key ``plugins``, ready for ``-p``: files are absolute.

        Raises:
            ConfigError: for a value that is neither a file nor ``no:DIST``; it says where files were looked for.
        """
        given = self.ours.get("plugins")
        values = [] if given is None else [given] if isinstance(given, str) else given
        if not isinstance(values, list) or not all(isinstance(value, str) and value for value in values):
            raise ConfigError(
                f"plugins: {given!r} (from {self.origin('plugins')}) must be a list of files (./mine.py) and no:DIST."
            )
        return [self._blocked(value) if value.startswith("no:") else self._file(value) for value in values]

    def _blocked(self, value: str) -> str:
        try:
            PluginOptions.gather([value], {})
        except ConfigError as error:
            raise ConfigError(f"plugins: {value} (from {self.origin('plugins')}): {error}") from error
        return value

    def _file(self, value: str) -> str:
        found, tried = look_for(value, [self.path.parent, Path()])
        if found is not None:
            return str(found.absolute())
        raise ConfigError(
            f"plugins: {value} (from {self.origin('plugins')}) is not a file; looked for {tried}. Name a Python file, "
            "or no:DIST to switch an installed plugin off. Installed plugins load by themselves."
        )

    def misspelt(self, key: str) -> str:
        """A question that names the key that may have been meant to be ``key``; ``""`` if none is like it."""
        return did_you_mean(key, self.llamafactory).replace("Did you mean", "Was it meant by")

    def _missing(self, key: str) -> str:
        hint = self.misspelt(key) or f" Add `{key}:` to it."
        return f"{key} is missing from {self.path.name}; train_type {self.train_type.value} needs it.{hint}"


def read_run_file(path: Path, overrides: Sequence[str] = ()) -> RunFile:
    """Read a YAML or JSON run file and apply ``key=value`` overrides.

    Raises:
        ConfigError: for a missing or unreadable file, or an override that is not ``key=value``.
    """
    path = user_path(path)
    return resolved(path, *read_over(path, overrides), [item.partition("=")[0] for item in overrides])


def read_over(path: Path, overrides: Sequence[str], names: Sequence[str] = ()) -> tuple[Any, Written]:
    """The keys of a YAML or JSON file under ``key=value`` overrides, with their interpolations, and their texts.

    Args:
        path: The file.
        overrides: The items.
        names: Further keys below which only names stand.

    Raises:
        ConfigError: for a missing or unreadable file, or an override that is not ``key=value``.
    """
    if not path.is_file():
        raise ConfigError(f"run file {path} does not exist (working directory {Path.cwd()}).")
    for item in overrides:
        key, equals, _ = item.partition("=")
        if not equals or key.startswith("-") or not key:
            raise ConfigError(f"{item!r} on the command line is not an override; write key=value, without dashes.")
        if not all(key.split(".")):
            raise ConfigError(f"{item!r} on the command line has no name before or after a dot; write key.name=value.")
    given, written = read_given(path)
    with naming("the command line"):
        cli, typed, replaced = read_dotlist(overrides, over=given, names=names)
    with naming(f"{' '.join(overrides)} on the command line, over {path},"):
        both = merged(given, cli)
    return both, typed.over(written, replaced)


def read_given(path: Path) -> tuple[Any, Written]:
    """The keys of a YAML or JSON run file with their interpolations, and what words and numbers were written as.

    Raises:
        ConfigError: for a file that cannot be read.
    """
    from omegaconf import OmegaConf

    written = Written(source=path.name)
    with naming(f"run file {path}"):
        if path.suffix == ".json":
            parsed = parse_json(path.read_text(encoding="utf-8"))
            given = OmegaConf.create(parsed) if isinstance(parsed, (dict, list)) else parsed
        else:
            given, written = read_yaml(path)
        if not OmegaConf.is_dict(given):
            what = "a list" if OmegaConf.is_list(given) else repr(given)
            raise ConfigError(f"run file {path} holds {what}, not keys and values.")
    return given, written


def resolved(path: Path, given: Any, written: Written, overridden: Iterable[str] = ()) -> RunFile:
    """The run file that keys make once their interpolations are filled in.

    Args:
        path: The run file.
        given: Its keys, as OmegaConf reads them.
        written: What words and numbers among them were written as.
        overridden: Keys of the command line among them, nested ones by their full name.

    Raises:
        ConfigError: for an interpolation that leads nowhere.
    """
    from omegaconf import OmegaConf

    from dataflex.config.old_pipelines import as_components

    with naming(f"run file {path}"):
        keys = OmegaConf.to_container(given, resolve=True, throw_on_missing=True)
    assert isinstance(keys, dict)
    values = {str(key): _keep_the_word_no(str(key), value) for key, value in keys.items()}
    values = expand_keys(take_names(values, written)[0])
    run = RunFile(
        path=path,
        ours={key: values[key] for key in OUR_KEYS if key in values},
        llamafactory={key: value for key, value in values.items() if key not in OUR_KEYS},
        overridden=frozenset(overridden),
        written=written,
    )
    return as_components(run)


def _keep_the_word_no(key: str, value: Any) -> Any:
    # YAML 1.1 reads the bare word `no` as false; save_strategy and its siblings mean the word.
    return "no" if value is False and key.endswith("_strategy") else value
