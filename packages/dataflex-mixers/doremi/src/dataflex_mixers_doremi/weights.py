"""``weights.json``: what a DoReMi run found, by domain name, for the runs after it.

``init_mixture_proportions: from:PATH`` samples by its ``average`` anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dataflex.state import write_atomically
from dataflex_mixers_doremi.group_dro import GroupDro

WEIGHTS_NAME = "weights.json"


def write_weights(
    path: Path,
    names: Sequence[str],
    dro: GroupDro,
    *,
    eta: float,
    smoothing: float,
    hashes: Mapping[str, str],
) -> None:
    """Write the result of a run.

    Args:
        path: The file.
        names: Domains, in the order of the weights.
        dro: Where the weights have come to.
        eta: Their step size.
        smoothing: The uniform share mixed in.
        hashes: What tells the pool and the reference from others.
    """
    record: dict[str, Any] = {
        "names": list(names),
        "average": dro.average.tolist(),
        "last": dro.alpha.tolist(),
        "steps": dro.steps,
        "eta": eta,
        "smoothing": smoothing,
        "hashes": dict(hashes),
    }
    write_atomically(path, (json.dumps(record, indent=1) + "\n").encode())
