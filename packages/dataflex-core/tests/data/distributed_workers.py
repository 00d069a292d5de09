"""What each process of a two-rank test runs; in a module of its own, so that a spawned process can import it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from gloo import joined


def exchange(rank: int, world_size: int, folder: str) -> None:
    """Call everything in dataflex.distributed and write down what came out."""
    from dataflex.distributed import assert_same_on_all_ranks, first_failure, gather_scores, rank0_decides
    from dataflex.errors import ComponentError

    with joined(rank, world_size, folder) as accelerator:
        rows, scores = [([3, 0], [0.3, 1 / 3]), ([5], [float("inf")])][rank]
        assert_same_on_all_ranks("a thing", np.arange(3), accelerator)
        same_values_other_type = np.arange(3, dtype=np.int32 if rank else np.int64)
        try:
            assert_same_on_all_ranks("the plan", same_values_other_type, accelerator)
            message = ""
        except ComponentError as error:
            message = str(error)
        result = {
            "scores": [repr(float(s)) for s in gather_scores(np.array(rows), np.array(scores), 6, accelerator)],
            "nothing": [repr(float(s)) for s in gather_scores(np.zeros(0, np.int64), [], 2, accelerator)],
            "decided": rank0_decides(np.array([[rank, 7]]), accelerator).tolist(),
            "message": message,
            "no_failure": first_failure("", accelerator),
            "failure": first_failure("it broke" if rank else "", accelerator),
            "both_failed": first_failure(f"{rank} broke", accelerator),
        }
        Path(folder, f"{rank}.json").write_text(json.dumps(result), encoding="utf-8")


def fail_alone(rank: int, world_size: int, folder: str) -> None:
    """Let rank 1 leave early, with and without a failure, while rank 0 waits for it; write down what both hear."""
    from dataflex.distributed import all_gather, first_failure, rank0_decides
    from dataflex.errors import ComponentError

    waits = {
        "scores": lambda: all_gather("scores", accelerator),
        "decision": lambda: rank0_decides(np.arange(2), accelerator),
        "verdict": lambda: first_failure("", accelerator),
    }
    heard: dict[str, list[str]] = {}
    with joined(rank, world_size, folder) as accelerator:
        for name, wait in waits.items():
            for failure in ("it broke", ""):
                own = failure if rank else ""
                heard[f"{name} {failure}"] = said = []
                try:
                    if rank == 0:
                        wait()
                except ComponentError as error:
                    said.append(f"{type(error).__name__}: {error}")
                    own = "" if failure else str(error)
                said.append(first_failure(own, accelerator, last=True))
                said.append("".join(all_gather("ab"[rank], accelerator)))  # still in step with each other
        Path(folder, f"{rank}.json").write_text(json.dumps(heard), encoding="utf-8")
