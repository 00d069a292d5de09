"""The study file: read, checked, all that is wrong with it told at once."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dataflex.config.gathering import Gathered
from dataflex.config.reading import look_for, naming, parse_json, read_dotlist, read_yaml
from dataflex.config.written import Written
from dataflex.errors import ConfigError
from dataflex.hints import did_you_mean
from dataflex.paths import expand, user_path
from dataflex.study.file_keys import COMMANDS, KEYS, REPLACED, REQUIRED
from dataflex.study.study_file import Arm, StudyFile
from dataflex.study.study_run import Cost

_ARM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_DIRECTIONS = ("lower", "higher")
COUNTED, _FREE = "counted", "free"
"""What an index costs that a run found ready."""


def read_study_file(path: Path, overrides: Sequence[str] = ()) -> StudyFile:
    """Read a study file.

    Args:
        path: YAML or JSON.
        overrides: ``key=value`` items that replace keys of the file, nested ones with dots.

    Raises:
        ConfigError: with everything that is wrong with it, one a line.
    """
    keys, written = _read(user_path(path), overrides)
    return _Reader(path, keys, written).study()


def _read(path: Path, overrides: Sequence[str]) -> tuple[dict[str, Any], Written]:
    from omegaconf import OmegaConf

    if not path.is_file():
        raise ConfigError(f"study file {path} does not exist (working directory {Path.cwd()}).")
    for item in overrides:
        if not item.partition("=")[1] or item.startswith(("-", "=")):
            raise ConfigError(f"{item!r} on the command line is not an override; write key=value, without dashes.")
    with naming(f"study file {path}"):
        written = Written(source=path.name)
        if path.suffix == ".json":
            given: Any = OmegaConf.create(parse_json(path.read_text(encoding="utf-8")))
        else:
            given, written = read_yaml(path)
        if not OmegaConf.is_dict(given):
            raise ConfigError(f"study file {path} holds {OmegaConf.to_object(given)!r}, not keys and values.")
    with naming("the command line"):
        typed, of_line, replaced = read_dotlist(overrides, over=given)
    with naming(f"study file {path}"):
        both = OmegaConf.merge(given, typed)
        keys: Any = OmegaConf.to_container(both, resolve=False)
        for key in keys.keys() - {"arms"}:  # interpolations of arms are their runs'
            keys[key] = OmegaConf.to_container(both[key], resolve=True) if OmegaConf.is_config(both[key]) else both[key]
    return {str(key): value for key, value in keys.items()}, of_line.over(written, replaced)


class _Reader:
    """Takes the keys of a study file one by one.

    Args:
        path: The file.
        keys: What it holds; interpolations are left for the run files.
        written: What its words and numbers were written as.
    """

    def __init__(self, path: Path, keys: Mapping[str, Any], written: Written) -> None:
        self.path, self.keys, self.written = path, keys, written
        self.source, self.problems = path.name, Gathered()
        self.places: dict[str, Any] = {}  # of arms by name: `no` and `2023` are other keys to YAML

    def study(self) -> StudyFile:
        """The study.

        Raises:
            ConfigError: with everything that is wrong, one a line.
        """
        self._names()
        base, arms = self._base(), self._arms()
        baseline = self._baseline(arms)
        out = user_path(self._text("out", f"studies/{self.path.stem}"))
        seeds, lengths = self._seeds(), self._lengths()
        metric = self._text("metric", "")
        direction = self._one_of("direction", _DIRECTIONS, _DIRECTIONS[0])
        cost = self._one_of("cost", [unit.value for unit in Cost], Cost.STEPS.value)
        shared_index = self._one_of("shared_index", (COUNTED, _FREE), COUNTED)
        prepare, evaluate = self._command("prepare"), self._command("evaluate")
        self.problems.refuse()
        resolved = {
            "file": str(self.path),
            "base": str(base),
            "out": str(out),
            "baseline": baseline,
            "arms": {name: dict(self.keys["arms"][self.places[name]] or {}) for name in arms},
            "seeds": seeds,
            "metric": metric,
            "direction": direction,
            "baseline_lengths": lengths,
            "cost": cost,
            "shared_index": shared_index,
            "prepare": prepare or None,
            "evaluate": evaluate or None,
        }
        return StudyFile(
            path=self.path,
            base=base,
            out=out,
            baseline=baseline,
            arms=arms,
            seeds=seeds,
            metric=metric,
            lower=direction == "lower",
            lengths=lengths,
            cost=Cost(cost),
            counts_index=shared_index == COUNTED,
            prepare=prepare,
            evaluate=evaluate,
            resolved=resolved,
        )

    def _refuse(self, key: str, value: Any, needed: str) -> None:
        self.problems.errors.append(ConfigError(f"{key}: {value!r} (from {self.source}) {needed}"))

    def _names(self) -> None:
        known = [key.name for key in KEYS]
        for name in self.keys:
            if name not in known:
                hint = did_you_mean(name, known) or f" A study file has {', '.join(known)}."
                self.problems.errors.append(ConfigError(f"unknown key {name} (from {self.source}).{hint}"))
        for key in KEYS:
            if key.default == REQUIRED and self.keys.get(key.name) is None:
                self.problems.errors.append(ConfigError(f"{key.name} is missing from {self.source}. {key.help}"))

    def _text(self, key: str, default: str) -> str:
        value = self.keys.get(key)
        if value is None:
            return default
        value = self._as_written(value, key)
        if not isinstance(value, str) or not value.strip():
            self._refuse(key, value, "must be a text.")
            return default
        return value

    def _as_written(self, value: Any, *place: Any) -> Any:
        """A word or number that can only be a name, as it was written."""
        found = self.written.values.get(place)
        return value if isinstance(value, str) or found is None else found[1]

    def _base(self) -> Path:
        given = self.keys.get("base")
        if given is None:
            return Path()
        if not isinstance(given, str) or not given.strip():
            self._refuse("base", given, "must be the path of a run file.")
            return Path()
        found, tried = look_for(given, [self.path.parent, Path()])
        if found is None:
            self._refuse("base", given, f"does not exist; looked for {tried}. Name a run file that evaluates.")
            return Path()
        return found

    def _arms(self) -> dict[str, Arm]:
        given = self.keys.get("arms")
        if given is None:
            return {}
        if not isinstance(given, Mapping) or not given:
            self._refuse("arms", given, "must be a mapping of names to the keys that differ from base.")
            return {}
        found: dict[str, Arm] = {}
        for place, keys in given.items():
            name = self.written.key(place, "arms")
            if self._is_name(name, [*found]) and self._are_keys(name, keys):
                self.places[name] = place
                found[name] = self._arm(name, dict(keys or {}))
        return found

    def _is_name(self, name: str, before: Sequence[str]) -> bool:
        if not _ARM.fullmatch(name):
            self._refuse("arms", name, "is no name of an arm: letters, digits, _ - and . make a folder's name.")
            return False
        twin = next((other for other in before if other.lower() == name.lower()), None)
        if twin is not None:
            self._refuse("arms", name, f"and {twin!r} differ in case alone, but they become folders. Rename one.")
        return twin is None

    def _are_keys(self, name: str, keys: Any) -> bool:
        if keys is not None and not (isinstance(keys, Mapping) and all(isinstance(key, str) for key in keys)):
            self._refuse(f"arms.{name}", keys, "must be a mapping of keys to values.")
            return False
        for key in REPLACED:
            if keys and key in keys:
                self._refuse(f"arms.{name}.{key}", keys[key], "is set by the study for each run. Leave it out.")
        return True

    def _arm(self, name: str, keys: dict[str, Any]) -> Arm:
        command = keys.pop("command", None)
        if command is not None and command not in COMMANDS:
            near = did_you_mean(str(command), COMMANDS)
            self._refuse(f"arms.{name}.command", command, f"must be one of {', '.join(COMMANDS)}.{near}")
            command = None
        return Arm(
            name=name, keys=keys, written=self.written.under("arms", self.places[name]), command=str(command or "")
        )

    def _baseline(self, arms: Mapping[str, Arm]) -> str:
        given = self._text("baseline", next(iter(arms), ""))
        if arms and given not in arms:
            self._refuse("baseline", given, f"is none of the arms {', '.join(arms)}.{did_you_mean(given, arms)}")
        if given in arms and arms[given].command:
            self._refuse("baseline", given, "is a command. A baseline is a run of `dataflex train`: name another arm.")
        return given

    def _seeds(self) -> list[int]:
        given = self.keys.get("seeds")
        listed = [42] if given is None else given
        whole = isinstance(listed, list) and all(type(seed) is int and seed >= 0 for seed in listed)
        if not whole or not listed:
            self._refuse("seeds", given, "must be a list of whole numbers of at least 0.")
            return []
        if twice := _repeated(listed):
            self._refuse("seeds", given, f"names {', '.join(map(str, twice))} more than once. Each seed counts once.")
        return list(listed)

    def _lengths(self) -> list[float]:
        given = self.keys.get("baseline_lengths")
        listed = [1] if given is None else given
        fine = isinstance(listed, list) and all(
            type(length) in (int, float) and 0 < length < math.inf for length in listed
        )
        if not fine:
            self._refuse("baseline_lengths", given, "must be a list of numbers above 0, multiples of the arms' steps.")
            return [1]
        if twice := _repeated(listed):
            said = ", ".join(f"{length:g}" for length in twice)
            self._refuse("baseline_lengths", given, f"names {said} more than once. Each length counts once.")
        return sorted({1, *listed})

    def _one_of(self, key: str, words: Sequence[str], default: str) -> str:
        given = self.keys.get(key)
        if given is None:
            return default
        if given not in words:
            self._refuse(key, given, f"must be one of {', '.join(words)}.{did_you_mean(str(given), words)}")
            return default
        return str(given)

    def _command(self, key: str) -> list[str]:
        given = self.keys.get(key)
        if given is None:
            return []
        try:
            words = shlex.split(given) if isinstance(given, str) else given
        except ValueError as error:
            self._refuse(key, given, f"is no command: {error}.")
            return []
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            self._refuse(key, given, "must be a command: a text, or a list of texts.")
            return []
        return [expand(words[0]), *words[1:]]


def _repeated(values: Sequence[Any]) -> list[Any]:
    return [value for value in dict.fromkeys(values) if values.count(value) > 1]
