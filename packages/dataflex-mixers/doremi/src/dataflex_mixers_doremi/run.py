"""Training the phases one after another, and going on where the last call stopped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dataflex.phases.conduct import How, conduct
from dataflex.phases.phase import Group
from dataflex_mixers_doremi.phases import SECTION, DoremiPhase


def run_phases(phases: Sequence[DoremiPhase], root: Path, plugins: Sequence[str]) -> None:
    """Write all run files, then train what is not complete; each phase needs the one before it.

    Args:
        phases: In order.
        root: The folder they lie in.
        plugins: Values of ``-p`` for each run.
    """
    conduct([Group(phases=[phase]) for phase in phases], root, How(command=SECTION, plugins=plugins))
