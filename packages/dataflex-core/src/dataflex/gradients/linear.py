"""Per-sample gradients of linear layers: what a backward pass sums over the batch is handed out before the sum.

For ``y = x W^T + b`` the gradient of sample b is ``gy_b^T x_b``: one batched matrix product per layer, as many
operations as the sum takes. ``.grad`` is never written, since the layer computes with detached parameters.

Shapes: B samples, T positions of a sample, i inputs and o outputs of a layer, C samples in one piece.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from dataflex.gradients.sink import FactorSink, GradientSink

CPU_PIECE_BYTES, ACCELERATOR_PIECE_BYTES = 8 * 2**20, 256 * 2**20
"""Most fp32 bytes of gradients handed out at once.

On a CPU, what a sink does with them then stays in the cache. An accelerator wants few, large operations: starting one
takes as long as adding up a hundred thousand numbers.
"""


class InseparableError(Exception):
    """A model computes something whose gradient cannot be told apart by sample."""


class Recorder:
    """Replaces the forward of linear layers and hands their per-sample gradients to a sink.

    Args:
        layers: The layers by name.
        names: Parameters to hand out.
    """

    def __init__(self, layers: Mapping[str, nn.Linear], names: frozenset[str]) -> None:
        self.layers, self.names = layers, names
        self.samples, self.scale = 0, 1.0
        self._sink: GradientSink | None = None
        self._seen: Counter[str] = Counter()

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Record while inside; the layers' own forward is back afterwards."""
        try:
            for name, layer in self.layers.items():
                layer.__dict__["forward"] = self._forward_of(name, layer)
            yield
        finally:
            for layer in self.layers.values():
                layer.__dict__.pop("forward", None)

    @contextlib.contextmanager
    def detached(self) -> Iterator[None]:
        """Inside :meth:`attached`: the layers compute as they do without a recorder."""
        replaced = {name: layer.__dict__.pop("forward") for name, layer in self.layers.items()}
        try:
            yield
        finally:
            for name, forward in replaced.items():
                self.layers[name].__dict__["forward"] = forward

    def begin(self, samples: int, sink: GradientSink, scale: float = 1.0) -> None:
        """A batch begins; ``scale`` is what its loss is multiplied by, and gradients are divided by."""
        self.samples, self.scale, self._sink = samples, scale, sink
        self._seen.clear()

    def finish(self) -> None:
        """The batch's backward is done.

        Raises:
            InseparableError: when a layer was not used exactly once.
        """
        self._sink = None
        for name in self.layers:
            if self._seen[name] != 1:
                times = "not through its own forward" if not self._seen[name] else f"{self._seen[name]} times"
                raise InseparableError(f"the model uses {name} {times}")

    def _forward_of(self, name: str, layer: nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
        # Makes the output require a gradient where neither the input nor the detached weight does.
        token = torch.zeros((), requires_grad=True, device=layer.weight.device)

        def forward(x: torch.Tensor) -> torch.Tensor:
            if x.ndim < 3 or x.shape[0] != self.samples:
                raise InseparableError(
                    f"the input of {name} has shape {list(x.shape)} for a batch of {self.samples}: no axis of samples"
                )
            # The layer's parameters as they are now: of a spread model, gathered, and gathered again for the backward.
            output: torch.Tensor = _PerSampleLinear.apply(x, token, (layer.weight, layer.bias), (self, name))
            return output

        return forward

    def receive(self, layer: str, x: torch.Tensor, gy: torch.Tensor) -> None:
        """Hand out the gradients of one layer.

        Args:
            layer: Its name.
            x: Its input, shape [B, ..., i].
            gy: The gradient of its output, shape [B, ..., o].
        """
        assert self._sink is not None
        self._seen[layer] += 1
        if self._seen[layer] > 1:
            return  # finish() reports it; what the sink holds is thrown away
        x_BTi, gy_BTo = x.flatten(1, -2), gy.flatten(1, -2)
        weight, bias = (f"{layer}.{own}" if layer else own for own in ("weight", "bias"))
        if weight in self.names:
            tokens, inputs, outputs = x_BTi.shape[1], x_BTi.shape[-1], gy_BTo.shape[-1]
            if isinstance(self._sink, FactorSink) and self._sink.wants_factors(weight, tokens, inputs, outputs):
                for piece in pieces(self.samples, tokens * max(inputs, outputs, tokens), gy.device):
                    gy_CTo = gy_BTo[piece].float() / self.scale
                    self._sink.take_factors(weight, piece, x_BTi[piece].float(), gy_CTo)
            else:
                self._hand_out_products(weight, x_BTi, gy_BTo)
        if bias in self.names:
            for piece in pieces(self.samples, gy_BTo.shape[-1], gy.device):
                self._hand_out(bias, piece, gy_BTo[piece].float().sum(dim=1))

    def _hand_out_products(self, weight: str, x_BTi: torch.Tensor, gy_BTo: torch.Tensor) -> None:
        for piece in pieces(self.samples, x_BTi.shape[-1] * gy_BTo.shape[-1], gy_BTo.device):
            gy_CoT = gy_BTo[piece].float().transpose(1, 2)
            grads_Coi = torch.bmm(gy_CoT, x_BTi[piece].float())
            self._hand_out(weight, piece, grads_Coi.flatten(1))

    def _hand_out(self, name: str, piece: slice, grads_Cn: torch.Tensor) -> None:
        assert self._sink is not None
        self._sink.take(name, piece, grads_Cn if self.scale == 1.0 else grads_Cn.div_(self.scale))


def pieces(samples: int, size: int, device: torch.device) -> Iterator[slice]:
    """Cut samples into pieces of which each has so few numbers, ``size`` a sample, as are handled at once."""
    most = CPU_PIECE_BYTES if device.type == "cpu" else ACCELERATOR_PIECE_BYTES
    step = max(1, most // (4 * size))
    for start in range(0, samples, step):
        yield slice(start, min(start + step, samples))


class _PerSampleLinear(torch.autograd.Function):
    """A linear layer whose weight and bias get no gradient.

    The weight is looked up again in the backward and not saved: what is saved of a gathered weight keeps it whole in
    memory from forward to backward, and with it, layer by layer, the whole model.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        token: torch.Tensor,
        parameters: tuple[torch.Tensor, torch.Tensor | None],
        target: tuple[Recorder, str],
    ) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.weight, ctx.target = parameters[0], target
        return functional.linear(x, *parameters)

    @staticmethod
    def backward(ctx: Any, *outputs: torch.Tensor) -> tuple[torch.Tensor | None, None, None, None]:
        (gy,) = outputs
        (x,) = ctx.saved_tensors
        recorder, layer = ctx.target
        # Under autocast the output may be in half precision while the saved input and weight are not.
        gx = (gy @ ctx.weight.data.to(gy.dtype)).to(x.dtype) if ctx.needs_input_grad[0] else None
        with torch.autocast(gy.device.type, enabled=False):
            recorder.receive(layer, x, gy)
        return gx, None, None, None
