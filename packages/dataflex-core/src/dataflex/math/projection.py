"""Random projections that keep inner products.

Shapes: C vectors, n numbers of one part of each, d numbers of a projected vector.
"""

from __future__ import annotations

import torch

from dataflex.math.hashing import splitmix64
from dataflex.rng import key_seed

_CHUNK = 2**18  # coordinates whose targets are held at one time


class SparseProjection:
    """The sparse Johnson-Lindenstrauss transform: each coordinate goes to ``nonzeros`` places with random signs.

    Nothing of the size of the projected vectors is stored: places and signs are hashes of (seed, part, coordinate), the
    same in every process. Each coordinate has one place in each of ``nonzeros`` blocks of the result.

    Source: Kane & Nelson 2014, "Sparser Johnson-Lindenstrauss transforms", block construction (arXiv 1012.1577).

    Args:
        width: Numbers of a projected vector (d); rounded up to a multiple of ``nonzeros``.
        seed: Another seed is another projection.
        nonzeros: Places of each coordinate.
    """

    def __init__(self, width: int, seed: int, nonzeros: int = 4) -> None:
        self._block = -(-width // nonzeros)
        self.width, self.nonzeros, self._seed = self._block * nonzeros, nonzeros, seed

    def add_(self, result_dC: torch.Tensor, part: str, values_Cn: torch.Tensor) -> None:
        """Add the projection of one part of some vectors.

        Args:
            result_dC: The projected vectors, one a column; changed in place.
            part: Name of the part, e.g. of a parameter.
            values_Cn: The part of each vector.
        """
        scaled_nC = values_Cn.T / self.nonzeros**0.5
        for start in range(0, len(scaled_nC), _CHUNK):
            piece_nC = scaled_nC[start : start + _CHUNK]
            coordinates = torch.arange(start, start + len(piece_nC), device=values_Cn.device)
            for block in range(self.nonzeros):
                hashed = splitmix64(coordinates, key_seed(self._seed, part, block))
                signs = (hashed & 1) * 2 - 1
                places = block * self._block + (hashed >> 1) % self._block
                result_dC.index_add_(0, places, piece_nC * signs.to(piece_nC.dtype).unsqueeze(1))
