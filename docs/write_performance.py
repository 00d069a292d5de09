"""Write ``docs/performance.md`` from the newest table in ``benchmarks/results/``: ``nox -s docs -- --write``.

A test fails when the page is not what the table says.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = Path(__file__).parent / "performance.md"
DATED = re.compile(r"\d{4}-\d\d-\d\d-.+\.json")
_ON_GPU = "gpu/less: candidate pass over plain forward and backward"
_HEADS = ("what", "beside", "median", "least to most", "to reach", "model", "rows", "batch")


def newest() -> Path:
    """The last table that was written."""
    return max(path for path in RESULTS.glob("*.json") if DATED.fullmatch(path.name))


def page() -> str:
    """The whole page."""
    path = newest()
    sections = json.loads(path.read_text(encoding="utf-8"))
    runs = json.loads((RESULTS / "equal_time.json").read_text(encoding="utf-8"))
    rows = [row for section in sections for row in section["rows"]]
    missed = [row for row in rows if row["met"] is False]
    aims = sum(row["met"] is not None for row in rows)
    parts = [
        "<!-- Made from benchmarks/results/ by `nox -s docs -- --write`; the text around the tables is in "
        "docs/write_performance.py. -->\n# Performance",
        f"Every figure of this page was measured by a script of `benchmarks/`; [{path.name}](../benchmarks/results/"
        f"{path.name}) keeps them with their commands. `nox -s bench` measures again and makes the page. What is "
        "measured beside what was settled before, in [rows.yaml](../benchmarks/rows.yaml).",
        _setting(rows),
        f"**{aims - len(missed)} of {aims} aims are reached.**"
        + "".join(f"\n- Missed: {row['what']} ({row['beside']}; {row['model']}): {_median(row)}, "
                  f"to reach {row['reach']}. {row.get('tried', '')}".rstrip() for row in missed),
        f"On a GPU, where no aim was set, `less` reached {_median(_figure(_ON_GPU))} of plain forward and backward "
        "passes, where 0.9 is asked of it on a CPU: [below](#on-one-gpu).",
        *(_section(section) for section in sections),
        _equal_time(runs),
        _notes(),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _setting(rows: Sequence[Mapping[str, Any]]) -> str:
    machines = sorted({row["machine"] for row in rows})
    threads = sorted({str(row["threads"]) for row in rows})
    versions: dict[str, set[str]] = {}
    for row in rows:
        for name, version in row["versions"].items():
            versions.setdefault(name, set()).add(version)
    named = ", ".join(f"{name} {' / '.join(sorted(found))}" for name, found in versions.items())
    return (
        f"Machine: {', '.join(machines)}, shared with other work; {', '.join(threads)} thread; no GPU. {named}. Ratios "
        "are of runs that take turns in one process or in alternating processes, so that other work slows both sides; "
        "costs of steps and of scoring are CPU seconds, starting and planning are by the wall clock. Median, least and "
        "most are over runs. Models are random Qwen2 of the given hidden size x layers."
    )


def _section(section: Mapping[str, Any]) -> str:
    lines = [f"## {section['section']}", _line(_HEADS), _line(["---"] * len(_HEADS))]
    for row in section["rows"]:
        verdict = {None: "", True: f"{row.get('reach')}: yes", False: f"{row.get('reach')}: **no**"}[row["met"]]
        spread = f"{row['least']:.3g} to {row['most']:.3g} ({row['runs']:.0f})" if row["runs"] > 1 else "one run"
        sizes = (row.get("model", ""), f"{row['n']:,}" if "n" in row else "", row.get("batch", ""))
        lines.append(_line([row["what"], row["beside"], _median(row), spread, verdict, *sizes]))
    said = f"{_growth()}\n\n" if section["section"] == "Growth with the pool" else ""
    return f"{lines[0]}\n\n{said}" + "\n".join(lines[1:])


def _equal_time_of_one_toy(kept: Mapping[str, Any]) -> str:
    """Figures of before ``dataflex study``, which compared at equal working time."""
    heads = ("run", "steps", "cost", "loss, docstrings", "loss, others", "docstrings chosen", "gained at equal steps",
             "gained at equal time")  # fmt: skip
    lines = [_line(heads), _line(["---"] * len(heads))]
    longest = max(row["steps"] for name, row in kept["runs"].items() if name.startswith("random"))
    for name, row in kept["runs"].items():
        own = not name.startswith("random")
        gains = [
            f"{statistics.mean(gains):+.3f} ({sum(gain > 0 for gain in gains)} of {len(gains)})" if own else ""
            for gains in (row["below_random_at_equal_steps"], row["below_random_at_equal_time"])
        ]
        cells = [
            name,
            row["steps"],
            f"{row['cost_in_steps']:.0f}",
            f"{row['target_loss']:.3f}",
            f"{row['others_loss']:.3f}",
        ]
        lines.append(_line([*cells, f"{row['share_of_target']:.0%}", *gains]))
    selected = {name: row["below_random_at_equal_time"] for name, row in kept["runs"].items() if "random" not in name}
    beyond = [name for name in selected if kept["runs"][name]["cost_in_steps"] > longest]
    best = max(set(selected) - set(beyond), key=lambda name: statistics.mean(selected[name]))
    ahead = [name for name, gains in selected.items() if statistics.mean(gains) > 0]
    return (
        "## Loss at equal working time\n\n"
        f"The demo's text, model and schedule, seeds {', '.join(map(str, kept['seeds']))}; means over them. `a x b`: a "
        "boundaries, b steps after each, after a warm-up of 20. *Cost* counts training and scoring in steps of the "
        "same run. *Gained* is how much lower the loss on docstrings is than random selection's at the same number of "
        "steps, or at the same cost, and in how many seeds it is lower at all; above "
        f"{longest} steps, the longest random run, the end of that run is compared with, which flatters the other "
        f"(measured by the `benchmarks/equal_time.py` of before `dataflex study`).\n\n"
        + (
            f"At equal time, ahead of random selection: {', '.join(ahead)}. "
            if ahead
            else "**At equal time, no setting of a selector beats random selection here.** "
        )
        + f"The best of those that random selection was run as long as is `{best}`: "
        f"{statistics.mean(selected[best]):+.3f}; dearer, and so flattered: "
        f"{', '.join(f'`{name}`' for name in beyond)}.\n\n" + "\n".join(lines)
    )


def _equal_time(study: Mapping[str, Any]) -> str:
    """The study of the demo's text, from its study.json."""
    if "study" not in study:
        return _equal_time_of_one_toy(study)
    heads = ("arm", "steps", "cost", "loss, docstrings", "loss, others", "at equal steps", "at equal cost", "pays")
    lines = [_line(heads), _line(["---"] * len(heads))]
    series: dict[str, list[Mapping[str, Any]]] = {}
    for run in study["runs"]:
        length = run["length"]
        series.setdefault(run["arm"] if length in (None, 1) else f"{run['arm']}@{length:g}", []).append(run)
    baseline = study["study"]["baseline"]
    for name in sorted(series, key=lambda name: (not name.startswith(baseline), series[name][0]["steps"])):
        runs, arm = series[name], study["arms"].get(name)
        means = [
            statistics.mean(values)
            for values in zip(
                *((run["cost"]["steps"], run["metric"], run["metrics"]["eval_others_loss"]) for run in runs),
                strict=True,
            )
        ]
        cells = [name, runs[0]["steps"], f"{means[0]:.0f}", f"{means[1]:.3f}", f"{means[2]:.3f}"]
        own = ["", "", ""] if arm is None else [_gain(arm["equal_steps"]), _gain(arm["equal_cost"]), _pays(arm)]
        lines.append(_line([*cells, *own]))
    verdicts = [arm["verdict"] for arm in study["arms"].values() if arm["verdict"]]
    better = [verdict for verdict in verdicts if " is better than " in verdict]
    said = "; ".join(better) if better else "no setting of a selector is better than random selection here"
    return (
        "## Loss at equal cost\n\n"
        f"The study [quickstart.yaml](../benchmarks/studies/quickstart.yaml) of the demo's text, seeds "
        f"{', '.join(map(str, study['study']['seeds']))}; means over them ([what the columns mean](study.md)). "
        "`random@4` is random selection for four times the steps. *Cost* counts training and deciding in steps of the "
        "same run. "
        "Nothing is extrapolated: an arm dearer than the longest random run is not compared at equal cost "
        "(`python benchmarks/equal_time.py --write`).\n\n"
        f"**At equal cost, {said}.**\n\n" + "\n".join(lines)
    )


def _gain(found: Mapping[str, Any]) -> str:
    said = [f"{found['mean']:+.3f} ({found['better']} of {found['n']})"] if found["n"] else []
    said += [f"{side} than all in {len(found[side])}" for side in ("dearer", "cheaper") if found[side]]
    return ", ".join(said)


def _pays(arm: Mapping[str, Any]) -> str:
    return f"{arm['pays'].count(True)} of {len(arm['pays'])}"


def _notes() -> str:
    """The text of ``performance_notes.md``, with figures in place of their names in double brackets."""
    text = (Path(__file__).parent / "performance_notes.md").read_text(encoding="utf-8").strip()
    text = re.sub(r"\[\[(.+?)\]\]", lambda name: _median(_figure(name[1])), text)
    return re.sub(r"\{\{(.+?)\}\}", lambda name: _line_through(*name[1].split("|")), text)


def _figure(name: str) -> dict[str, float]:
    """A figure that a script kept: ``file/name of the figure``."""
    file, _, key = name.partition("/")
    found: dict[str, float] = json.loads((RESULTS / f"{file}.json").read_text(encoding="utf-8"))["figures"][key]
    return found


def _line_through(pattern: str, unit: str) -> str:
    """A fixed part and a slope by least squares, through figures whose names differ by a number of rows, the ``#``."""
    file, _, key = pattern.partition("/")
    kept = json.loads((RESULTS / f"{file}.json").read_text(encoding="utf-8"))["figures"]
    name = re.compile(re.escape(key).replace(r"\#", r"(\d+)"))
    points = [(int(found[1]) / 1e6, kept[found[0]]["median"]) for found in map(name.fullmatch, kept) if found]
    slope, fixed = statistics.linear_regression(*zip(*points, strict=True))
    return f"{fixed:.2g} {unit} and {slope:.2g} {unit} more a million rows ({fixed + 100 * slope:,.0f} {unit} at 100 M)"


def _growth() -> str:
    """How the cost of a row changes from the smallest measured pool to the largest."""
    said = []
    for name in ("loss", "less"):
        small, large = (_figure(f"scoring/{name}, ms a row of {rows}")["median"] for rows in (500, 8000))
        said.append(f"{large / small:.2f} with `{name}`")
    return (
        f"In 16 times the pool a row costs a part of what it did, {' and '.join(said)}: a pass grows in proportion, "
        "beside a fixed cost."
    )


def _median(row: Mapping[str, Any]) -> str:
    median = row["median"]
    return f"{median:,.0f}" if median >= 1000 else f"{median:.3g}"


def _line(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
