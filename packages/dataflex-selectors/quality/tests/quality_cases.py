"""Pools that the tests of the selectors by quality share; importable by a spawned process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from embedded_pools import VOCABULARY, pad, tiny_qwen
from gloo import joined

from dataflex.testing import make_context
from dataflex_selectors_quality.column import ColumnSelector
from dataflex_selectors_quality.deita import DeitaSelector
from dataflex_selectors_quality.ifd import IfdSelector
from dataflex_selectors_quality.params import ColumnParams, DeitaParams, IfdParams, PerplexityParams
from dataflex_selectors_quality.perplexity import PerplexitySelector

CLASSES: dict[str, tuple[Any, Any]] = {
    "ifd": (IfdSelector, IfdParams),
    "perplexity": (PerplexitySelector, PerplexityParams),
    "deita": (DeitaSelector, DeitaParams),
    "column": (ColumnSelector, ColumnParams),
}
HEADER = (3, 4)
DEFAULTS: dict[str, dict[str, Any]] = {
    "deita": {"by": ("column:complexity", "column:quality"), "same_above": 0.3, "center": True},
    "column": {"by": "column:quality"},
}
_FACTS = ("accelerator", "seed", "dataset", "stage", "scores_only", "columns", "answer_header", "tokenizer")


def rows_with_prompts(count: int = 40, seed: int = 1) -> list[dict[str, Any]]:
    """A prompt of 2 to 9 tokens, the header, an answer of 1 to 11 tokens; two numbers beside them."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(count):
        prompt = [*rng.integers(5, VOCABULARY, rng.integers(2, 10)).tolist(), *HEADER]
        answer = rng.integers(5, VOCABULARY, rng.integers(1, 12)).tolist()
        tokens = [*prompt, *answer]
        rows.append(
            {
                "input_ids": tokens,
                "attention_mask": [1] * len(tokens),
                "labels": [-100] * len(prompt) + answer,
                "complexity": float(rng.integers(1, 7)),
                "quality": float(rng.random()),
            }
        )
    return rows


def selector(name: str, folder: Path, **more: Any) -> Any:
    facts = {fact: more.pop(fact) for fact in _FACTS if fact in more}
    made, params = CLASSES[name]
    facts = {"dataset": rows_with_prompts(), "answer_header": HEADER, "stage": "sft", **facts}
    context = make_context(facts.pop("dataset"), pad, cache_dir=folder, **facts)
    return made(params(**{**DEFAULTS.get(name, {}), **more}), context)


def select_on_a_rank(rank: int, world_size: int, folder: str) -> None:
    """Two boundaries of each selector on one of several ranks."""
    with joined(rank, world_size, folder) as accelerator:
        model = tiny_qwen()
        for name in CLASSES:
            subject = selector(name, Path(folder, name), accelerator=accelerator)
            if name != "column":
                subject.begin(model)
            for step in (4, 8):
                found = subject.select(model, step, 4)
                np.save(Path(folder, f"{name}-{step}-{rank}.npy"), np.asarray(found.rows))
                np.save(Path(folder, f"{name}-{step}-{rank}-scores.npy"), found.scores)
