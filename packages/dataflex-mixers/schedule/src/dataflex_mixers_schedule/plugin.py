"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from dataflex import ComponentSpec, Kind, Need, Problem, hookimpl
from dataflex.hints import did_you_mean
from dataflex.runs import RunFacts

TARGET = "dataflex_mixers_schedule.mixer:ScheduleMixer"


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The mixer ``schedule``."""
    return [
        ComponentSpec(
            kind=Kind.MIXER,
            name="schedule",
            target=TARGET,
            params="dataflex_mixers_schedule.params:ScheduleParams",
            api=1,
            summary="Move the proportions along a schedule of steps, by domain name.",
            needs=frozenset({Need.DOMAINS}),
        )
    ]


@hookimpl
def dataflex_check_run(run: RunFacts) -> list[Problem]:
    """Compare the names in ``points`` with the data sets of the run, before anything loads."""
    return list(_wrong_names(run)) if run.component.target == TARGET else []


def _wrong_names(run: RunFacts) -> Iterator[Problem]:
    given = run.arguments.get("dataset")
    listed = given.split(",") if isinstance(given, str) else given
    if not isinstance(listed, list):
        return
    origin = run.origin("component_params.points")
    domains = [str(name).strip() for name in listed]
    named = next(iter(run.params["points"].values()))  # all points name the same
    for name in named:
        if name not in domains:
            yield Problem(
                f"points of mixer 'schedule' names the unknown domain {name!r} (from {origin})."
                + did_you_mean(name, domains),
                f"The domains are the data sets: {', '.join(domains)}.",
            )
    for name in domains:
        if name not in named:
            yield Problem(
                f"points of mixer 'schedule' leaves out the domain {name!r} (from {origin}).",
                "Name every data set at every step, with 0 for those left out.",
            )
