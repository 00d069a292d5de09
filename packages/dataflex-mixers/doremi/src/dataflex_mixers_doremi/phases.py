"""The phases of a DoReMi project, each an ordinary run file: what ``dataflex doremi`` trains, and nothing else does.

    round-1/reference.yaml   static_mix, uniform (or as doremi.reference says)
    round-1/proxy.yaml       dynamic_mix with the mixer doremi -> round-1/proxy/weights.json
    round-1/final.yaml       static_mix, from:round-1/proxy/weights.json

With more rounds, the reference of round 2 is trained in the proportions round 1 has found, and only the last round has
a final phase.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from dataflex.errors import ConfigError
from dataflex.hints import did_you_mean
from dataflex_mixers_doremi.beside import resolve_beside
from dataflex_mixers_doremi.weights import WEIGHTS_NAME

SECTION = "doremi"
_SET_BY_PHASE = ("train_type", "component_name", "component_params", "warmup_step", "update_step", "update_times")
_SET_BY_PHASE += ("train_step", "mixture_sample_rule", "init_mixture_proportions", "resume_from_checkpoint")
_LENGTH_OF_ITS_OWN = ("train_step", "update_times")  # a phase that says so does not train for the max_steps of all
_RECORDS = 10  # decisions of a proxy run, unless the user says otherwise
_MOST_STEPS_BETWEEN = 100


class PhaseName(StrEnum):
    """A phase of a round."""

    REFERENCE = "reference"
    PROXY = "proxy"
    FINAL = "final"


@dataclass(frozen=True)
class Phase:
    """One training run.

    Attributes:
        name: Which.
        round: Of which round, from 1.
        run_file: Where its run file is written.
        keys: What it holds.
    """

    name: PhaseName
    round: int
    run_file: Path
    keys: Mapping[str, Any]

    @property
    def title(self) -> str:
        """For messages."""
        return f"round {self.round}, {self.name}"

    @property
    def output_dir(self) -> Path:
        """Where it trains."""
        return Path(self.keys["output_dir"])

    @property
    def weights_read(self) -> Path | None:
        """The weights it samples by, if an earlier phase found them."""
        given = str(self.keys.get("init_mixture_proportions", ""))
        return Path(given.removeprefix("from:")) if given.startswith("from:") else None

    @property
    def reference(self) -> Path | None:
        """The reference it reads, if it is a proxy: a folder or a name on a hub."""
        params = self.keys.get("component_params")
        given = params.get("reference") if isinstance(params, Mapping) else None
        return Path(str(given)) if given and self.name is PhaseName.PROXY else None

    @property
    def length(self) -> str:
        """How long it trains, in words."""
        update, times = (self.keys.get(key) for key in ("update_step", "update_times"))
        counted = int(self.keys.get("warmup_step") or 0) + int(update or 0) * max(int(times or 0), 0)
        for steps in (self.keys.get("train_step"), counted if times else 0, self.keys.get("max_steps")):
            if int(steps or 0) > 0:
                return f"{steps} steps"
        return f"{self.keys.get('num_train_epochs', 3)} epochs (steps known once the data is read)"


def plan_phases(keys: Mapping[str, Any], rounds: int, run_file: Path) -> list[Phase]:
    """Lay out the phases.

    Args:
        keys: The user's run file: what all phases share, and under ``doremi`` what one of them has of its own.
        rounds: Rounds of reference and proxy.
        run_file: Where it lies: what it names beside itself is named in full, for phases lie elsewhere.

    Raises:
        ConfigError: for a key that belongs to a phase, an unknown phase, or phases with different domains.
    """
    source = run_file.name
    base = resolve_beside({key: value for key, value in keys.items() if key != SECTION}, run_file.parent)
    own = {
        name: resolve_beside(section, run_file.parent)
        for name, section in _sections(keys.get(SECTION) or {}, source).items()
    }
    for key in _SET_BY_PHASE:
        if key in base:
            raise ConfigError(
                f"{key} (from {source}) differs from phase to phase, so it cannot stand at the top. Put it under "
                f"{SECTION}.reference, {SECTION}.proxy or {SECTION}.final, or leave it out."
            )
    for key in ("output_dir", "dataset"):
        if not base.get(key):
            raise ConfigError(f"{key} is missing from {source}.")
    if rounds < 1:
        raise ConfigError(f"--rounds {rounds} must be at least 1.")
    names = _domains(base["dataset"])
    for phase, overrides in own.items():
        theirs = _domains(overrides.get("dataset", base["dataset"]))
        if sorted(theirs) != sorted(names):
            raise ConfigError(
                f"{SECTION}.{phase}.dataset (from {source}) names the domains {', '.join(theirs)}, but the run file "
                f"{', '.join(names)}. Weights go from phase to phase by domain name: name the same ones."
            )
        if "output_dir" in overrides:
            raise ConfigError(f"{SECTION}.{phase}.output_dir (from {source}): phases lie in the output_dir at the top.")
    root, found = Path(str(base["output_dir"])), []
    weights: Path | None = None
    for number in range(1, rounds + 1):
        folder = root / f"round-{number}"
        reference = _reference(base, own[PhaseName.REFERENCE], folder, weights)
        weights = folder / PhaseName.PROXY / WEIGHTS_NAME
        proxy = _proxy(base, own[PhaseName.PROXY], folder)
        found += [
            _phase(PhaseName.REFERENCE, number, folder, reference),
            _phase(PhaseName.PROXY, number, folder, proxy),
        ]
    found.append(_phase(PhaseName.FINAL, rounds, folder, _final(base, own[PhaseName.FINAL], weights)))
    return found


def _sections(given: Any, source: str) -> dict[PhaseName, dict[str, Any]]:
    if not isinstance(given, Mapping):
        raise ConfigError(f"{SECTION} (from {source}) must be a mapping of phases to keys, not {given!r}.")
    for name in given:
        if name not in list(PhaseName):
            raise ConfigError(
                f"{SECTION}.{name} (from {source}) is no phase; there are {', '.join(PhaseName)}."
                + did_you_mean(str(name), [phase.value for phase in PhaseName])
            )
    return {name: dict(given.get(name.value) or {}) for name in PhaseName}


def _domains(given: Any) -> list[str]:
    names = given.split(",") if isinstance(given, str) else given
    return [str(name).strip() for name in names]


def _phase(name: PhaseName, number: int, folder: Path, keys: Mapping[str, Any]) -> Phase:
    whole = {**keys, "output_dir": str(folder / name), "resume_from_checkpoint": True}
    return Phase(name, number, folder / f"{name}.yaml", whole)


def _shared(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """What a phase takes over from the top."""
    counts = any(own.get(key) for key in _LENGTH_OF_ITS_OWN)
    return {key: value for key, value in base.items() if not (counts and key == "max_steps")}


def _reference(base: Mapping[str, Any], own: Mapping[str, Any], folder: Path, weights: Path | None) -> dict[str, Any]:
    shared = _shared(base, own)
    if weights is not None:
        sampling = {"mixture_sample_rule": "mixture", "init_mixture_proportions": f"from:{weights}"}
        kept = {key: value for key, value in own.items() if key not in sampling}
        return {**shared, "train_type": "static_mix", **kept, **sampling}
    rule = "mixture" if "init_mixture_proportions" in own else "uniform"
    return {**shared, "train_type": "static_mix", "mixture_sample_rule": rule, **own}


def _proxy(base: Mapping[str, Any], own: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    keys = {**_shared(base, own), **own}
    # Under dynamic_mix the length is train_step; a max_steps beside one of the phase's own is for the checks to refuse.
    steps = int(keys.get("train_step") or 0)
    if not any(own.get(key) for key in _LENGTH_OF_ITS_OWN):
        steps = max(int(keys.pop("max_steps", 0) or 0), 0)
    names = _domains(keys["dataset"])
    between = max(1, min(_MOST_STEPS_BETWEEN, steps // _RECORDS)) if steps else _MOST_STEPS_BETWEEN
    defaults: dict[str, Any] = {
        "train_type": "dynamic_mix",
        "component_name": "doremi",
        "mixture_sample_rule": "mixture",
        "init_mixture_proportions": {name: 1 / len(names) for name in names},
        "warmup_step": 0,
        "update_step": between,
        **({"train_step": steps} if steps else {"update_times": -1}),
    }
    params = {"reference": str(folder / PhaseName.REFERENCE), **(own.get("component_params") or {})}
    return {**defaults, **keys, "component_params": params}


def _final(base: Mapping[str, Any], own: Mapping[str, Any], weights: Path | None) -> dict[str, Any]:
    sampling = {"mixture_sample_rule": "mixture", "init_mixture_proportions": f"from:{weights}"}
    return {**_shared(base, own), "train_type": "static_mix", **sampling, **own}
