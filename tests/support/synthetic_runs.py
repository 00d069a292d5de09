"""Output directories as runs leave them, without a run: any number of boundaries and rows in no time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dataflex.decisions import Decision, DecisionLog
from dataflex.math.score_summary import score_summary
from dataflex.math.weighting import HISTOGRAM_EDGES, weight_histogram
from dataflex.record.plans import plan_name, result_name
from dataflex.record.run import Ending, Logged, RunInfo, RunRecord, Sample
from dataflex.spec import Kind

DOMAINS = ("web", "code", "a $name$ <of> more than thirty characters")
SAMPLES = (
    "<script>document.title = 'stolen'</script>",
    "quotes: \" ' ` and an &amp; entity",
    "one-very-long-word-" * 100,
    "two\nlines\n\tand a tab, 汉字, مريب and an emoji 🙂",
)


def write_run(
    folder: Path,
    kind: Kind = Kind.SELECTOR,
    *,
    boundaries: int = 8,
    update: int = 5,
    pool: int = 400,
    global_batch: int = 4,
    done: int | None = None,
    seed: int = 0,
) -> Path:
    """Write what a run would have left.

    Args:
        folder: The output directory.
        kind: A select, mix or weight run. The last has no boundaries.
        boundaries: Decisions of the whole run, the first after ``update`` steps.
        update: Steps of each stage.
        pool: Rows.
        global_batch: Samples of a step.
        done: Steps after which it was killed; all, and ended by itself, if not given.
        seed: For all numbers.
    """
    rng, record = np.random.default_rng(seed), RunRecord(folder)
    total = update * (boundaries + 1)
    last = total if done is None else done
    weighs = kind is Kind.WEIGHTER
    steps = [] if weighs else [step for step in range(update, total, update) if step <= last]
    (folder / "decisions").mkdir(parents=True)
    np.save(folder / plan_name(0), rng.integers(pool, size=update * global_batch), allow_pickle=False)
    decide = {Kind.SELECTOR: _selection, Kind.MIXER: _mixture}
    log, entries, decisions = DecisionLog(folder), [], {}
    for stage, step in enumerate(steps, start=1):
        decisions[step] = decide[kind](folder, step, stage, pool, update * global_batch, rng)
    if kind is Kind.MIXER and done is None:  # as mixers with metrics() do at the end
        decisions[total] = replace(decisions[steps[-1]], step=total, plan_ref="", timing={}, seconds=0.0)
    log.folder.mkdir(exist_ok=True)
    log.path.write_text("".join(decision.to_json() + "\n" for decision in decisions.values()))
    for step in range(1, last + 1):
        values = {"loss": 3 * 0.99**step + rng.normal(0, 0.05), "learning_rate": 1e-4}
        if weighs:
            values |= {
                f"weight_{name}": value for name, value in zip(("min", "mean", "max"), (0.2, 1, 2.5), strict=True)
            }
            values |= {"weight_ess": rng.uniform(0.7, 1), "weighted_loss": values["loss"] * 1.1}
            values |= {"unweighted_loss": values["loss"]}
        if kind is Kind.MIXER:
            values |= {f"dataflex/alpha/{domain}": rng.uniform(0.2, 0.5) for domain in DOMAINS}
        entries.append((step, values))
        if step % update == 0:
            entries.append((step, {"eval_held_out_loss": 3 * 0.991**step, "eval_held_out_runtime": 0.5}))
    record.log_path.parent.mkdir(exist_ok=True)
    for number, (step, values) in enumerate(entries, start=1):
        seconds = {"elapsed": 1.0 * number, "decisions": 0.2 * number, "checkpoints": 0.05 * number}
        histogram = {}
        if "weight_ess" in values:
            counts = weight_histogram(rng.lognormal(sigma=0.3, size=global_batch))
            histogram = {"edges": HISTOGRAM_EDGES.tolist(), "counts": counts.tolist()}
        record.append(Logged(step=step, values=values, seconds=seconds, histogram=histogram))
    record.write_samples(
        Sample(row=row, chosen=5 - row, text=text, score=0.5, domain="", most=row < 2)
        for row, text in enumerate(SAMPLES)
    )
    known = DOMAINS if kind is Kind.MIXER else ()
    record.write_info(
        RunInfo(
            train_type={Kind.SELECTOR: "dynamic_select", Kind.MIXER: "dynamic_mix"}.get(kind, "dynamic_weight"),
            stage="sft",
            kind=kind.value,
            component="loss",
            dist="dataflex-example",
            params={"focus": "high"},
            arguments={"learning_rate": 1e-4, "dataset": "<b>web</b>,code", "template": "x" * 300},
            seed=seed,
            global_batch=global_batch,
            ranks=1,
            pool=pool,
            domains=known,
            domain_sizes=[pool // 2, pool // 4, pool - pool // 2 - pool // 4] if known else (),
            warmup=update,
            update=update,
            total=total,
            versions={"python": "3.12", "torch": "2.14"},
            started="2026-01-01T00:00:00+00:00",
            ending=Ending(steps=total, metrics={}) if done is None else None,
        )
    )
    return folder


def _selection(folder: Path, step: int, stage: int, pool: int, samples: int, rng: np.random.Generator) -> Decision:
    scores = rng.normal(3 * 0.99**step, 0.4, size=min(pool, 5000))
    rows = rng.integers(pool, size=samples)
    np.save(folder / result_name(step), rows, allow_pickle=False)
    summary = score_summary(scores, rows % len(scores))
    metrics: dict[str, Any] = {"pool": pool, "selected": samples, "distinct": len(np.unique(rows))}
    metrics |= {"overlap": float(rng.uniform(0.2, 0.5))} if stage > 1 else {}
    return _decision(Kind.SELECTOR, step, stage, result_name(step), metrics, summary)


def _mixture(folder: Path, step: int, stage: int, pool: int, samples: int, rng: np.random.Generator) -> Decision:
    shares, realised = rng.dirichlet([20, 10, 5]).tolist(), rng.dirichlet([20, 10, 5]).tolist()
    np.save(folder / plan_name(step), rng.integers(pool, size=samples), allow_pickle=False)
    losses = [2 * 0.99**step, 3 * 0.99**step, None if stage == 1 else 1.0]
    metrics = {"domains": list(DOMAINS), "proportions": shares, "realised_samples": realised, "domain_losses": losses}
    return _decision(Kind.MIXER, step, stage, plan_name(step), metrics, {})


def _decision(
    kind: Kind, step: int, stage: int, plan: str, metrics: dict[str, Any], scores: dict[str, Any]
) -> Decision:
    return Decision(
        step=step,
        stage=stage,
        kind=kind,
        component="loss",
        dist="dataflex-example",
        version="1",
        params={},
        seconds=0.2,
        timing={"component_seconds": 0.15, "planning_seconds": 0.05},
        seed=0,
        result_ref=result_name(step),
        plan_ref=plan,
        metrics=metrics,
        scores=scores,
    )
