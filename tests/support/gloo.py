"""Two ranks without torchrun: processes that join a gloo group, for tests of what crosses ranks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def run_on_two_ranks(work: Callable[[int, int, str], None], folder: Path) -> None:
    """Call ``work(rank, 2, folder)`` in two processes; fails when one of them fails.

    Args:
        work: Of an importable module: a spawned process imports it by name.
        folder: Shared by the ranks; what they have to say, they write there.
    """
    from torch.multiprocessing.spawn import spawn

    spawn(_rank, args=(work, 2, str(folder)), nprocs=2)


def _rank(rank: int, work: Callable[[int, int, str], None], world_size: int, folder: str) -> None:
    from dataflex.distributed import end_rank

    work(rank, world_size, folder)
    end_rank()


@contextlib.contextmanager
def joined(rank: int, world_size: int, folder: str) -> Iterator[Any]:
    """Join the group over a file, so that no port is needed; yields the accelerator."""
    import torch.distributed
    from accelerate import Accelerator

    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size))
    os.environ.update(LOCAL_WORLD_SIZE=str(world_size), MASTER_ADDR="127.0.0.1", MASTER_PORT="0")  # asked for, unused
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size
    )
    try:
        yield Accelerator(cpu=True)
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()
