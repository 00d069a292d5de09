"""What can be known to be impossible in any phase, before the first one trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dataflex.phases import checks
from dataflex.phases.checks import with_uniform_weights
from dataflex.phases.phase import Phase
from dataflex.run_checks import MODEL_FILES
from dataflex_mixers_doremi.phases import SECTION, DoremiPhase


def check_phases(phases: Sequence[DoremiPhase], plugins: Sequence[str]) -> None:
    """Check all phases as :func:`dataflex.phases.checks.check_phases` does.

    Args:
        phases: In order.
        plugins: Values of ``-p`` for each run.
    """

    def stand_in(phase: Phase) -> Mapping[str, Any]:
        return _as_if_trained(phase, phases)

    checks.check_phases(phases, plugins, command=SECTION, stand_in=stand_in)


def _as_if_trained(phase: Phase, phases: Sequence[DoremiPhase]) -> Mapping[str, Any]:
    """The keys of a phase, with nothing in them that another phase has yet to write."""
    keys = with_uniform_weights(phase)
    outputs = {each.output_dir: each for each in phases}
    reference = phase.reference if isinstance(phase, DoremiPhase) else None
    if reference in outputs and not any((reference / name).is_file() for name in MODEL_FILES):
        like = outputs[reference].keys["model_name_or_path"]
        keys["component_params"] = {**keys["component_params"], "reference": str(like)}
    return keys
