"""The mixer ``schedule``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex import Mixer
from dataflex.components.mix_context import MixContext
from dataflex.mixing.proportions import check_proportions
from dataflex_mixers_schedule.params import ScheduleParams

if TYPE_CHECKING:
    from torch import nn


class ScheduleMixer(Mixer):
    """Proportions as a piecewise-linear function of the step.

    Raises:
        ConfigError: at construction, when the points do not name exactly the domains of the run.
    """

    params: ScheduleParams
    context: MixContext

    def __init__(self, params: ScheduleParams, context: MixContext) -> None:
        super().__init__(params, context)
        for step, shares in params.points.items():
            check_proportions(shares, context.domain_names, f"points of mixer 'schedule' at step {step}")

    def mix(self, model: nn.Module, step_id: int, **kwargs: Any) -> npt.NDArray[np.float64]:
        """The proportions at ``step_id``; they hold until the next boundary. The model is not used."""
        return self.planned(step_id)

    def planned(self, step_id: int) -> npt.NDArray[np.float64]:
        """The proportions at any step, which the points alone decide."""
        shares = interpolate(self.params.points, step_id)
        return np.array([shares[name] for name in self.context.domain_names])


def interpolate(points: Mapping[int, Mapping[str, float]], step: int) -> dict[str, float]:
    """Proportions at a step: straight lines between the points, the first point before them, the last one after.

    Args:
        points: Proportions by domain name at some steps; the same names at each.
        step: Any step.
    """
    steps = sorted(points)
    return {name: float(np.interp(step, steps, [points[at][name] for at in steps])) for name in points[steps[0]]}
