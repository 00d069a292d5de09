"""The tables of a report, as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dataflex.report.run import RunData


def comparison(runs: Sequence[RunData]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table with one row a run; columns that are empty for all are left out."""
    rows = [_facts(run) for run in runs]
    heads = [head for head in rows[0] if any(row[head] for row in rows)]
    return heads, [[row[head] for head in heads] for row in rows]


def _facts(run: RunData) -> dict[str, str]:
    info = run.info
    evals = {name: line.last for name, line in run.series.items() if name.startswith("eval_") and name.endswith("loss")}
    overlap = run.over_decisions("overlap")
    return {
        "run": run.name,
        "component": info.title if info is not None else "",
        "state": run.state,
        "boundaries": f"{len(run.boundaries):,}" if run.boundaries else "",
        "last training loss": f"{loss.last:.4g}" if (loss := run.training_loss) is not None else "",
        "last eval loss": ", ".join(f"{_short(name)}{value:.4g}" for name, value in sorted(evals.items())),
        "mean overlap": f"{overlap.values.mean():.1%}" if overlap is not None else "",
        "pool used": f"{run.usage.coverage.last:.1%}" if run.usage is not None else "",
        "effective samples": f"{run.series['weight_ess'].values.mean():.1%}" if "weight_ess" in run.series else "",
        "training": duration(run.seconds.get("training", 0.0)),
        "scoring": duration(run.seconds.get("scoring", 0.0)),
        "checkpoints": duration(run.seconds.get("checkpoints", 0.0)),
    }


def _short(name: str) -> str:
    inner = name.removeprefix("eval_").removesuffix("loss").strip("_")
    return f"{inner} " if inner else ""


def settings(run: RunData) -> dict[str, Mapping[str, str]]:
    """What ran, by heading: name and value as text."""
    info = run.info
    if info is None:
        return {"Run": {"output directory": str(run.folder)}}
    facts: dict[str, Any] = {
        "output directory": str(run.folder),
        "train_type": info.train_type,
        "component": f"{info.component} ({info.dist})",
        "started": info.started,
        "steps": f"{info.total} (warm-up {info.warmup}, a boundary every {info.update})",
        "samples a step": f"{info.global_batch} over {info.ranks} process(es)",
        "pool": f"{info.pool:,} rows",
        "seed": info.seed if info.data_seed in (None, info.seed) else f"{info.seed}, of rows {info.data_seed}",
    }
    if info.domains:
        sizes = zip(info.domains, info.domain_sizes, strict=True)
        facts["domains"] = ", ".join(f"{name} ({size:,})" for name, size in sizes)
    if len(info.components) > 1:
        facts["component"] = ", ".join(f"{each.get('component')} ({each.get('dist')})" for each in info.components)
    params: dict[str, Mapping[str, Any]] = {
        f"Parameters of the {each.get('kind')}": each.get("params") or {} for each in info.components
    }
    params = params if len(params) > 1 else {"Parameters": info.params}
    groups = {"Run": facts, **params, "Configuration": info.arguments}
    groups |= {"Asked for, but not known of the tokenised rows": info.unchecked, "Versions": info.versions}
    return {head: {name: _text(value) for name, value in group.items()} for head, group in groups.items() if group}


def duration(seconds: float) -> str:
    """Seconds in the unit that suits; empty for none."""
    if not seconds:
        return ""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
