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


def _equal_time(study: Mapping[str, Any]) -> str:
    """The table of the quickstart's study, as its record has it."""
    heads = ("arm", "steps", "CPU s", "of it deciding", "loss, docstrings", "loss, others", "at equal steps",
             "at equal cost", "pays")  # fmt: skip
    lines = [_line(heads), _line(["---"] * len(heads))]
    series: dict[str, list[Mapping[str, Any]]] = {}
    for run in study["runs"]:
        length = run["length"]
        series.setdefault(run["arm"] if length in (None, 1) else f"{run['arm']}@{length:g}", []).append(run)
    baseline = study["study"]["baseline"]
    for name in sorted(series, key=lambda name: (not name.startswith(baseline), series[name][0]["steps"])):
        runs, arm = series[name], study["arms"].get(name)
        cost, deciding, loss, others = (
            statistics.mean(values)
            for values in zip(
                *(
                    (
                        run["cost"]["cpu_seconds"],
                        run["deciding"]["cpu_seconds"],
                        run["metric"],
                        run["metrics"]["eval_others_loss"],
                    )
                    for run in runs
                ),
                strict=True,
            )
        )
        cells = [name, runs[0]["steps"], f"{cost:.1f}", f"{deciding:.1f}", f"{loss:.3f}", f"{others:.3f}"]
        own = ["", "", ""] if arm is None else [_gain(arm["equal_steps"]), _gain(arm["equal_cost"]), _pays(arm)]
        lines.append(_line([*cells, *own]))
    better = [
        f"`{name}` by {_gain(arm['equal_cost'])}"
        for name, arm in study["arms"].items()
        if " is better than " in (arm["verdict"] or "")
    ]
    said = f"better than random selection: {', '.join(better)}" if better else "none is better than random selection"
    return (
        "## Loss at equal cost\n\n"
        f"The study [quickstart.yaml](../benchmarks/studies/quickstart.yaml) of the demo's text, seeds "
        f"{', '.join(map(str, study['study']['seeds']))}; means over them ([what the columns mean](study.md)). "
        "`random@4` is random selection for four times the steps; `docstrings` draws from the target's own rows of the "
        "pool, as a reference. The cost is CPU time of training and of deciding: scoring, indexes, directions, labels. "
        "Nothing is extrapolated: an arm dearer than the longest random run is not compared at equal cost "
        "(`python benchmarks/equal_time.py --write`).\n\n"
        f"**At equal cost, {said}.**\n\n" + "\n".join(lines) + "\n\n"
        "A toy, and the best case for words: docstrings differ from the rest of this pool by their words (`lexical` "
        "reports how well: its `separation`), the model is small, and one target is aimed at. What is gained there is "
        "lost on the other domains, in the column beside it; `component_params.share: 0.5` draws half of each stage at "
        "random."
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
