"""Models and pools that the tests of the selectors near and rds share; importable by a spawned process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from embedded_pools import of_domains, pad, pool, target, tiny_qwen
from gloo import joined

from dataflex.testing import make_context
from dataflex_selectors_near.params import NearParams, RdsParams
from dataflex_selectors_near.selector import NearSelector


def selector(folder: Path, params: type[NearParams] = NearParams, **more: Any) -> NearSelector:
    facts = {
        name: more.pop(name) for name in ("accelerator", "seed", "dataset", "stage", "scores_only") if name in more
    }
    eval_datasets = more.pop("eval_datasets", {"eval": target()})
    context = make_context(facts.pop("dataset", pool()), pad, cache_dir=folder, eval_datasets=eval_datasets, **facts)
    return NearSelector(params(**more), context)


def select_on_a_rank(rank: int, world_size: int, folder: str) -> None:
    """Boundaries on one of several ranks, the last beside a mixer, of each selector; then one in which rank 1 fails."""
    with joined(rank, world_size, folder) as accelerator:
        model = tiny_qwen()
        for params in (NearParams, RdsParams):
            subject = selector(Path(folder, params.__name__), params, accelerator=accelerator, share=0.8)
            subject.begin(model)
            for step in (4, 8, 12):
                found = subject.select(model, step, 10, candidates=None if step < 12 else of_domains(4, 6))
                np.save(Path(folder, f"{params.__name__}-{step}-{rank}.npy"), np.asarray(found.rows))
                np.save(Path(folder, f"{params.__name__}-{step}-{rank}-scores.npy"), found.scores)
            np.save(Path(folder, f"{params.__name__}-{rank}-state.npy"), subject.state_dict()["chosen"])
        empty = [{**row, "labels": [-100] * len(row["labels"])} for row in target()]
        broken = selector(Path(folder, "e"), accelerator=accelerator, eval_datasets={"eval": empty}, span="answer")
        try:
            broken.select(model, 4, 10)
        except Exception as error:
            Path(folder, f"error{rank}.txt").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
