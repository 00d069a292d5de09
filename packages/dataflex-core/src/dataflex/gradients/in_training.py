"""Inner products of the rows just trained on with kept directions, from training's own backward.

    forward     y = layer(x), stock; then y passes through a function that keeps x
    backward    gy comes by: G_b = gy_b^T x_b, one product per row
                    ├─> <G_b, U>, |G_b|^2            added up over layers
                    └─> sum_b G_b                    the weight's gradient, or the stock product beside it

A row's label is ``<g_b, U> / |g_b|`` for its gradient over all recorded layers. It does not depend on what the loss is
divided by (accumulation, ranks, loss scale). The gradients of the layers' inputs are always the stock ones.

Two ways to the weights' gradients. ``stock``: autograd's own product is made as ever and the per-row one besides, so
``.grad`` is bit-equal to a run without labels: cheap where the weights are small, as adapters are. ``summed``: the
per-row products take its place and are added up, within 1e-6 of the largest entry in fp32: they cost about as much as
the stock product, and both together half as much again as a layer.

Shapes: B rows of a micro-batch, C of them in one piece, T positions of a row, i inputs and o outputs of a layer, n
numbers of one parameter, S directions.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from dataflex.errors import ComponentError
from dataflex.gradients.coverage import Coverage
from dataflex.gradients.linear import pieces
from dataflex.gradients.sinks import Directions


class TrainingRecorder:
    """Replaces the forward of linear layers while a micro-batch is trained on, and keeps its rows' labels.

    Args:
        coverage: The layers, and which of their weights and biases count.
        directions: By parameter of ``coverage``, shape [S, n], on the parameters' device in fp32, or fp64 of
            parameters in fp64.
        summed: Make weights' gradients from the per-row products; otherwise the stock ones are kept.
    """

    def __init__(self, coverage: Coverage, directions: Directions, *, summed: bool) -> None:
        self._layers, self._summed = coverage.layers, summed
        self._weights, self._biases = _by_layer(coverage.layers, directions)
        self._width = len(next(iter(directions.values())))
        self._samples = 0
        self._seen: Counter[str] = Counter()
        self._dots_BS: list[torch.Tensor] = []
        self._lengths_B: list[torch.Tensor] = []

    @contextlib.contextmanager
    def micro_batch(self, samples: int) -> Iterator[None]:
        """Record one micro-batch, forward and backward; its labels are then in :meth:`labels`.

        Args:
            samples: Its rows.

        Raises:
            ComponentError: naming a layer that was not used exactly once, or whose input has no axis of rows.
        """
        self._samples = samples
        self._seen.clear()
        self._dots_BS, self._lengths_B = [], []
        try:
            for name, layer in self._layers.items():
                layer.__dict__["forward"] = self._forward_of(name, layer)
            yield
        finally:
            for layer in self._layers.values():
                layer.__dict__.pop("forward", None)
        for name in self._layers:
            if self._seen[name] != 1:
                used = "not through its own forward" if not self._seen[name] else f"{self._seen[name]} times"
                raise ComponentError(
                    f"the model uses the linear layer {name} {used}, so the gradients of its rows cannot be told "
                    "apart while it trains. Leave it out of what is trained (lora_target), or take the selector less."
                )

    def labels(self) -> torch.Tensor:
        """``<g, U> / |g|`` of the latest micro-batch, fp64, shape [B, S]; NaN for a row without a finite gradient."""
        device = self._dots_BS[0].device
        dots_BS = torch.stack([part_BS.to(device) for part_BS in self._dots_BS]).double().sum(dim=0)
        lengths_B = torch.stack([part_B.to(device) for part_B in self._lengths_B]).double().square().sum(dim=0).sqrt()
        return dots_BS / torch.where(lengths_B.isfinite() & (lengths_B > 0), lengths_B, torch.nan).unsqueeze(1)

    def receive(
        self, layer: str, x: torch.Tensor, gy: torch.Tensor, wanted: tuple[bool, bool]
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Add one layer's share.

        Args:
            layer: Its name.
            x: Its input, shape [B, ..., i].
            gy: The gradient of its output, shape [B, ..., o].
            wanted: Whether the sums over rows of its weight's and its bias's gradients are wanted.

        Returns:
            Those sums, of the directions' type and shapes [o, i] and [o].
        """
        self._seen[layer] += 1
        x_BTi, gy_BTo = (x, gy) if x.ndim == 3 else (x.flatten(1, -2), gy.flatten(1, -2))
        weight = bias = None
        direction = self._weights.get(layer)
        if direction is not None:
            inputs, outputs = x_BTi.shape[-1], gy_BTo.shape[-1]
            first, second = (x_BTi, gy_BTo) if inputs < outputs else (gy_BTo, x_BTi)  # the wide one last: faster
            first = first.transpose(1, 2)
            weight = self._add(
                lambda piece: torch.bmm(first[piece], second[piece]).flatten(1), inputs * outputs, direction, wanted[0]
            )
            if weight is not None:
                weight = weight.reshape(inputs, outputs).T if inputs < outputs else weight.reshape(outputs, inputs)
        direction = self._biases.get(layer)
        if direction is not None:
            bias = self._add(lambda piece: gy_BTo[piece].sum(dim=1), gy_BTo.shape[-1], direction, wanted[1])
        return weight, bias

    def _add(
        self, make: Callable[[slice], torch.Tensor], size: int, direction_nS: torch.Tensor, wanted: bool
    ) -> torch.Tensor | None:
        """Add one parameter's share; the sum of its gradients over rows, shape [n], if it is wanted."""
        total, dots, lengths = None, [], []
        for piece in pieces(self._samples, size, direction_nS.device):
            grads_Cn = make(piece).to(direction_nS.dtype)  # half precision is left here
            dots.append(grads_Cn @ direction_nS)
            lengths.append(torch.linalg.vector_norm(grads_Cn, dim=1))
            if wanted:
                part_n = grads_Cn.sum(dim=0)
                total = part_n if total is None else total.add_(part_n)
        self._dots_BS.append(dots[0] if len(dots) == 1 else torch.cat(dots))
        self._lengths_B.append(lengths[0] if len(lengths) == 1 else torch.cat(lengths))
        return total

    def _own(self, layer: str, parameter: torch.Tensor | None, directions: Directions) -> torch.Tensor | None:
        """The parameter, if its gradient is made here."""
        return parameter if self._summed and layer in directions else None

    def _forward_of(self, name: str, layer: nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
        def forward(x: torch.Tensor) -> torch.Tensor:
            if x.ndim < 3 or x.shape[0] != self._samples:
                raise ComponentError(
                    f"the input of the linear layer {name} has shape {list(x.shape)} for {self._samples} rows: it has "
                    "no axis of rows (experts, packing without padding), so their gradients cannot be told apart while "
                    "the model trains. Leave the layer out of what is trained, or take the selector less."
                )
            weight, bias = self._own(name, layer.weight, self._weights), self._own(name, layer.bias, self._biases)
            y = functional.linear(
                x,
                layer.weight if weight is None else weight.detach(),
                layer.bias if bias is None else bias.detach(),
            )
            kept = x.detach()
            if y.is_floating_point() and y.element_size() < kept.element_size():
                kept = kept.to(y.dtype)  # what the product was made of under autocast, in half the memory
            output: torch.Tensor = _Recorded.apply(y, kept, weight, bias, self, name)
            return output

        return forward


class _Recorded(torch.autograd.Function):
    """Hands its first argument on as it is. Its backward shows the gradient to the recorder."""

    @staticmethod
    def forward(
        ctx: Any,
        y: torch.Tensor,
        x: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        recorder: TrainingRecorder,
        layer: str,
    ) -> torch.Tensor:
        # Through save_for_backward, so that gradient checkpointing frees the input and makes it again.
        ctx.save_for_backward(x)
        ctx.recorder, ctx.layer = recorder, layer
        ctx.shapes = tuple(None if value is None else (value.shape, value.dtype) for value in (weight, bias))
        return y

    @staticmethod
    def backward(ctx: Any, *outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gy,) = outputs
        (x,) = ctx.saved_tensors
        wanted = (ctx.needs_input_grad[2], ctx.needs_input_grad[3])
        with torch.autocast(gy.device.type, enabled=False):
            sums = ctx.recorder.receive(ctx.layer, x, gy.to(x.dtype), wanted)
        grads = [
            None if value is None else value.reshape(shape[0]).to(shape[1])
            for value, shape in zip(sums, ctx.shapes, strict=True)
        ]
        return gy, None, grads[0], grads[1], None, None


def _by_layer(layers: Mapping[str, nn.Linear], directions: Directions) -> tuple[Directions, Directions]:
    """Directions of weights and of biases by layer, shape [n, S]; of a weight with few inputs, of its transpose."""
    weights, biases = {}, {}
    for layer, module in layers.items():
        prefix = f"{layer}." if layer else ""
        vectors_Sn = directions.get(f"{prefix}weight")
        if vectors_Sn is not None:
            if module.in_features < module.out_features:
                vectors_Soi = vectors_Sn.reshape(-1, module.out_features, module.in_features)
                vectors_Sn = vectors_Soi.transpose(1, 2).flatten(1)
            weights[layer] = vectors_Sn.contiguous().T
        vectors_Sn = directions.get(f"{prefix}bias")
        if vectors_Sn is not None:
            biases[layer] = vectors_Sn.contiguous().T
    return weights, biases


def directions_for(coverage: Coverage, directions: Mapping[str, torch.Tensor]) -> Directions:
    """Directions on the devices of the parameters they belong to.

    Raises:
        ComponentError: when they are of other parameters, or of another size.
    """
    found = {}
    for name, parameter in coverage.parameters.items():
        vectors_Sn = directions.get(name)
        if vectors_Sn is None or vectors_Sn.shape[1] != parameter.numel():
            raise ComponentError(
                f"there is no direction for {name} of {parameter.numel()} numbers: the direction was made for another "
                "model. Start anew."
            )
        found[name] = vectors_Sn.to(parameter.device, torch.promote_types(parameter.dtype, torch.float32))
    return found
