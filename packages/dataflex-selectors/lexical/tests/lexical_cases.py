"""Pools, targets and slow references that the tests share; importable by a spawned process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gloo import joined

from dataflex import Selection
from dataflex.components.passes import Subtask
from dataflex.data.token_blocks import TokenBlock
from dataflex.testing import make_context
from dataflex_selectors_lexical.params import DsirParams, LexicalParams
from dataflex_selectors_lexical.scoring import Found, score_pool
from dataflex_selectors_lexical.selector import LexicalSelector

Row = dict[str, list[int]]

POOL = [[0, 1], [2, 3, 3], [0, 2], [3]]
TARGET = [[0, 1, 1], [0, 1]]


def texts(rows: Sequence[Sequence[int]]) -> list[Row]:
    """Rows of token ids alone."""
    return [{"input_ids": list(row)} for row in rows]


def zipf(rng: np.random.Generator, count: int, *, first: int = 0, words: int = 2000) -> list[Row]:
    """Random texts whose words are as uneven as those of a language."""
    shares = 1 / np.arange(1, words + 1)
    shares /= shares.sum()
    return texts([(first + rng.choice(words, size=rng.integers(20, 60), p=shares)).tolist() for _ in range(count)])


def told_apart() -> tuple[list[Row], list[Row]]:
    """A pool of 40 rows in the target's words among 200, and the target."""
    rng = np.random.default_rng(3)
    return zipf(rng, 160) + zipf(rng, 40, first=1000), zipf(rng, 40, first=1000)


def paper_hash(block: TokenBlock, ngrams: int, buckets: int) -> Iterator[npt.NDArray[np.int64]]:
    """Buckets that can be followed on paper: the ids of an n-gram summed, modulo D. For rows without padding."""
    for n in range(1, ngrams + 1):
        found = np.full(len(block.ids), buckets)
        for token in range(len(block.ids) - n + 1):
            if not block.begins[token + 1 : token + n].any():
                found[token] = int(block.ids[token : token + n].sum()) % buckets
        yield found


def found_by(
    pool: Any, targets: Mapping[str, Any], params: LexicalParams, *, seed: int = 0, accelerator: Any = None
) -> Found:
    """Scores and separations."""
    context = make_context(pool, list, seed=seed, eval_datasets=targets, accelerator=accelerator)
    tasks = [Subtask(name, rows, np.arange(len(rows))) for name, rows in targets.items()]
    return score_pool(context, tasks, params)


def selector(
    pool: Any, targets: Mapping[str, Any], params: LexicalParams | None = None, **facts: Any
) -> LexicalSelector:
    return LexicalSelector(params or LexicalParams(), make_context(pool, list, eval_datasets=targets, **facts))


def select(chooser: LexicalSelector, step: int = 0, num_samples: int = 40) -> Selection:
    """Ask without a model: none is used."""
    return chooser.select(None, step, num_samples)  # type: ignore[arg-type]


def select_on_a_rank(rank: int, world_size: int, folder: str) -> None:
    """Choose on one of several ranks and save it; then from a pool of which rank 1 cannot read a row."""
    pool, target = told_apart()
    with joined(rank, world_size, folder) as accelerator:
        for params in (LexicalParams(share=0.7, passes=2), DsirParams()):
            chosen = select(selector(pool, {"a": target, "b": target[:20]}, params, accelerator=accelerator))
            assert chosen.scores is not None
            name = type(params).__name__
            np.save(Path(folder, f"{name}-rows{rank}.npy"), np.asarray(chosen.rows), allow_pickle=False)
            np.save(Path(folder, f"{name}-scores{rank}.npy"), chosen.scores, allow_pickle=False)
        try:
            select(selector(Broken(pool), {"a": target}, accelerator=accelerator))
        except Exception as error:
            Path(folder, f"error{rank}.txt").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")


class Broken(list[Row]):
    """Rows of which the last cannot be read: it is rank 1's."""

    def __getitem__(self, row: Any) -> Any:
        if row == len(self) - 1:
            raise OSError("the disk is gone")
        return super().__getitem__(row)
