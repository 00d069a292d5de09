"""What a search leaves: ``weights.json``, which ``from:`` reads, and a plot of predicted against found losses."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dataflex_mixers_regmix.search import Answer, Wanted

WEIGHTS_NAME = "weights.json"
PLOT_NAME = "predicted.png"


def record(answer: Answer, wanted: Wanted, domains: Sequence[str], sets: Sequence[str]) -> dict[str, Any]:
    """A search as JSON: ``names`` and ``average`` are what ``from:`` reads, the rest says where they come from."""
    return {
        "names": list(domains),
        "average": answer.shares_K.tolist(),
        "prior": wanted.prior_K.tolist(),
        "caps": wanted.most_K.tolist(),
        "kl": wanted.kl,
        "predicted_loss": answer.loss,
        "predicted_loss_at_prior": answer.prior_loss,
        "rank_correlation": None if math.isnan(answer.correlation) else answer.correlation,
        "runs": [
            {"predicted": predicted, "found": found}
            for predicted, found in zip(answer.predicted_N.tolist(), answer.found_N.tolist(), strict=True)
        ],
        "laws": {
            name: {"weight": weight, "c": law.log_floor, "t": law.slopes_K.tolist()}
            for name, weight, law in zip(sets, wanted.weights_M.tolist(), answer.laws, strict=True)
        },
    }


def weights_text(record: dict[str, Any]) -> str:
    """The file."""
    return json.dumps(record, indent=1) + "\n"


def draw(answer: Answer, path: Path) -> None:
    """Draw predicted against found losses of the runs, each by laws that have not seen it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(answer.found_N, answer.predicted_N, s=16)
    ends = [min(answer.found_N.min(), answer.predicted_N.min()), max(answer.found_N.max(), answer.predicted_N.max())]
    axes.plot(ends, ends, linewidth=0.8, color="grey")
    axes.set(
        xlabel="found loss", ylabel="predicted without the run", title=f"rank correlation {answer.correlation:.2f}"
    )
    figure.savefig(path, dpi=120)
