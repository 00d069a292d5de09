"""Models and pools that the tests share; importable by a spawned process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from embedded_pools import of_domains, pad, pool, target, tiny_qwen
from gloo import joined

from dataflex.testing import make_context
from dataflex_selectors_tsds.params import TsdsParams
from dataflex_selectors_tsds.selector import TsdsSelector


def selector(folder: Path, **more: Any) -> TsdsSelector:
    """A selector with parameters and facts of the run by name."""
    named = ("accelerator", "seed", "dataset", "stage", "scores_only")
    facts = {name: more.pop(name) for name in named if name in more}
    eval_datasets = more.pop("eval_datasets", {"eval": target()})
    context = make_context(facts.pop("dataset", pool()), pad, cache_dir=folder, eval_datasets=eval_datasets, **facts)
    return TsdsSelector(TsdsParams(**more), context)


def select_on_a_rank(rank: int, world_size: int, folder: str) -> None:
    """Two boundaries on one of several ranks and one beside a mixer; then one that fails where the embeddings are."""
    with joined(rank, world_size, folder) as accelerator:
        model, subject = tiny_qwen(), selector(Path(folder, "cache"), accelerator=accelerator, passes=2)
        subject.begin(model)
        beside = selector(Path(folder, "beside"), accelerator=accelerator)
        beside.begin(model)
        for step in (4, 8, 12):
            found = subject.select(model, step, 30) if step < 12 else beside.select(model, step, 30, of_domains(10, 20))
            assert found.scores is not None
            np.save(Path(folder, f"{step}-{rank}.npy"), np.asarray(found.rows), allow_pickle=False)
            np.save(Path(folder, f"{step}-{rank}-scores.npy"), found.scores, allow_pickle=False)
        empty = [{**row, "labels": [-100] * len(row["labels"])} for row in target()]
        broken = selector(Path(folder, "e"), accelerator=accelerator, eval_datasets={"eval": empty}, span="answer")
        try:
            broken.select(model, 4, 10)
        except Exception as error:
            Path(folder, f"error{rank}.txt").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
