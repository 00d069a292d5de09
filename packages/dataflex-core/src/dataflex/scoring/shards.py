"""Scores on disk while a pass is under way, so that an interrupted pass can go on where it stopped.

A folder belongs to one fingerprint of everything the scores depend on; a pass that differs in any of it does not see
them. What is kept is 8 bytes per row and column of results, never a gradient.

Shapes: n rows.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dataflex.checkpoint.state import write_atomically
from dataflex.distributed import all_gather
from dataflex.lockstep import is_collective
from dataflex.spread import local_piece

logger = logging.getLogger("dataflex")

_SAMPLED = 64  # numbers of a frozen weight that are hashed: training does not change it

Rows = npt.NDArray[np.int64]
Table = npt.NDArray[np.float64]


class ShardStore:
    """The finished part of one scoring pass.

    Args:
        folder: Where its files are.
        width: Columns of a table of results.
        rank: Index of this process; each writes files of its own.
        seconds: How often to write; 0 never.
    """

    def __init__(self, folder: Path, width: int, *, rank: int = 0, seconds: float = 60.0) -> None:
        self.folder, self._width, self._rank, self._seconds = folder, width, rank, seconds
        self._pending: list[tuple[Rows, Table]] = []
        self._written = time.monotonic()
        self.done: tuple[Rows, Table] = (np.zeros(0, np.int64), np.zeros((0, width)))

    def resume(self, rows: Rows, accelerator: Any) -> Rows:
        """Take up what earlier attempts finished of ``rows``; it is :attr:`done` from now on.

        All ranks agree on it before anyone writes: those that do not see the same files (a folder that is not shared)
        would leave out other rows, as many as they may be, so then nothing is taken up.

        Returns:
            The rows that need not be scored again, the same on every rank.
        """
        found, results = self.load()
        known = np.isin(found, rows)
        seen = hashlib.blake2b(found[known].tobytes() + results[known].tobytes()).hexdigest()
        if len(set(all_gather(seen, accelerator))) == 1:
            self.done = found[known], results[known]
        return self.done[0]

    def load(self) -> tuple[Rows, Table]:
        """What earlier attempts finished: rows [n], results [n, width]; files that cannot be read are passed over."""
        tables = [np.zeros((0, 1 + self._width))]
        for path in sorted(self.folder.glob("*.npy")):
            try:
                table = np.load(path, allow_pickle=False)
                if table.ndim != 2 or table.shape[1] != 1 + self._width:
                    raise ValueError(f"shape {table.shape}")
            except (OSError, ValueError, EOFError) as error:
                if not self._rank:  # all ranks read all files
                    logger.warning("%s is damaged (%s): its rows are scored again.", path, error)
            else:
                tables.append(table)
        whole = np.concatenate(tables)
        return whole[:, 0].astype(np.int64), whole[:, 1:]

    def add(self, rows: Rows, results: Table) -> None:
        """Keep a finished batch; written with others when it is time."""
        if not self._seconds:
            return
        self._pending.append((rows, results))
        if time.monotonic() - self._written >= self._seconds:
            self.flush()

    def flush(self) -> None:
        """Write what is pending. A disk that fails costs the chance to go on from here, not the run."""
        if not self._pending:
            return
        table = np.concatenate([np.column_stack([rows, results]) for rows, results in self._pending])
        data = io.BytesIO()
        np.save(data, table.astype(np.float64), allow_pickle=False)
        self._pending, self._written = [], time.monotonic()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            number = len(list(self.folder.glob(f"{self._rank:04d}-*.npy")))
            write_atomically(self.folder / f"{self._rank:04d}-{number:06d}.npy", data.getvalue())
        except OSError as error:
            logger.warning("scores could not be kept in %s: %s", self.folder, error)

    def drop_others(self) -> None:
        """Delete the folders of other passes beside this one."""
        for path in self.folder.parent.glob("scores-*"):
            if path != self.folder:
                shutil.rmtree(path, ignore_errors=True)


def pass_fingerprint(
    model: nn.Module,
    data: Iterable[str],
    settings: Mapping[str, Any],
    others: Iterable[tuple[str, Sequence[torch.Tensor]]] = (),
) -> str:
    """Hash everything the scores of a pass depend on.

    Trainable weights and ``others`` are hashed whole; of a frozen weight the shape and some numbers. Of what is spread
    over ranks, this rank's piece: the pass then depends on the hashes of all ranks.

    Args:
        model: The unwrapped model.
        data: Fingerprints of pool and eval sets.
        settings: Parameters, seed and step, JSON values.
        others: Other tensors the scores depend on, such as an optimizer's moments, with what describes them.
    """
    digest = hashlib.blake2b(json.dumps([list(data), dict(settings)], sort_keys=True).encode(), digest_size=12)
    for name, parameter in model.named_parameters():
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype};".encode())
        flat = local_piece(parameter).reshape(-1)
        if not parameter.requires_grad:
            flat = flat[:: max(1, flat.numel() // _SAMPLED)]
        digest.update(_bytes(flat))
    for name, tensors in others:
        digest.update(f"{name};".encode())
        for tensor in tensors:
            digest.update(_bytes(local_piece(tensor).reshape(-1)))
    return digest.hexdigest()


def of_all_ranks(digest: str, model: nn.Module, accelerator: Any) -> str:
    """One fingerprint for every rank: rank 0's, or of all ranks' where each has hashed its piece of a spread model."""
    digests = all_gather(digest, accelerator)
    if not is_collective(model, accelerator):
        return str(digests[0])
    return hashlib.blake2b("".join(digests).encode(), digest_size=12).hexdigest()


def _bytes(flat: torch.Tensor) -> bytes:
    return flat.contiguous().cpu().view(torch.uint8).numpy().tobytes()
