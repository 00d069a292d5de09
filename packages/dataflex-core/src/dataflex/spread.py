"""How a tensor is split over ranks: this rank's piece of it, the whole of it, and the layers that a pass left whole.

    plain       every rank has all of it
    DTensor     FSDP2: ``to_local()`` is the piece, ``full_tensor()`` the whole
    ZeRO-3      ``ds_tensor`` is the piece; the parameter itself is empty between two uses

A piece may be read by one rank alone. The whole is an exchange: all ranks ask for it, in the same order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn


def is_spread(model: nn.Module) -> bool:
    """Whether a forward pass of a model is an exchange between ranks: a rank that runs none leaves the others waiting.

    Args:
        model: The model, wrapped or not.
    """
    return any(_is_piece(parameter) for parameter in model.parameters())


def local_piece(tensor: torch.Tensor) -> torch.Tensor:
    """What this rank keeps of a tensor, detached and without a copy: all of a plain one."""
    partition = getattr(tensor, "ds_tensor", None)
    if isinstance(partition, torch.Tensor):
        return partition.detach()
    local: Callable[[], torch.Tensor] | None = getattr(tensor, "to_local", None)
    return tensor.detach() if local is None else local().detach()


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor, detached, in its own shape; a plain one as it is. All ranks call it.

    A mesh that replicates and shards is gathered over the tensor's own mesh, so no number counts twice.
    """
    gathered: Callable[[], torch.Tensor] | None = getattr(tensor, "full_tensor", None)
    return tensor.detach() if gathered is None else gathered().detach()


def reshard(model: nn.Module) -> None:
    """Give back the layers that FSDP2 gathered and no gradient has ended: the root, and all after a forward alone."""
    for module in _fsdp_modules(model):
        module.reshard()


class LocalGradients:
    """This rank's own gradients of a pass, whole, whatever spreads the parameters.

    FSDP2 adds up a gradient on the gathered parameter and, at the end of a step, its sum over ranks on the spread one.
    Inside :meth:`apart` the first is all there is, and nothing that training has added up so far is touched.

    Args:
        model: The model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._trainable = [value for value in model.parameters() if value.requires_grad]
        self._modules = list(_fsdp_modules(model))
        groups = [group for module in self._modules for group in module._get_fsdp_state()._fsdp_param_groups]
        self._groups = groups
        self._gathered = {id(each.sharded_param): each for group in groups for each in group.fsdp_params}

    def of(self, parameter: nn.Parameter) -> torch.Tensor | None:
        """The gradient of one parameter, of the whole parameter's shape; ``None`` if the pass gave it none."""
        gathered = self._gathered.get(id(parameter))
        if gathered is None:
            return parameter.grad
        found = gathered.unsharded_accumulated_grad
        return found if found is not None else getattr(getattr(gathered, "_unsharded_param", None), "grad", None)

    def clear(self) -> None:
        """Forget the gradients of the batch before."""
        for parameter in self._trainable:
            parameter.grad = None
        for gathered in self._gathered.values():
            _put(gathered, None, None)

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """Gradients of a pass neither reach other ranks nor those of an optimizer step that is under way."""
        kept = [parameter.grad for parameter in self._trainable]
        under_way = [(each, *_taken(each)) for each in self._gathered.values()]
        synced = [(group, group.reduce_grads, group.all_reduce_grads) for group in self._groups]
        self.clear()
        for group in self._groups:
            group.reduce_grads = group.all_reduce_grads = False
        try:
            yield
        finally:
            for module in self._modules:
                module.reshard()
            for parameter, grad in zip(self._trainable, kept, strict=True):
                parameter.grad = grad
            for gathered, summed, last in under_way:
                _put(gathered, summed, last)
            for group, reduces, all_reduces in synced:
                group.reduce_grads, group.all_reduce_grads = reduces, all_reduces


def _taken(gathered: Any) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    return gathered.unsharded_accumulated_grad, getattr(getattr(gathered, "_unsharded_param", None), "grad", None)


def _put(gathered: Any, summed: torch.Tensor | None, last: torch.Tensor | None) -> None:
    gathered.unsharded_accumulated_grad = summed
    parameter = getattr(gathered, "_unsharded_param", None)  # made by the first forward
    if parameter is not None:
        parameter.grad = last


def _is_piece(parameter: torch.Tensor) -> bool:
    return hasattr(parameter, "ds_tensor") or hasattr(parameter, "full_tensor")


def _fsdp_modules(model: nn.Module) -> Iterator[Any]:
    return (module for module in model.modules() if hasattr(module, "_get_fsdp_state") and hasattr(module, "reshard"))
