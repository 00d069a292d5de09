"""What a selector asks training for: the inner products of each row's gradient with directions of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class LabelDirections:
    """Directions that the rows of each step are compared with, in the step's own backward.

    A row's label is ``<g, U> / |g|``, g its gradient over all trainable weights and biases of plain linear layers.

    Attributes:
        vectors: By parameter, shape ``[S, n]``; for each parameter that ``parameters: linear`` measures.
        exact_gradients: Keep the stock product for the gradient of every weight. Otherwise it is the sum of the rows'
            own under full fine-tuning, which is cheaper and differs in rounding; adapters keep it anyway.
    """

    vectors: Mapping[str, torch.Tensor]
    exact_gradients: bool = False
