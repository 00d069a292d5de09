"""Checks of what a weighter is given and what it answers.

Shapes: U samples of a micro-batch.
"""

from __future__ import annotations

from typing import Any

import torch

from dataflex.errors import ComponentError
from dataflex.trainers.divergence import ADVICE


def require_finite(losses_U: torch.Tensor) -> None:
    """Check that the losses a weighter is to look at are numbers: of others it could not tell high from low.

    Raises:
        ComponentError: says that the model has diverged.
    """
    broken = int((~torch.isfinite(losses_U)).sum())
    if broken:
        raise ComponentError(f"the training loss of {broken} of {len(losses_U)} samples is not a number. {ADVICE}")


def valid_weights(answer: Any, losses_U: torch.Tensor, normaliser: float | torch.Tensor = 1.0) -> torch.Tensor:
    """Check what ``weights`` returned, and that its quotient by the normaliser is a number.

    Args:
        answer: What it returned.
        losses_U: What it was given.
        normaliser: One for all samples, or one for each.

    Raises:
        ComponentError: says which of type, shape or values is wrong.
    """
    if not isinstance(answer, torch.Tensor):
        raise ComponentError(f"weights() returned {type(answer).__name__}; it must return a tensor")
    if answer.shape != losses_U.shape:
        raise ComponentError(
            f"weights() returned shape {list(answer.shape)} for losses of shape {list(losses_U.shape)}"
        )
    weights_U = answer.detach().to(losses_U)
    if not bool((torch.isfinite(weights_U / normaliser) & (weights_U >= 0)).all()):
        least = normaliser if isinstance(normaliser, float) else float(normaliser.min())
        beside = "" if least == 1.0 else f", where the mean weight of the latest steps was {least:.3g}"
        raise ComponentError(
            f"weights() returned {weights_U.tolist()} for losses {losses_U.tolist()}{beside}; none may be negative or "
            "infinite"
        )
    return weights_U


def reduced_mean(answer: Any, losses_U: torch.Tensor) -> torch.Tensor:
    """Check what ``get_weighted_loss`` returned.

    Args:
        answer: What it returned.
        losses_U: What it was given, with gradient.

    Returns:
        The answer as a scalar.

    Raises:
        ComponentError: when it is no scalar, does not depend on the losses, or is not finite where they are.
    """
    if not isinstance(answer, torch.Tensor) or answer.numel() != 1:
        found = list(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise ComponentError(f"get_weighted_loss() returned {found}; it must return a scalar tensor")
    if losses_U.requires_grad and not answer.requires_grad:
        raise ComponentError("get_weighted_loss() returned a number that does not depend on the losses")
    if not bool(torch.isfinite(answer)) and bool(torch.isfinite(losses_U).all()):
        raise ComponentError(f"get_weighted_loss() returned {answer.item()} for losses {losses_U.tolist()}")
    return answer.reshape(())


def require_labels(labels_BT: Any) -> torch.Tensor:
    """The labels of a micro-batch.

    Raises:
        ComponentError: when there are none.
    """
    if not isinstance(labels_BT, torch.Tensor):
        raise ComponentError("the batches hold no labels, so the losses of their samples cannot be told apart.")
    return labels_BT
