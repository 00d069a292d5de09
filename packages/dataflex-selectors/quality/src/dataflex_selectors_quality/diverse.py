"""Rows in the order of their scores, less those that are too much like one before them.

Shapes: n rows, d numbers of a row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Rows = npt.NDArray[np.int64]

_BLOCK = 256  # rows that are compared with all taken ones at a time


class Diverse:
    """The rows of an order that are kept, found as far as they are asked for.

    A row is kept unless its cosine similarity with a row kept before it is above ``same_above``: what DEITA's released
    code calls a distance is that similarity. What is kept does not depend on how far one asks.

    Args:
        order: Rows, best first.
        vectors: Their embeddings by row number, any length above 0, shape [n, d].
        same_above: Similarity above which a row counts as one that is there already.
        device: Where to multiply; ``None`` for the CPU.
    """

    def __init__(self, order: Rows, vectors: npt.NDArray[Any], same_above: float, *, device: Any = None) -> None:
        self._order, self._vectors, self._above = order, vectors, same_above
        self._device = None if device is None or torch.device(device).type == "mps" else device
        self._looked_at = 0
        self._kept: list[int] = []
        self._kept_vectors: list[torch.Tensor] = []

    def left_out(self, kept: Rows) -> Rows:
        """Rows that are not kept and come before the last of some that are; all of them, if these are all.

        Args:
            kept: What :meth:`until` or :meth:`all` gave.
        """
        whole = len(kept) == len(self._kept) and self._looked_at == len(self._order)
        end = len(self._order) if whole else int(np.flatnonzero(self._order == kept[-1])[0]) if len(kept) else 0
        return self._order[:end][~np.isin(self._order[:end], kept)]

    def until(self, free: npt.NDArray[np.bool_] | None, count: int) -> Rows:
        """The kept rows, in order, up to where ``count`` of them are free or none is left.

        Args:
            free: Which rows count, by row number; ``None`` for all.
            count: How many of them are wanted.
        """
        while True:
            kept = np.asarray(self._kept, np.int64)
            counted = np.cumsum(np.ones(len(kept), bool) if free is None else free[kept])
            if len(counted) and counted[-1] >= count:
                return kept[: int(np.searchsorted(counted, count)) + 1] if count else kept[:0]
            if self._looked_at >= len(self._order):
                return kept
            self._look()

    def all(self) -> Rows:
        """All rows that are kept."""
        return self.until(None, len(self._order) + 1)

    def _look(self) -> None:
        rows = self._order[self._looked_at : self._looked_at + _BLOCK]
        block = torch.as_tensor(self._vectors[rows]).to(self._device).double()
        block = block / block.norm(dim=1, keepdim=True)
        like = torch.zeros(len(rows), dtype=torch.bool, device=block.device)
        for kept in self._kept_vectors:
            like |= (block @ kept.T > self._above).any(dim=1)
        inside = (block @ block.T > self._above).cpu().numpy()
        taken: list[int] = []
        for place, same in enumerate(like.cpu().tolist()):
            if not same and not inside[place, taken].any():
                taken.append(place)
        self._looked_at += len(rows)
        self._kept += rows[taken].tolist()
        if taken:
            self._kept_vectors.append(block[taken])
