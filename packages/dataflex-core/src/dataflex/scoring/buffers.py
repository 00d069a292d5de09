"""Buffers of a model, put back to what they were."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dataflex.scoring.rope import is_rotary

_MOST_COPIED = 2**20  # bytes: quantised weights may be buffers too, and no forward pass writes to those


@dataclass(frozen=True)
class _Kept:
    module: nn.Module
    buffers: dict[str, torch.Tensor | None]
    copies: dict[str, torch.Tensor]
    attributes: dict[str, Any] | None  # of a rotary embedding, which keeps its longest length beside the buffer

    def put_back(self) -> None:
        with torch.no_grad():
            for name, copy in self.copies.items():
                buffer = self.buffers[name]
                if buffer is not None and not torch.equal(buffer, copy):
                    buffer.copy_(copy)
        self.module._buffers.clear()
        self.module._buffers.update(self.buffers)
        if self.attributes is not None:
            own = vars(self.module)
            for name in own.keys() - self.attributes.keys():
                del own[name]
            own.update(self.attributes)


@contextlib.contextmanager
def kept_buffers(model: nn.Module) -> Iterator[None]:
    """Whatever happens inside, the buffers are afterwards the tensors they were, with the numbers they had.

    A forward pass may replace them (RoPE of type ``dynamic`` replaces its frequencies) or write to them. Written ones
    are put back up to 1 MiB each.
    """
    kept = [_keep(module) for module in model.modules() if module._buffers]
    try:
        yield
    finally:
        for each in kept:
            each.put_back()


def _keep(module: nn.Module) -> _Kept:
    buffers = dict(module._buffers)
    copies = {
        name: buffer.detach().clone()
        for name, buffer in buffers.items()
        if buffer is not None and not buffer.is_meta and buffer.numel() * buffer.element_size() <= _MOST_COPIED
    }
    return _Kept(module, buffers, copies, dict(vars(module)) if is_rotary(module) else None)
