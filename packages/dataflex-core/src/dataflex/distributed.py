"""What crosses ranks: scores, decisions and checksums, never gradients or data.

Every function is free on one process and works on any backend accelerate knows (NCCL included: objects travel as
device tensors there). All ranks must call them, in the same order. A rank that cannot, because it failed, says so with
:func:`first_failure`; whoever waits for it in another of these functions then gets :class:`AnotherRankFailed`.
"""

from __future__ import annotations

import atexit
import contextlib
import enum
import gc
import hashlib
import io
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dataflex.errors import ComponentError


class AnotherRankFailed(ComponentError):
    """The rank this one waits for has failed, and says itself what happened."""


class _Wraps(Protocol):
    """What is used of a ``transformers.Trainer``."""

    model: Any
    model_wrapped: Any
    accelerator: Any


class _At(enum.IntEnum):
    """What a rank is doing when it meets the others: a rank further out has left the component's code behind."""

    EXCHANGE = 0
    VERDICT = 1
    LAST_VERDICT = 2


def gather_scores(
    local_rows: npt.NDArray[np.int64], local_scores: npt.ArrayLike, pool_size: int, accelerator: Any
) -> npt.NDArray[np.float64]:
    """Put every rank's scores in the pool's order.

    Args:
        local_rows: Rows this rank scored, shape [n]; n may differ between ranks and be 0.
        local_scores: Their scores, shape [n].
        pool_size: Rows of the whole pool.
        accelerator: The run's accelerator, or ``None`` on one process.

    Returns:
        Scores by row, fp64, shape [pool_size]; NaN where no rank scored the row. The same on every rank.
    """
    rows = np.asarray(local_rows, dtype=np.int64)
    scores = np.asarray(local_scores, dtype=np.float64)
    if rows.shape != scores.shape:
        raise ValueError(f"{len(rows)} rows have scores of shape {scores.shape}")
    pool = np.full(pool_size, np.nan)
    for their_rows, their_scores in all_gather((rows, scores), accelerator):
        pool[their_rows] = their_scores
    return pool


def gather_rows(
    rows: npt.NDArray[np.int64],
    values: npt.NDArray[Any],
    accelerator: Any,
    take: Callable[[npt.NDArray[np.int64], npt.NDArray[Any]], None],
    *,
    piece_bytes: int = 2**26,
) -> None:
    """Bring every rank's rows to rank 0, piece by piece, so that no rank ever holds more than a piece of others' rows.

    Args:
        rows: Which rows this rank has, shape [n]; n may differ between ranks and be 0.
        values: What it has of them, shape [n, d].
        accelerator: The run's accelerator, or ``None`` on one process.
        take: Called on rank 0 with the rows and values of each piece, its own included.
        piece_bytes: Bytes that cross at one time, over all ranks.
    """
    world = _world_size(accelerator)
    if world == 1:
        if len(rows):
            take(rows, values)
        return
    size = max(1, piece_bytes // world // max(1, values.shape[1] * values.itemsize))
    rounds = max(all_gather(-(-len(rows) // size), accelerator))
    for start in range(0, rounds * size, size):
        piece = rows[start : start + size], values[start : start + size]
        for those, theirs in all_gather(piece, accelerator):
            if accelerator.is_main_process and len(those):
                take(those, theirs)


def rank0_decides(array: npt.NDArray[Any], accelerator: Any) -> npt.NDArray[Any]:
    """Rank 0's array, on every rank; what the other ranks pass is ignored."""
    if _world_size(accelerator) == 1:
        return array
    from accelerate.utils import broadcast_object_list

    all_gather(None, accelerator)  # everyone is here: a broadcast cannot tell a rank that failed from one that waits
    (decided,) = broadcast_object_list([array], from_process=0)
    return np.asarray(decided)


def assert_same_on_all_ranks(name: str, array: npt.NDArray[Any], accelerator: Any) -> None:
    """Check that an array is the same, bit for bit, on every rank.

    Args:
        name: What the array is, for the message.
        array: This rank's array.
        accelerator: The run's accelerator, or ``None`` on one process.

    Raises:
        ComponentError: on every rank, naming those that differ from rank 0.
    """
    if _world_size(accelerator) == 1:
        return
    digests = all_gather(_digest(np.asarray(array)), accelerator)
    different = [str(rank) for rank, digest in enumerate(digests) if digest != digests[0]]
    if different:
        ranks = ("rank " if len(different) == 1 else "ranks ") + ", ".join(different)
        raise ComponentError(
            f"{name} on {ranks} differs from rank 0's, but all ranks must decide the same. Draw from "
            "context.rng(step), never from a global generator, and gather scores before ranking them."
        )


def first_failure(failure: str, accelerator: Any, *, last: bool = False) -> str:
    """Let every rank know that one failed, so that none is left waiting.

    Args:
        failure: What went wrong on this rank; ``""`` if nothing did.
        accelerator: The run's accelerator, or ``None`` on one process.
        last: Whether this rank has left the component, so that it will not take part in any exchange of its.

    Returns:
        The failure of the lowest rank that has one, the same on every rank; ``""`` if none has.

    Raises:
        AnotherRankFailed: if another rank has left the component by a failure; never with ``last``.
        ComponentError: if it has left without one, so that ranks did not make the same calls; never with ``last``.
    """
    if _world_size(accelerator) == 1:
        return failure
    failures = _meet(_At.LAST_VERDICT if last else _At.VERDICT, failure)
    failed = [rank for rank, text in enumerate(failures) if text]
    if not failed:
        return ""
    text = str(failures[failed[0]])
    everywhere = len(failed) == len(failures)
    return text if everywhere else f"{text} (on rank {', '.join(map(str, failed))})"


@contextlib.contextmanager
def together(what: str, accelerator: Any) -> Iterator[None]:
    """Run this rank's part of ``what``; a failure on any rank is raised on all, so that none is left waiting.

    Args:
        what: Names the part, for the ranks that did not fail.
        accelerator: The run's accelerator, or ``None`` on one process.

    Raises:
        Exception: what this rank's part raised.
        ComponentError: the first failure of another rank, where this rank's part went well.
    """
    cause: Exception | None = None
    try:
        yield
    except Exception as error:  # the other ranks are told first: they would wait
        cause = error
    failure = first_failure("" if cause is None else f"{type(cause).__name__}: {cause}", accelerator)
    if cause is not None:
        raise cause
    if failure:
        raise ComponentError(f"{what} failed: {failure}")


def in_exchange(frame: FrameType | None) -> bool:
    """Whether a stack is inside an exchange between ranks: who leaves one halfway takes the next one's bytes for it.

    Args:
        frame: The innermost frame of the stack.
    """
    while frame is not None:
        if frame.f_code in (_meet.__code__, rank0_decides.__code__):
            return True
        frame = frame.f_back
    return False


def rank0_says(value: Any) -> Any:
    """Rank 0's value, on every rank, before there is an accelerator; small objects only."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value
    said = [value]
    dist.broadcast_object_list(said, src=0)
    return said[0]


def leave_group() -> None:
    """Take this process out of torch's process group, if it is in one, as LlamaFactory does at the end of a run."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def end_rank(code: int = 0) -> None:
    """End this process if it is one of several ranks; does nothing otherwise. The last call of a script for torchrun.

    A rank whose interpreter is taken apart while a thread of its process group still lets go of a tensor aborts:
    ``terminate called without an active exception``. The thread asks for the interpreter's lock, which ends it instead,
    halfway through C++ that may not be left. That has hit one run in some dozens of two ranks over gloo, after all was
    done, and torchrun then kills the other ranks while they still write. So everything that an interpreter does when it
    ends is done here, but the taking apart: threads are joined, what :mod:`atexit` holds is called, files are flushed.

    Args:
        code: The exit code. With another one than 0 the process group is not left, as other ranks may be stuck in it.
    """
    if "RANK" not in os.environ:
        return
    if code == 0:
        leave_group()
        gc.collect()  # what was wrapped for the group lets go of it, and so joins its threads
    vars(threading)["_shutdown"]()  # as the interpreter does first of all
    atexit._run_exitfuncs()
    for found in gc.get_objects():
        if issubclass(type(found), io.IOBase):
            with contextlib.suppress(Exception):
                found.flush()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def leave_group_at_exit(trainer: _Wraps) -> None:
    """Let go of the process group when the interpreter ends, for a script that does not call :func:`end_rank`.

    Its threads are joined then, if nothing else of the script holds on to it.

    Args:
        trainer: The ``transformers.Trainer``, whose wrapped model holds on to the group.
    """
    held = weakref.ref(trainer)

    def leave() -> None:
        trainer = held()
        if trainer is not None:
            trainer.model_wrapped = trainer.model
            trainer.accelerator.free_memory()
        leave_group()
        gc.collect()

    atexit.register(leave)


def _digest(array: npt.NDArray[Any]) -> bytes:
    header = f"{array.dtype.str} {array.shape} ".encode()
    return hashlib.blake2b(header + np.ascontiguousarray(array).tobytes(), digest_size=16).digest()


def _world_size(accelerator: Any) -> int:
    return 1 if accelerator is None else int(accelerator.num_processes)


def all_gather(item: Any, accelerator: Any) -> list[Any]:
    """``item`` of every rank, in the order of ranks.

    Raises:
        AnotherRankFailed: if a rank is at :func:`first_failure` instead, with a failure.
        ComponentError: if it is there without one: ranks do not make the same calls.
    """
    return [item] if _world_size(accelerator) == 1 else _meet(_At.EXCHANGE, item)


def _meet(at: _At, item: Any) -> list[Any]:
    """Exchange items with ranks that are at the same place.

    Every function above meets here, so a rank in one can tell that another is elsewhere. The one further in gives up
    and the one further out waits for it: in the end all are at the last verdict.
    """
    from accelerate.utils import gather_object

    while True:
        met: list[tuple[_At, Any]] = gather_object([(at, item)])
        outside = {rank: text for rank, (place, text) in enumerate(met) if place > at}
        if outside:
            raise _left_alone(outside)
        if all(place == at for place, _ in met):
            return [item for _, item in met]


def _left_alone(verdicts: Mapping[int, str]) -> ComponentError:
    """Why this rank need not wait any longer for ranks that came to a verdict."""
    failures = [f"{text} (on rank {rank})" for rank, text in verdicts.items() if text]
    if failures:
        return AnotherRankFailed(failures[0])
    return ComponentError(
        f"rank {', '.join(map(str, verdicts))} has finished while this one still waits for its part. All ranks must "
        "make the same calls of dataflex.distributed, in the same order."
    )
