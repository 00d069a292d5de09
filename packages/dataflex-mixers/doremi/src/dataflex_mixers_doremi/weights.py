"""``weights.json``: what a DoReMi run found, by domain name, for the runs after it.

``init_mixture_proportions: from:PATH`` samples by its ``average`` anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dataflex.record.files import write_atomically
from dataflex_mixers_doremi.group_dro import Floats, GroupDro
from dataflex_mixers_doremi.params import DoremiParams

WEIGHTS_NAME = "weights.json"


def answer(dro: GroupDro, params: DoremiParams) -> Floats:
    """The average of the weights, as the parameters want it taken."""
    return dro.average_from_start if params.average_from_start else dro.average


def write_weights(
    path: Path,
    names: Sequence[str],
    dro: GroupDro,
    params: DoremiParams,
    *,
    hashes: Mapping[str, str],
    data: Mapping[str, Any],
) -> None:
    """Write the result of a run.

    Args:
        path: The file.
        names: Domains, in the order of the weights.
        dro: Where the weights have come to.
        params: What they were found with.
        hashes: What tells the pool and the reference from others.
        data: LlamaFactory's keys that the pool was tokenised under; empty without LlamaFactory.
    """
    record: dict[str, Any] = {
        "names": list(names),
        "average": answer(dro, params).tolist(),
        "last": dro.alpha.tolist(),
        "steps": dro.steps,
        "eta": params.eta,
        "smoothing": params.smoothing,
        **({"average_from_start": True} if params.average_from_start else {}),
        "hashes": dict(hashes),
        **({"data": dict(data)} if data else {}),
    }
    write_atomically(path, (json.dumps(record, indent=1) + "\n").encode())
