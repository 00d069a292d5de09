"""Probabilities on disk: they depend on embeddings and parameters alone, so a resumed run reads them.

A file that cannot be read or written costs the time to solve again, nothing else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np

from dataflex.components.context import logger
from dataflex_selectors_tsds.params import TsdsParams
from dataflex_selectors_tsds.solving import Solution

VERSION = 1
_FIELDS = ("alpha", "C", "sigma", "density_rows")


def place(folder: Path, fingerprint: str, params: TsdsParams, seed: int) -> Path:
    """The file of a solution.

    Args:
        folder: The component's ``cache_dir``.
        fingerprint: Of the embeddings.
        params: What else the probabilities depend on.
        seed: Draws the rows that density is estimated on.
    """
    values = dataclasses.asdict(params)
    depends = [VERSION, fingerprint, seed, *(values[name] for name in _FIELDS)]
    digest = hashlib.blake2b(json.dumps(depends).encode(), digest_size=12).hexdigest()
    return folder / f"tsds-{digest}.npz"


def read(path: Path, size: int) -> Solution | None:
    """A solution of so many rows; ``None`` if there is none, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            p, (stop, count, density) = kept["p"], kept["facts"].tolist()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if p.shape != (size,) or p.dtype != np.float64 or not np.isfinite(p).all():
        return None
    return Solution(p, stop, int(count), density)


def write(path: Path, solution: Solution) -> None:
    """Keep a solution, and drop those of other embeddings or parameters beside it."""
    data = io.BytesIO()
    facts = np.array([solution.stop, solution.neighbours, solution.mean_density])
    np.savez(data, p=solution.p, facts=facts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f"{path.name}.tmp-{os.getpid()}")
        beside.write_bytes(data.getvalue())
        os.replace(beside, path)
        for other in path.parent.glob("tsds-*.npz"):
            if other != path:
                other.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("the probabilities could not be kept in %s: %s", path, error)
