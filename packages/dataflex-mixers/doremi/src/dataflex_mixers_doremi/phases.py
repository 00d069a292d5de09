"""The phases of a DoReMi project, each an ordinary run file: what ``dataflex doremi`` trains, and nothing else does.

    round-1/reference.yaml   static_mix, uniform (or as doremi.reference says)
    round-1/proxy.yaml       dynamic_mix with the mixer doremi -> round-1/proxy/weights.json
    round-1/final.yaml       static_mix, from:round-1/proxy/weights.json

With more rounds, the reference of round 2 is trained in the proportions round 1 has found, and only the last round has
a final phase.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from dataflex import ConfigError
from dataflex.hints import did_you_mean
from dataflex.paths import user_path
from dataflex.phases.beside import resolve_beside
from dataflex.phases.checks import domain_names
from dataflex.phases.phase import Leaves, Phase, Read
from dataflex.scoring.reference.model import is_same_model, model_identity
from dataflex_mixers_doremi.run_keys import COMPONENT, hand_out, is_doremi
from dataflex_mixers_doremi.weights import WEIGHTS_NAME

logger = logging.getLogger("dataflex")

SECTION = "doremi"
_RECORDS = 10  # decisions of a proxy run, unless the user says otherwise
_MOST_STEPS_BETWEEN = 100


class PhaseName(StrEnum):
    """A phase of a round."""

    REFERENCE = "reference"
    PROXY = "proxy"
    FINAL = "final"


@dataclass(frozen=True)
class ReferenceRead:
    """The reference that a proxy reads.

    Attributes:
        path: A folder or a name on a hub; where it is no folder (any more), whether it has changed is not known.
    """

    path: Path
    field = "reference"

    @property
    def changed(self) -> str:
        """What to say when it is another one."""
        return f"another reference than {self.path} is now. Restore that model"

    def identity(self) -> str | None:
        """What tells the model from others."""
        return model_identity(str(self.path)) if user_path(self.path).is_dir() else None

    def is_same(self, recorded: str) -> bool:
        """Whether it is the recorded one."""
        return not user_path(self.path).is_dir() or is_same_model(str(self.path), recorded)


@dataclass(frozen=True, kw_only=True)
class DoremiPhase(Phase):
    """One training run.

    Attributes:
        name: Which.
        round: Of which round, from 1.
    """

    name: PhaseName
    round: int
    free_params: Sequence[str] = ("cache_dir", "token_budget")

    @property
    def reference(self) -> Path | None:
        """The reference it reads, if it is a proxy: a folder or a name on a hub."""
        params = self.keys.get("component_params")
        given = params.get("reference") if isinstance(params, Mapping) else None
        return Path(str(given)) if given and self.name is PhaseName.PROXY else None

    @property
    def reads(self) -> Sequence[Read]:
        """Weights and reference."""
        return (*super().reads, *(() if self.reference is None else (ReferenceRead(self.reference),)))


def plan_phases(keys: Mapping[str, Any], rounds: int, run_file: Path) -> list[DoremiPhase]:
    """Lay out the phases.

    Args:
        keys: The user's run file: what all phases share, and under ``doremi`` what one of them has of its own. A run's
            own keys at the top go to the phases they belong to (:mod:`~dataflex_mixers_doremi.run_keys`).
        rounds: Rounds of reference and proxy.
        run_file: Where it lies: what it names beside itself is named in full, for phases lie elsewhere.

    Raises:
        ConfigError: with every problem found, one a line: an unknown phase, phases with different domains, ...
    """
    source, beside = run_file.name, run_file.parent
    handed = hand_out(resolve_beside({key: value for key, value in keys.items() if key != SECTION}, beside), source)
    base, problems = handed.base, list(handed.problems)
    sections, strange = _sections(keys.get(SECTION), source)
    own = {name: resolve_beside(section, beside) for name, section in sections.items()}
    problems += [*strange, *_problems(base, own, rounds, source)]
    if problems:
        raise ConfigError("\n".join(problems))
    for note in handed.notes:
        logger.warning(note)
    own[PhaseName.REFERENCE] = {**handed.reference, **own[PhaseName.REFERENCE]}
    params = {**handed.proxy.get("component_params", {}), **(own[PhaseName.PROXY].get("component_params") or {})}
    own[PhaseName.PROXY] = {**handed.proxy, **own[PhaseName.PROXY], "component_params": params}
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


def _problems(
    base: Mapping[str, Any], own: Mapping[PhaseName, Mapping[str, Any]], rounds: int, source: str
) -> Iterator[str]:
    """What is wrong with the keys of a project, one sentence each."""
    if base.get("resume_from_checkpoint") not in (None, True, False):
        yield (
            f"resume_from_checkpoint (from {source}) names one checkpoint, but every phase goes on from its own last "
            "one. Leave it out."
        )
    if rounds < 1:
        yield f"--rounds {rounds} must be at least 1."
    for key in ("output_dir", "dataset"):
        if not base.get(key):
            yield f"{key} is missing from {source}."
    names = domain_names(base.get("dataset"))
    for phase, overrides in own.items():
        theirs = domain_names(overrides["dataset"]) if "dataset" in overrides else names
        if sorted(theirs) != sorted(names):
            yield (
                f"{SECTION}.{phase}.dataset (from {source}) names the domains {', '.join(theirs)}, but the run file "
                f"{', '.join(names)}. Weights go from phase to phase by domain name: name the same ones."
            )
        if "output_dir" in overrides:
            yield f"{SECTION}.{phase}.output_dir (from {source}): phases lie in the output_dir at the top."
    chosen = own[PhaseName.PROXY].get("component_name", COMPONENT)
    if not is_doremi(chosen, {**base, **own[PhaseName.PROXY]}):
        yield (
            f"{SECTION}.{PhaseName.PROXY}.component_name: {chosen} (from {source}): the proxy is trained with the "
            f"mixer {COMPONENT}. Leave it out; `dataflex train` is for runs with another component."
        )


def _sections(given: Any, source: str) -> tuple[dict[PhaseName, dict[str, Any]], list[str]]:
    """The keys of each phase, and what is wrong with how they are given."""
    empty: dict[PhaseName, dict[str, Any]] = {name: {} for name in PhaseName}
    if given is None:
        return empty, []
    if not isinstance(given, Mapping):
        return empty, [f"{SECTION} (from {source}) must be a mapping of phases to keys, not {given!r}."]
    known = [phase.value for phase in PhaseName]
    problems = [
        f"{SECTION}.{name} (from {source}) is no phase; there are {', '.join(known)}." + did_you_mean(str(name), known)
        for name in given
        if name not in known
    ]
    for name in PhaseName:
        section = given.get(name.value)
        if isinstance(section, Mapping):
            empty[name] = dict(section)
        elif section is not None:
            problems.append(f"{SECTION}.{name} (from {source}) must be a mapping of keys to values, not {section!r}.")
    return empty, problems


def _phase(name: PhaseName, number: int, folder: Path, keys: Mapping[str, Any]) -> DoremiPhase:
    whole = {**keys, "output_dir": str(folder / name), "resume_from_checkpoint": True}
    return DoremiPhase(
        name=name,
        round=number,
        title=f"round {number}, {name}",
        slug=f"round-{number}-{name}",
        run_file=folder / f"{name}.yaml",
        keys=whole,
        leaves=_weights_of(folder / name) if name is PhaseName.PROXY else None,
    )


def _weights_of(proxy: Path) -> Leaves:
    """The answer of a proxy. An older version may have ended one early without a word of what it lacks."""
    return Leaves(
        path=proxy / WEIGHTS_NAME,
        lacking="before it had moved a weight: there is no average to go on with. Lower its warmup_step, or let it "
        "train longer (early_stopping_steps).",
        ended_early="; the average of its weights is over these",
    )


def _shared(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """What a phase takes over from the top."""
    counts = _has_length(own)
    return {key: value for key, value in base.items() if not (counts and key == "max_steps")}


def _has_length(own: Mapping[str, Any]) -> bool:
    """Whether a phase has a length of its own other than max_steps: it does not train for the max_steps of all."""
    epochs = own.get("num_train_epochs") and not own.get("max_steps")
    return bool(own.get("train_step") or own.get("update_times") or epochs)


def _reference(base: Mapping[str, Any], own: Mapping[str, Any], folder: Path, weights: Path | None) -> dict[str, Any]:
    shared = _shared(base, own)
    if weights is not None:
        sampling = {"mixture_sample_rule": "mixture", "init_mixture_proportions": f"from:{weights}"}
        kept = {key: value for key, value in own.items() if key not in (*sampling, "mixture_temperature")}
        return {**shared, "train_type": "static_mix", **kept, **sampling}
    rule = "mixture" if "init_mixture_proportions" in own else "uniform"
    return {**shared, "train_type": "static_mix", "mixture_sample_rule": rule, **own}


def _proxy(base: Mapping[str, Any], own: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    keys = {**_shared(base, own), **own}
    # Under dynamic_mix the length is train_step; a max_steps beside one of the phase's own is for the checks to refuse.
    steps = int(keys.get("train_step") or 0)
    if not _has_length(own):
        steps = max(int(keys.pop("max_steps", 0) or 0), 0)
    names = domain_names(keys["dataset"])
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
