"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from dataflex import ComponentSpec, Kind, Need, Problem, hookimpl
from dataflex.run_checks import names_targets
from dataflex.runs import RunFacts
from dataflex_mixers_aioli.params import sweep_steps, unfit_domains

TARGET = "dataflex_mixers_aioli.mixer:AioliMixer"


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The mixer ``aioli``."""
    return [
        ComponentSpec(
            kind=Kind.MIXER,
            name="aioli",
            target=TARGET,
            params="dataflex_mixers_aioli.params:AioliParams",
            api=1,
            summary="Aioli: short turns that are nearly of one domain say which domains lower the losses.",
            needs=frozenset({Need.DOMAINS}),
            stochastic=True,
            paper="Chen et al. 2024, arXiv 2411.05735, Algorithm 2",
        )
    ]


@hookimpl
def dataflex_check_run(run: RunFacts) -> list[Problem]:
    """Compare domains and steps with what a sweep takes, before anything loads."""
    mine = [run.seen_from(part) for part in run.parts if part.component.target == TARGET]
    return [problem for one in mine for problem in (*_unfit(one), *_targets(one))]


def _targets(run: RunFacts) -> Iterator[Problem]:
    if run.params.get("targets"):
        yield from names_targets(run, "mixer aioli")


def _unfit(run: RunFacts) -> Iterator[Problem]:
    given = run.arguments.get("dataset")
    listed = given.split(",") if isinstance(given, str) else given
    if not isinstance(listed, list):
        return
    params, steps, domains = run.params, run.steps, len(listed)
    if refusal := unfit_domains(domains, params["hot"], params["force"]):
        yield Problem(refusal)
        return
    sweep = sweep_steps(params["rounds"], domains, steps.update * run.every)
    origin = run.origin("component_params.round_steps")
    if params["round_steps"] <= sweep:
        yield Problem(
            f"round_steps: {params['round_steps']} of mixer 'aioli' (from {origin}) is no longer than its sweep: "
            f"rounds: {params['rounds']} of {domains} domains, {steps.update * run.every} steps each: {sweep} steps.",
            "Raise round_steps, or lower rounds or update_step.",
        )
    past = steps.train - steps.warmup if steps.train > 0 else steps.update * steps.times
    if past <= sweep and (steps.train > 0 or steps.times >= 0):
        yield Problem(
            f"the run has {past} steps past its warm-up and the first sweep of mixer 'aioli' takes {sweep}, so nothing "
            "would be trained in the mixture that it finds.",
            "Train longer, or lower rounds or update_step.",
        )
