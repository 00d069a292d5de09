"""Parameters of the selector ``cluster-less``."""

from __future__ import annotations

from dataclasses import dataclass

from dataflex import param


@dataclass(frozen=True)
class ClusterLessParams:
    """What a run file may set under ``component_params``."""

    share: float = param(0.5, "Part of the pool to draw from, the shortest rows first.", above=0, at_most=1)
