"""Two ranks without torchrun: processes that join a gloo group, for tests of what crosses ranks."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_PRELOADED = [
    *("torch._dynamo", "transformers.trainer", "transformers.models.qwen2.modeling_qwen2", "peft", "datasets"),
    *("dataflex.trainers", "dataflex.trainers.dynamic", "dataflex.testing.tiny"),
]
"""What most ranks need: a server loads it once for all tests of a worker, and each rank is a fork of that server."""


def run_on_two_ranks(work: Callable[[int, int, str], None], folder: Path) -> None:
    """Call ``work(rank, 2, folder)`` in two processes; fails when one of them fails.

    Args:
        work: Of an importable module: each process imports it by name.
        folder: Shared by the ranks; what they have to say, they write there.
    """
    run_on_ranks(work, folder, 2)


def run_on_ranks(work: Callable[[int, int, str], None], folder: Path, ranks: int) -> None:
    """As :func:`run_on_two_ranks`, on any number of ranks."""
    started = start_ranks(work, folder, ranks)
    while not started.join():  # returns at the end of each
        pass


def start_ranks(work: Callable[[int, int, str], None], folder: Path, ranks: int) -> Any:
    """As :func:`run_on_ranks`, without waiting; returns torch's ``ProcessContext``."""
    from torch.multiprocessing.spawn import start_processes

    multiprocessing.get_context("forkserver").set_forkserver_preload(_PRELOADED)
    handed = (work, ranks, str(folder), dict(os.environ))
    return start_processes(_rank, args=handed, nprocs=ranks, join=False, start_method="forkserver")


def _rank(
    rank: int, work: Callable[[int, int, str], None], world_size: int, folder: str, environ: dict[str, str]
) -> None:
    from dataflex.distributed import end_rank

    os.environ.clear()
    os.environ.update(environ)
    gc.freeze()
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
