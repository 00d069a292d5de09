"""Which trainable parameters a batched backward can tell apart by sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from torch import nn

from dataflex.errors import ComponentError

_SHOWN = 3
_SEPARABLE = ("weight", "bias")


class Scope(StrEnum):
    """Whose gradients are asked for."""

    ALL = "all"
    LINEAR = "linear"


@dataclass(frozen=True)
class Coverage:
    """The parameters whose gradients are measured.

    Attributes:
        parameters: By name, in the model's order.
        layers: By name, the linear layers whose own parameters can be told apart by sample.
        excluded: Trainable parameters that are left out, because only linear layers were asked for.
        reason: Why a batched backward cannot give all of ``parameters``; ``""`` if it can.
    """

    parameters: Mapping[str, nn.Parameter]
    layers: Mapping[str, nn.Linear]
    excluded: tuple[str, ...] = ()
    reason: str = ""

    @property
    def size(self) -> int:
        """Numbers in one sample's gradient."""
        return sum(parameter.numel() for parameter in self.parameters.values())


def cover(model: nn.Module, scope: Scope) -> Coverage:
    """Look through a model for what can be measured.

    Args:
        model: The unwrapped model.
        scope: :attr:`Scope.LINEAR` leaves out what is not the weight or bias of a plain ``nn.Linear``.

    Raises:
        ComponentError: when nothing is left to measure.
    """
    layers = {name: layer for name, layer in model.named_modules() if _is_plain_linear(layer)}
    shared = _shared(model)
    separable = {name for layer, module in layers.items() for name in _own(layer, module) if name not in shared}
    trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
    others = tuple(name for name in trainable if name not in separable)
    chosen = {name: value for name, value in trainable.items() if scope is Scope.ALL or name in separable}
    if not chosen:
        raise ComponentError(
            f"the model has no trainable parameter to measure (parameters: {scope}; {len(trainable)} are trainable in "
            "all). Set component_params.parameters: all, or train something."
        )
    used = {name: layer for name, layer in layers.items() if any(own in chosen for own in _own(name, layer))}
    reason = "" if scope is Scope.LINEAR or not others else _why(others, shared)
    return Coverage(chosen, used, () if scope is Scope.ALL else others, reason)


def _is_plain_linear(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Linear)
        and type(module).forward is nn.Linear.forward
        and "forward" not in vars(module)  # replaced on the instance: it computes something else
    )


def _own(layer: str, module: nn.Module) -> Iterator[str]:
    """Names of a layer's trainable weight and bias. A further parameter is used where nobody sees it, and a weight that
    is made of others before each forward (weight_norm, pruning) is none.
    """
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.requires_grad and name in _SEPARABLE:
            yield f"{layer}.{name}" if layer else name


def _shared(model: nn.Module) -> set[str]:
    """Names of parameters that have several, as a head tied to the embedding has."""
    named = list(model.named_parameters(remove_duplicate=False))
    counts = Counter(id(parameter) for _, parameter in named)
    return {name for name, parameter in named if counts[id(parameter)] > 1}


def _why(others: tuple[str, ...], shared: set[str]) -> str:
    listed = ", ".join(f"{name} (used in several places)" if name in shared else name for name in others[:_SHOWN])
    more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
    return f"trainable parameters outside plain linear layers: {listed}{more}"
