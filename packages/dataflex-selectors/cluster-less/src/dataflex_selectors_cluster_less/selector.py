"""The selector ``cluster-less``."""

from __future__ import annotations

from typing import Any

import numpy as np

from dataflex import Selection, Selector
from dataflex.components.selector import random_rows
from dataflex_selectors_cluster_less.params import ClusterLessParams


class ClusterLessSelector(Selector):
    """Draw the next stage's samples from the shortest rows of the pool."""

    params: ClusterLessParams

    def select(self, model: Any, step_id: int, num_samples: int, **kwargs: Any) -> Selection:
        """Draw ``num_samples`` rows; none repeats before all of the shortest have been drawn.

        Args:
            model: The model as it is now; leave it as it is.
            step_id: Optimizer steps done so far.
            num_samples: How many rows to return, over all ranks.
            kwargs: Run-time facts: ``optimizer_state``, ``tokenizer`` and others.
        """
        lengths = np.array([len(row["input_ids"]) for row in self.dataset])
        count = max(1, round(self.params.share * len(lengths)))
        shortest = np.argsort(lengths, kind="stable")[:count]
        rows = shortest[random_rows(self.context.rng(step_id), count, num_samples)]
        return Selection(rows, metrics={"mean_tokens": float(lengths[rows].mean())})
