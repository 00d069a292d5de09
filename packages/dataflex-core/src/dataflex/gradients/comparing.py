"""What every component that compares rows by gradients settles first: Adam's steps, and memory for directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import nn

from dataflex.components.context import RunContext
from dataflex.errors import ConfigError
from dataflex.gradients.linear_adam import LinearAdam, linear_adam
from dataflex.gradients.preconditioning import AdamSteps, adam_steps

Preconditioner = Literal["official", "adam", "sgd", "linear"]


def steps_of(
    context: RunContext, parameters: Mapping[str, nn.Parameter], kind: Preconditioner
) -> AdamSteps | LinearAdam | None:
    """What a row's gradient becomes before it is compared; ``None`` leaves it.

    Args:
        context: The run, whose optimizer holds the moments.
        parameters: Whose gradients are compared, by name.
        kind: ``sgd`` for the gradient itself.

    Raises:
        ComponentError: when the optimizer holds no moments.
    """
    if kind == "sgd":
        return None
    return linear_adam(context, parameters) if kind == "linear" else adam_steps(context, parameters, kind)


def check_direction_memory(size: int, subtasks: int, most_gb: float) -> None:
    """Refuse directions that take more memory than they may.

    Args:
        size: Numbers of one direction.
        subtasks: How many there are.
        most_gb: The component's ``direction_memory_gb``.

    Raises:
        ConfigError: saying what to change.
    """
    needed = 4e-9 * subtasks * size
    if needed > most_gb:
        raise ConfigError(
            f"the validation directions take {needed:.1f} GB ({subtasks} subtasks x {size} numbers x 4 bytes), "
            f"above direction_memory_gb={most_gb}. Set component_params.projection: sjlt, or raise it."
        )
