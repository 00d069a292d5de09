"""The phases of a MixMin project, each an ordinary run file::

models/DOMAIN.yaml      a small run on one domain alone; none where models are given
scores/DOMAIN-.../      log-probabilities of the target's rows, by `dataflex score`
weights.json            the mixture
final.yaml              from:weights.json
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataflex import ConfigError
from dataflex.hints import did_you_mean
from dataflex.paths import user_path
from dataflex.phases.beside import resolve_beside
from dataflex.phases.checks import domain_names
from dataflex.phases.phase import WEIGHTS, Phase
from dataflex.phases.static import shared_keys, static_keys

SECTION = "mixmin"
WEIGHTS_NAME = "weights.json"
UNIT = "sample"
_KEYS = ("models", "target", "unit", "final")
_NOT_OF_A_PHASE = ("output_dir", "dataset", "train_type", "component_name", "components")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A project.

    Attributes:
        root: Its folder.
        domains: Names of the domains.
        target: The data set whose log-probabilities count.
        models: The folder or name of each domain's model, in the order of the domains.
        trained: The runs that train them; none where they are given.
        scored: The keys that the target's rows are scored under, but for the model.
        final: The final run; ``None`` if there is none.
    """

    root: Path
    domains: tuple[str, ...]
    target: str
    models: tuple[str, ...]
    trained: tuple[Phase, ...]
    scored: Mapping[str, Any]
    final: Phase | None

    @property
    def phases(self) -> list[Phase]:
        """All training runs, in order."""
        return [*self.trained, *(() if self.final is None else (self.final,))]


def plan_project(keys: Mapping[str, Any], run_file: Path) -> Plan:
    """Lay out the phases.

    Args:
        keys: The project file: what all phases share, and under ``mixmin`` the rest.
        run_file: Where it lies: what it names beside itself is named in full.

    Raises:
        ConfigError: with every problem found, one a line.
    """
    source, beside = run_file.name, run_file.parent
    section = keys.get(SECTION) or {}
    if not isinstance(section, Mapping):
        raise ConfigError(f"{SECTION} (from {source}) must be a mapping, not {section!r}.")
    shared = shared_keys(resolve_beside(keys, beside), SECTION, source)
    domains, root = tuple(domain_names(shared["dataset"])), Path(str(shared["output_dir"]))
    if problems := list(_problems(section, domains, domain_names(keys.get("eval_dataset")), source)):
        raise ConfigError("\n".join(problems))
    models = section.get("models") or {}
    given = _given(models, domains)
    own = {} if given else resolve_beside(dict(models), beside)
    trained = () if given else tuple(_model_phase(shared, own, root, name, domains) for name in domains)
    folders = [models[name] for name in domains] if given else [each.output_dir for each in trained]
    weights = root / WEIGHTS_NAME
    final = None
    if "final" not in section or section["final"] is not None:
        sampling = {"mixture_sample_rule": "mixture", "init_mixture_proportions": f"{WEIGHTS}{weights}"}
        theirs = resolve_beside(dict(section.get("final") or {}), beside)
        whole = static_keys(shared, theirs, root / "final", **sampling)
        final = Phase(title="final run", slug="final", run_file=root / "final.yaml", keys=whole)
    target = str(section["target"])
    return Plan(
        root=root,
        domains=domains,
        target=target,
        models=tuple(map(str, folders)),
        trained=trained,
        scored={**shared, **own, "dataset": target, "eval_dataset": None, "output_dir": None},
        final=final,
    )


def _model_phase(
    shared: Mapping[str, Any], own: Mapping[str, Any], root: Path, name: str, domains: tuple[str, ...]
) -> Phase:
    shares = {each: float(each == name) for each in domains}
    sampling = {"mixture_sample_rule": "mixture", "init_mixture_proportions": shares}
    keys = static_keys(shared, own, root / "models" / name, **sampling)
    return Phase(title=f"model of {name}", slug=f"model-{name}", run_file=root / "models" / f"{name}.yaml", keys=keys)


def _given(models: Any, domains: tuple[str, ...]) -> bool:
    """Whether models are given by domain, in place of keys to train them with."""
    return isinstance(models, Mapping) and bool(set(models) & set(domains))


def _problems(section: Mapping[str, Any], domains: tuple[str, ...], sets: list[str], source: str) -> Iterator[str]:
    for name in section:
        if name not in _KEYS:
            hint = did_you_mean(str(name), _KEYS)
            yield f"{SECTION}.{name} (from {source}) is no key; there are {', '.join(_KEYS)}.{hint}"
    if not section.get("target"):
        yield (
            f"{SECTION}.target is missing from {source}: the data set whose rows the mixture is to make likely"
            + (f", such as {sets[0]}." if sets else ".")
        )
    elif len(domain_names(str(section["target"]))) > 1:
        yield f"{SECTION}.target: {section['target']} (from {source}) must be one data set."
    if section.get("unit", UNIT) != UNIT:
        yield f"{SECTION}.unit: {section['unit']} (from {source}) must be {UNIT}: whole rows of the target are mixed."
    for name in ("models", "final"):
        given = section.get(name)
        if given is not None and not isinstance(given, Mapping):
            yield f"{SECTION}.{name} (from {source}) must be a mapping, not {given!r}."
            continue
        for key in _NOT_OF_A_PHASE:
            if key in (given or {}):
                yield f"{SECTION}.{name}.{key} (from {source}): set it at the top; it is the same for every phase."
    models = section.get("models")
    if _given(models, domains) and isinstance(models, Mapping):
        if sorted(models) != sorted(domains):
            yield (
                f"{SECTION}.models (from {source}) names {', '.join(map(str, models))}, but there are "
                f"{', '.join(domains)}. Give each domain its model, or keys to train them with."
            )
        for name, path in models.items():
            if not isinstance(path, str) or not path:
                yield f"{SECTION}.models.{name}: {path!r} (from {source}) must be a folder or a name on a hub."
            elif path.startswith(("/", "./", "../", "~")) and not user_path(path).is_dir():
                yield f"{SECTION}.models.{name}: {path} (from {source}) does not exist."
