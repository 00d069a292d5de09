"""Rows of the pool to look at: those chosen most often and least often, as text."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.data.origins import Origins
from dataflex.mixing.domains import Domains
from dataflex.record.run import Sample
from dataflex.rng import key_seed
from dataflex.trainers.host import Host

PER_END = 8
"""Samples of each end."""

LONGEST = 2000
"""Characters kept of a text."""

_IDS = "input_ids"


def pick_samples(
    trainer: Host,
    counts: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float64] | None,
    domains: Domains | Origins | None,
) -> list[Sample]:
    """Choose and decode samples, the most chosen first.

    Rows chosen equally often are told apart by a draw that is a function of the run's seed, so that the same ones are
    shown at each boundary.

    Args:
        trainer: Its pool and tokenizer are used.
        counts: How often each row was chosen, shape ``[pool]``.
        scores: Last score of each row, shape ``[pool]``; ``None`` if there are none.
        domains: The domains, if they are known.
    """
    size = min(PER_END, len(counts) // 2)
    if not size:
        return []
    draw = np.random.default_rng(key_seed("samples", int(trainer.args.seed), len(counts))).random(len(counts))
    keys = counts + draw
    ends = np.argpartition(keys, [size - 1, len(keys) - size])
    least, most = ends[:size], ends[len(keys) - size :]
    ordered = [(row, True) for row in most[np.argsort(-keys[most])]]
    ordered += [(row, False) for row in least[np.argsort(keys[least])]]
    return [
        Sample(
            row=int(row),
            chosen=int(counts[row]),
            text=decode(trainer, trainer.train_dataset[int(row)]),
            score=_finite(scores[row]) if scores is not None else None,
            domain=domains.names[int(domains.of([row])[0])] if domains is not None else "",
            most=is_most,
        )
        for row, is_most in ordered
    ]


def decode(trainer: Host, features: Any) -> str | None:
    """Text of a row, special tokens included; ``None`` where there is no tokenizer or the row holds no tokens."""
    tokenizer: Any = getattr(trainer, "processing_class", None)
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # a processor holds one
    if not hasattr(tokenizer, "decode") or not hasattr(features, "keys"):
        return None
    names = [name for name in features if name == _IDS] or [name for name in features if name.endswith(f"_{_IDS}")]
    if not names:
        return None
    # Four characters a token and more: beyond LONGEST tokens nothing is kept anyway.
    ids = [int(token) for token in np.asarray(features[names[0]]).reshape(-1)[:LONGEST]]
    text = str(tokenizer.decode(ids))
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
