"""``dataflex demo``."""

from __future__ import annotations

from pathlib import Path


def run_demo(out: Path, seed: int, quick: bool, prepared_only: bool = False) -> None:
    """Build data and a small model, train with and without selection, print what came out.

    Args:
        out: Where everything goes.
        seed: Seed of data, model and runs.
        quick: A few steps only.
        prepared_only: Data and model only.
    """
    from dataflex.demo.settings import Settings
    from dataflex.demo.tour import prepare_only, tour

    settings = Settings.choose(seed, quick=quick)
    if prepared_only:
        prepare_only(out, settings)
    else:
        from dataflex.cli.study import tools_with

        tour(out, settings, tools_with([]), quick=quick)
