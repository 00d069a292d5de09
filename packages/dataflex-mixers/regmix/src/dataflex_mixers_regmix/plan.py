"""The phases of a RegMix project, each an ordinary run file::

runs/prior.yaml         a small run at the prior; its record tells the tokens of each domain
mixtures/001.json ...   drawn around the prior
runs/001.yaml ...       small runs, from:mixtures/001.json; they may run at the same time
runs.csv, weights.json  what they found
check.yaml              a small run, from:weights.json
final.yaml              from:weights.json
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataflex import ConfigError
from dataflex.hints import did_you_mean
from dataflex.phases.beside import resolve_beside
from dataflex.phases.checks import domain_names
from dataflex.phases.phase import WEIGHTS, Phase
from dataflex.phases.static import shared_keys, static_keys
from dataflex_mixers_regmix.answer_files import WEIGHTS_NAME
from dataflex_mixers_regmix.draws import default_count
from dataflex_mixers_regmix.search import least_runs
from dataflex_mixers_regmix.settings import OBJECTIVE, SECTION, Prior, Settings, read_settings

LAW = "loglinear"
_KEYS = ("runs", *OBJECTIVE, "law", "final")
_NOT_OF_A_PHASE = ("output_dir", "dataset", "eval_dataset", "train_type", "component_name", "components")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A project.

    Attributes:
        root: Its folder.
        seed: Its seed.
        domains: Names of the domains.
        sets: Names of the eval sets.
        settings: What is looked for.
        prior: The run at the prior.
        runs: The runs on drawn mixtures.
        check: The run at the mixture that was found.
        final: The final run; ``None`` if there is none.
    """

    root: Path
    seed: int
    domains: tuple[str, ...]
    sets: tuple[str, ...]
    settings: Settings
    prior: Phase
    runs: tuple[Phase, ...]
    check: Phase
    final: Phase | None

    @property
    def phases(self) -> list[Phase]:
        """All of them, in order."""
        return [self.prior, *self.runs, self.check, *(() if self.final is None else (self.final,))]


def mixture_path(root: Path, run: int) -> Path:
    """Where the mixture of a run is written."""
    return root / "mixtures" / f"{run:03d}.json"


def plan_project(keys: Mapping[str, Any], run_file: Path) -> Plan:
    """Lay out the phases.

    Args:
        keys: The project file: what all phases share, and under ``regmix`` the rest.
        run_file: Where it lies: what it names beside itself is named in full.

    Raises:
        ConfigError: with every problem found, one a line.
    """
    source, beside = run_file.name, run_file.parent
    section = keys.get(SECTION) or {}
    if not isinstance(section, Mapping):
        raise ConfigError(f"{SECTION} (from {source}) must be a mapping, not {section!r}.")
    sets = tuple(domain_names(keys.get("eval_dataset")))
    shared = shared_keys(resolve_beside(keys, beside), SECTION, source)
    if problems := list(_problems(section, sets, shared, source)):
        raise ConfigError("\n".join(problems))
    settings = read_settings(section, f"{SECTION} in {source}")
    settings.weights(sets)
    domains, root = tuple(domain_names(shared["dataset"])), Path(str(shared["output_dir"]))
    own = resolve_beside(dict(section.get("runs") or {}), beside)
    count = int(own.pop("count", default_count(len(domains))))
    small = {**own, "do_eval": True, "eval_on_each_dataset": True}

    def run(name: str, title: str, folder: Path, **sampling: Any) -> Phase:
        found = static_keys(shared, small, folder / name, mixture_unit="tokens", **sampling)
        return Phase(title=title, slug=f"run-{name}", run_file=folder / f"{name}.yaml", keys=found)

    weights = root / WEIGHTS_NAME
    final = None
    if "final" not in section or section["final"] is not None:
        theirs = resolve_beside(dict(section.get("final") or {}), beside)
        whole = static_keys(shared, theirs, root / "final", mixture_unit="tokens", **_by(weights))
        final = Phase(title="final run", slug="final", run_file=root / "final.yaml", keys=whole)
    return Plan(
        root=root,
        seed=int(shared.get("seed", 42)),
        domains=domains,
        sets=sets,
        settings=settings,
        prior=run("prior", "run at the prior", root / "runs", **_at_prior(settings, domains, sets)),
        runs=tuple(
            run(f"{number:03d}", f"run {number} of {count}", root / "runs", **_by(mixture_path(root, number)))
            for number in range(1, count + 1)
        ),
        check=run("check", "run at the mixture that was found", root, **_by(weights)),
        final=final,
    )


def _by(path: Path) -> dict[str, str]:
    return {"mixture_sample_rule": "mixture", "init_mixture_proportions": f"{WEIGHTS}{path}"}


def _at_prior(settings: Settings, domains: tuple[str, ...], sets: tuple[str, ...]) -> dict[str, Any]:
    if settings.prior is Prior.UNIFORM:
        return {"mixture_sample_rule": "uniform"}
    if settings.prior is Prior.TOKENS and settings.tokens is None:
        return {"mixture_sample_rule": "stratified"}
    shares = settings.wanted(domains, sets).prior_K
    by_name = dict(zip(domains, shares.tolist(), strict=True))
    return {"mixture_sample_rule": "mixture", "init_mixture_proportions": by_name}


def _problems(
    section: Mapping[str, Any], sets: tuple[str, ...], shared: Mapping[str, Any], source: str
) -> Iterator[str]:
    if not sets:
        yield f"eval_dataset is missing from {source}: the losses of the runs on eval sets are what the law is of."
    for name in section:
        if name not in _KEYS:
            yield f"{SECTION}.{name} (from {source}) is no key; there are {', '.join(_KEYS)}." + did_you_mean(
                str(name), _KEYS
            )
    if shared.get("mixture_unit", "tokens") != "tokens":
        yield f"mixture_unit: {shared['mixture_unit']} (from {source}): shares here are of tokens. Leave it out."
    if section.get("law", LAW) != LAW:
        yield f"{SECTION}.law: {section['law']} (from {source}) must be {LAW}."
    for name in ("runs", "final"):
        given = section.get(name)
        if given is not None and not isinstance(given, Mapping):
            yield f"{SECTION}.{name} (from {source}) must be a mapping of keys to values, not {given!r}."
            continue
        for key in _NOT_OF_A_PHASE:
            if key in (given or {}):
                yield f"{SECTION}.{name}.{key} (from {source}): set it at the top; it is the same for every phase."
    runs = section.get("runs")
    least = least_runs(len(domain_names(shared["dataset"])))
    count = runs.get("count") if isinstance(runs, Mapping) else None
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < least):
        yield f"{SECTION}.runs.count: {count!r} (from {source}) must be a whole number of at least {least}."
