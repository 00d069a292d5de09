"""The bench for selectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from dataflex.components.selector import Selection
from dataflex.scoring.quiet import quiet
from dataflex.testing.bench import Bench
from dataflex.trainers.losses.place_weights import valid_weights
from dataflex.trainers.planners.select import valid_rows

SAMPLES = 6


class SelectorBench(Bench):
    """Asks for :data:`SAMPLES` rows."""

    def ask(self, component: Any, step: int, num_samples: int = SAMPLES) -> Any:
        """Ask for rows; one that is new sees the model first, as in a run."""
        self._begin(component)
        return self.call(component, "select", step, num_samples=num_samples)

    def _begin(self, component: Any) -> None:
        if any(component is known for known in self._known):
            return
        self._known.append(component)
        if self.door(component).defines("begin"):
            model = self.trainee.model
            with quiet(model):
                self.door(component).call("begin", model=model)

    def flat(self, answer: Any) -> Any:
        """The rows, in order."""
        rows = answer.rows if isinstance(answer, Selection) else answer
        return rows.detach().cpu().numpy() if hasattr(rows, "detach") else np.asarray(rows)

    def validate(self, answer: Any, num_samples: int = SAMPLES, pool_size: int | None = None) -> None:
        """Count, type and range, as the Select Trainer checks them."""
        rows = answer.rows if isinstance(answer, Selection) else answer
        valid_rows(rows, num_samples, len(self.rows()) if pool_size is None else pool_size)
        if isinstance(answer, Selection) and answer.weights is not None:
            valid_weights(answer.weights, num_samples)
