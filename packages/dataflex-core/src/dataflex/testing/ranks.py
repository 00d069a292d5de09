"""A component on several gloo ranks: processes of their own, joined over a file, so that no port is needed.

``python -m dataflex.testing.ranks FOLDER RANK WORLD_SIZE`` is one rank; :func:`ask_on_ranks` starts them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from dataflex.spec import Kind
from dataflex.testing.subject import Subject

WORLD_SIZE = 2
_ALONE = timedelta(seconds=90)  # a rank waits so long for another one before it gives up
_TIMEOUT = 400
_REQUEST = "request.json"


@dataclass(frozen=True)
class RankAnswers:
    """What the ranks decided.

    Attributes:
        answers: The numbers of each rank's decision; empty after a failure.
        failure: Why there are none, or ``""``.
    """

    answers: Sequence[Sequence[Any]]
    failure: str = ""

    @property
    def differ(self) -> bool:
        """Whether a rank decided something else than rank 0."""
        first = np.asarray(self.answers[0])
        return any(not np.array_equal(first, np.asarray(other), equal_nan=True) for other in self.answers[1:])


def ask_on_ranks(subjects: Sequence[Subject], folder: Path) -> list[RankAnswers]:
    """Ask each component once on every rank, all in one group of processes.

    Args:
        subjects: The components; their parameters have to be JSON.
        folder: For the exchange with the ranks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    requests = [
        {
            "name": subject.name,
            "kind": subject.kind,
            "plugins": list(subject.plugins),
            "params": subject.values(folder / "params"),
        }
        for subject in subjects
    ]
    (folder / _REQUEST).write_text(json.dumps(requests), encoding="utf-8")
    trouble = _run(folder)
    replies = [folder / f"reply{rank}.json" for rank in range(WORLD_SIZE)]
    if not all(reply.is_file() for reply in replies):
        return [RankAnswers((), f"a rank did not finish: {trouble}") for _ in subjects]
    by_rank = [json.loads(reply.read_text(encoding="utf-8")) for reply in replies]
    return [
        RankAnswers([part["answer"] for part in parts], next((p["failure"] for p in parts if p["failure"]), ""))
        for parts in zip(*by_rank, strict=True)
    ]


def _run(folder: Path) -> str:
    """Run the ranks; returns the last words of one that failed."""
    given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    variables = {
        "PYTHONPATH": os.pathsep.join([*given, *(path or os.getcwd() for path in sys.path)]),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "WORLD_SIZE": str(WORLD_SIZE),
        "LOCAL_WORLD_SIZE": str(WORLD_SIZE),
        "MASTER_ADDR": "127.0.0.1",  # accelerate asks for them; the group is joined over a file
        "MASTER_PORT": "0",
    }
    command = [sys.executable, "-m", "dataflex.testing.ranks", str(folder)]
    running = []
    try:
        for rank in range(WORLD_SIZE):
            environ = {**os.environ, **variables, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            log = tempfile.TemporaryFile()  # noqa: SIM115 - closed below, when the process has ended
            process = subprocess.Popen([*command, str(rank), str(WORLD_SIZE)], env=environ, stdout=log, stderr=log)
            running.append((process, log))
        for process, _ in running:
            process.wait(timeout=_TIMEOUT)
        return next((_last_words(log) for process, log in running if process.returncode), "")
    except subprocess.TimeoutExpired:
        return f"it took more than {_TIMEOUT} s"
    finally:
        for process, log in running:
            process.kill()
            process.wait()
            log.close()


def _last_words(log: Any) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _serve(folder: Path, rank: int, world_size: int) -> None:
    import torch.distributed
    from accelerate import Accelerator

    rendezvous = f"file://{folder}/rendezvous"
    torch.distributed.init_process_group(
        "gloo", init_method=rendezvous, rank=rank, world_size=world_size, timeout=_ALONE
    )
    try:
        accelerator = Accelerator(cpu=True)
        requests = json.loads((folder / _REQUEST).read_text(encoding="utf-8"))
        replies = [_reply(request, folder / str(place), accelerator) for place, request in enumerate(requests)]
        (folder / f"reply{rank}.json").write_text(json.dumps(replies), encoding="utf-8")
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


def _reply(request: dict[str, Any], folder: Path, accelerator: Any) -> dict[str, Any]:
    from dataflex.distributed import AnotherRankFailed, first_failure
    from dataflex.testing.benches import make_bench

    subject = Subject(
        name=request["name"], kind=Kind(request["kind"]), params=request["params"], plugins=tuple(request["plugins"])
    )
    answer: list[Any] = []
    failure = ""
    try:
        own = folder / f"rank{accelerator.process_index}"
        bench = make_bench(subject, own, accelerator, cache_dir=folder / "cache")
        answer = np.asarray(bench.flat(bench.ask(bench.build(), 10))).tolist()
    except AnotherRankFailed:
        pass  # the other one tells
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"
    failure = first_failure(failure, accelerator, last=True)
    return {"answer": [] if failure else answer, "failure": failure}


if __name__ == "__main__":
    from dataflex.distributed import end_rank

    _serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    end_rank()
