"""The tables of a study: its arms beside the baseline, and its runs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from dataflex.report.tables import duration
from dataflex.study.paired import spelt_p
from dataflex.study.study_run import Cost, Status, StudyRun

Row = dict[str, str]


def arm_rows(runs: Sequence[StudyRun], arms: Mapping[str, Any], *, baseline: str, unit: str) -> list[Row]:
    """A row for each arm, the baseline's lengths first.

    Args:
        runs: The runs.
        arms: What is said of each arm, as study.json has it.
        baseline: Name of the baseline.
        unit: The unit of cost.
    """
    lengths = {run.name: run.length if run.arm == baseline else None for run in runs}
    series = sorted(lengths, key=lambda name: (lengths[name] is None, lengths[name] or 0))
    return [_arm(name, [run for run in runs if run.name == name], arms.get(name), unit) for name in series]


def _arm(name: str, runs: Sequence[StudyRun], found: Mapping[str, Any] | None, unit: str) -> Row:
    done = [run for run in runs if run.status is Status.DONE]
    row = {
        "arm": name,
        "runs": f"{len(done)} of {len(runs)}",
        "steps": _range([run.steps for run in done]),
        "metric": number(_mean([run.value for run in done])),
        "cost": number(_mean([run.cost.get(unit) for run in done])),
        "deciding": number(_mean([run.deciding.get(unit) for run in done])),
    }
    if unit == Cost.SECONDS and any(run.shared_cores for run in done):
        row["cpu_seconds"] = number(_mean([run.cost.get(Cost.CPU_SECONDS.value) for run in done]))
    if found is None:
        return row | dict.fromkeys(("gain at equal steps", "gain at equal cost", "rho", "pays", "other sets"), "")
    return row | {
        "gain at equal steps": gain(found["equal_steps"]),
        "gain at equal cost": gain(found["equal_cost"]),
        "rho": _rho(found["rho"]),
        "pays": worth(found),
        "other sets": ", ".join(f"{metric} {mean:+.3g}" for metric, mean in found["others"].items()),
    }


def gain(found: Mapping[str, Any]) -> str:
    """A comparison in words: mean, interval and p of five seeds or more; all gains of fewer."""
    said = []
    if found["p"] is not None and found["interval"] is not None:
        low, high = found["interval"]
        said.append(f"{found['mean']:+.3g} [{low:+.3g}, {high:+.3g}], p {spelt_p(found['p_holm'])}")
    elif found["gains"]:
        listed = ", ".join(f"{each:+.3g}" for each in found["gains"])
        said.append(f"{found['mean']:+.3g} ({found['better']} of {found['n']} better: {listed})")
    for word, side in (("dearer", "dearer"), ("cheaper", "cheaper")):
        if found[side]:
            said.append(f"{word} than every baseline in {len(found[side])}")
    if found["excluded"]:
        said.append(f"{found['excluded']} left out")
    return "; ".join(said)


def worth(found: Mapping[str, Any]) -> str:
    """Both sides of the inequality, as means, and in how many seeds it pays."""
    pays = found["pays"]
    if not pays:
        return ""
    deciding, allowed = (number(statistics.fmean(found[side])) for side in ("deciding", "allowed"))
    open_ended = "" if None not in pays else f", open in {pays.count(None)}"
    return f"{pays.count(True)} of {len(pays)}{open_ended} (deciding {deciding}, allowed {allowed})"


def _rho(values: Sequence[float | str]) -> str:
    """Numbers one by one, bounds with the seeds they hold in."""
    numbers = [f"{value:.3g}" for value in values if not isinstance(value, str)]
    words = [value for value in values if isinstance(value, str)]
    counted = [f"{word}{f' in {words.count(word)}' if len(values) > 1 else ''}" for word in dict.fromkeys(words)]
    return ", ".join([*numbers, *counted])


def run_rows(runs: Sequence[StudyRun], unit: str) -> list[Row]:
    """A row for each run."""
    return [
        {
            "run": run.name,
            "seed": str(run.seed),
            "steps": "" if run.steps is None else f"{run.steps:,}",
            "state": run.status.value,
            "metric": number(run.value) if run.value is not None else "none" if run.status is Status.DONE else "",
            "cost": number(run.cost.get(unit)),
            **{part: duration(run.seconds.get(part) or 0.0) for part in ("training", "deciding", "evaluating")},
            "remark": run.error,
        }
        for run in runs
    ]


def filled(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells; columns that are empty in every row are left out."""
    heads = list(dict.fromkeys(head for row in rows for head in row))
    heads = [head for head in heads if any(row.get(head) for row in rows)]
    return heads, [[row.get(head, "") for head in heads] for row in rows]


def number(value: float | None) -> str:
    """A number with four digits; nothing for none."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _range(values: Sequence[int | None]) -> str:
    known = sorted({value for value in values if value is not None})
    return "" if not known else f"{known[0]:,}" if len(known) == 1 else f"{known[0]:,} to {known[-1]:,}"
