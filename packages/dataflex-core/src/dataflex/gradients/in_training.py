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
        directions: By parameter of ``coverage``, shape [S, n], fp32 on the parameters' device.
        summed: Make weights' gradients from the per-row products; otherwise the stock ones are kept.
    """

    def __init__(self, coverage: Coverage, directions: Directions, *, summed: bool) -> None:
        self._layers, self._directions, self._summed = coverage.layers, directions, summed
        self._width = len(next(iter(directions.values())))
        self._samples = 0
        self._seen: Counter[str] = Counter()

    @contextlib.contextmanager
    def micro_batch(self, samples: int) -> Iterator[None]:
        """Record one micro-batch, forward and backward; its labels are then in :meth:`labels`.

        Args:
            samples: Its rows.

        Raises:
            ComponentError: naming a layer that was not used exactly once, or whose input has no axis of rows.
        """
        device = next(iter(self._directions.values())).device
        self._samples = samples
        self._seen.clear()
        self.dots_BS = torch.zeros(samples, self._width, dtype=torch.float64, device=device)
        self.squares_B = torch.zeros(samples, dtype=torch.float64, device=device)
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
        usable_B = self.squares_B.isfinite() & (self.squares_B > 0)
        return self.dots_BS / torch.where(usable_B, self.squares_B.sqrt(), torch.nan).unsqueeze(1)

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
            Those sums, fp32.
        """
        self._seen[layer] += 1
        x_BTi, gy_BTo = x.flatten(1, -2), gy.flatten(1, -2)
        gy_BoT = gy_BTo.transpose(1, 2)
        sums: list[torch.Tensor | None] = [None, None]
        size = x_BTi.shape[-1] * gy_BTo.shape[-1]
        makes = (lambda piece: torch.bmm(gy_BoT[piece], x_BTi[piece]), lambda piece: gy_BTo[piece].sum(dim=1))
        for place, (own, make, numbers) in enumerate(
            zip(("weight", "bias"), makes, (size, gy_BTo.shape[-1]), strict=True)
        ):
            name = f"{layer}.{own}" if layer else own
            vectors_Sn = self._directions.get(name)
            if vectors_Sn is None:
                continue
            for piece in pieces(self._samples, numbers, gy.device):
                grads_Cn = make(piece).flatten(1).float()
                self.dots_BS[piece] += grads_Cn @ vectors_Sn.T
                self.squares_B[piece] += torch.linalg.vecdot(grads_Cn, grads_Cn)
                if wanted[place]:
                    total, part_n = sums[place], grads_Cn.sum(dim=0)
                    sums[place] = part_n if total is None else total.add_(part_n)
        return sums[0], sums[1]

    def _own(self, layer: str, parameter: nn.Parameter | None, own: str) -> nn.Parameter | None:
        """The parameter, if its gradient is made here."""
        name = f"{layer}.{own}" if layer else own
        return parameter if self._summed and name in self._directions else None

    def _forward_of(self, name: str, layer: nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
        def forward(x: torch.Tensor) -> torch.Tensor:
            if x.ndim < 3 or x.shape[0] != self._samples:
                raise ComponentError(
                    f"the input of the linear layer {name} has shape {list(x.shape)} for {self._samples} rows: it has "
                    "no axis of rows (experts, packing without padding), so their gradients cannot be told apart while "
                    "the model trains. Leave the layer out of what is trained, or take the selector less."
                )
            weight, bias = self._own(name, layer.weight, "weight"), self._own(name, layer.bias, "bias")
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
        found[name] = vectors_Sn.to(parameter.device, torch.float32)
    return found
