"""``dataflex demo``."""

from __future__ import annotations

from pathlib import Path


def run_demo(out: Path, seed: int, quick: bool) -> None:
    """Build data and a small model, train with and without selection, print what came out.

    Args:
        out: Where everything goes.
        seed: Seed of data, model and runs.
        quick: A few steps only.
    """
    from dataflex.demo.settings import Settings
    from dataflex.demo.tour import tour

    tour(out, Settings.choose(seed, quick=quick), quick=quick)
