"""All samples of an optimizer step, before any of them is weighed: what ``statistics: batch`` looks at.

    one micro-batch a rank     its own training forward ── losses of all ranks ── weights ── backward
    several                    forwards without gradient over all of them ── losses of all ranks ── weights of all
                               each training forward ── its weights ── backward

The forwards without gradient run in training mode from the random state that the first training forward starts from:
dropout draws the same masks in both, so the losses are those of the training forwards themselves. Random state and
buffers (running means, RoPE frequencies that follow the length) are put back.

Shapes: U samples of this rank, N samples of all ranks, R numbers of each.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from dataflex.components.weight_context import StepLosses
from dataflex.math.losses import SampleLosses
from dataflex.math.weighting import token_mean_weight
from dataflex.rng import rng_scope
from dataflex.scoring.inputs import without_labels

_SMALL = 1 << 16  # numbers of a buffer; those of quantised weights have more, and no forward changes them
_PADDING = -1.0  # no sample has so many target tokens
_TOKENS = 1  # the row of a table of samples that holds their target tokens

Losses = TypeVar("Losses", bound=SampleLosses)
Batch = TypeVar("Batch")


@dataclass(frozen=True)
class WeighedStep:
    """The weights of a step.

    Attributes:
        weights: Of the samples of each micro-batch of this rank, in order.
        normalisers: Their token-weighted mean over the samples of all ranks and micro-batches, of each domain.
    """

    weights: Sequence[torch.Tensor]
    normalisers: npt.NDArray[np.float64]


def samples_of_all_ranks(local_RU: torch.Tensor, accelerator: Any) -> torch.Tensor:
    """Join what the ranks hold, along the samples; their numbers may differ. Called on every rank.

    Args:
        local_RU: Numbers of this rank's samples; the second one is the target tokens.
        accelerator: The run's accelerator.

    Returns:
        Shape [R, N], the same on every rank.
    """
    if accelerator.num_processes == 1:
        return local_RU
    padded_RU = accelerator.pad_across_processes(local_RU, dim=1, pad_index=int(_PADDING))
    gathered: torch.Tensor = accelerator.gather(padded_RU).unflatten(0, (int(accelerator.num_processes), len(local_RU)))
    samples_RN = gathered.transpose(0, 1).flatten(1)
    return samples_RN[:, samples_RN[_TOKENS] != _PADDING]


def gathered_table(parts_RU: Sequence[torch.Tensor], rows: int, accelerator: Any) -> npt.NDArray[np.float64]:
    """Join parts of this rank, then those of all ranks, as fp64 numbers on the host. Called on every rank.

    Args:
        parts_RU: One for each micro-batch with samples; may be none.
        rows: R.
        accelerator: The run's accelerator.
    """
    device = accelerator.device
    dtype = torch.float32 if device.type == "mps" else torch.float64
    local_RU = torch.cat([torch.zeros(rows, 0, dtype=dtype, device=device), *(part.to(dtype) for part in parts_RU)], 1)
    table: npt.NDArray[np.float64] = samples_of_all_ranks(local_RU, accelerator).cpu().double().numpy()
    return table


def weigh_step(
    parts: Sequence[tuple[Losses, Batch]],
    weigh: Callable[[Losses, Batch], torch.Tensor],
    tell: Callable[[StepLosses], None],
    domains_of: Sequence[torch.Tensor | None],
    *,
    domains: int = 1,
    step: int,
    accelerator: Any,
) -> WeighedStep:
    """Weigh the samples of a step that were all seen. Called on every rank.

    Args:
        parts: Losses and batch of each micro-batch of this rank, in order.
        weigh: Asks for the weights of a micro-batch that has samples.
        tell: Told of all samples first.
        domains_of: Domain of each sample of each micro-batch; ``None`` for the only one.
        domains: How many there are.
        step: Optimizer steps done so far.
        accelerator: The run's accelerator.
    """
    seen = [torch.stack([units.means.detach(), units.counts_B]) for units, _ in parts]
    losses, tokens = gathered_table(seen, 2, accelerator)
    tell(StepLosses(step=step, losses=losses, tokens=tokens))
    weights = [weigh(units, batch) if len(units.sums_B) else torch.zeros_like(units.sums_B) for units, batch in parts]
    weighed = [
        torch.stack([part, units.counts_B, torch.zeros_like(part) if domain is None else domain.to(part)])
        for part, (units, _), domain in zip(weights, parts, domains_of, strict=True)
    ]
    asked, tokens, numbers = gathered_table(weighed, 3, accelerator)
    normalisers = [token_mean_weight(asked[numbers == k], tokens[numbers == k]) for k in range(domains)]
    return WeighedStep(weights, np.array(normalisers))


class AheadOfStep:
    """Keeps the micro-batches of a step until their samples have been weighed, and then their weights until used.

    Args:
        accelerator: The run's accelerator.
        losses: Makes the losses of a micro-batch's samples from the model's outputs.
    """

    def __init__(self, accelerator: Any, losses: Callable[[Any, Any, Mapping[str, Any]], SampleLosses]) -> None:
        self._accelerator, self._losses = accelerator, losses
        self._batches: Sequence[Mapping[str, Any]] = ()
        self._weights: deque[torch.Tensor] = deque()
        self._begun = False

    def begin(self, batches: Sequence[Mapping[str, Any]]) -> None:
        """Take this rank's micro-batches of the next step."""
        self._batches, self._begun = tuple(batches), False
        self._weights.clear()

    @property
    def looks_ahead(self) -> bool:
        """Whether forwards without gradient are due, because a backward comes before the last forward of the step."""
        return not self._begun and len(self._batches) > 1

    def look_ahead(self, model: Any, prepare: Callable[[Any], Any]) -> list[tuple[SampleLosses, Mapping[str, Any]]]:
        """Losses and batch of every micro-batch, from forwards without gradient that leave no trace.

        Args:
            model: As the Trainer calls it, in training mode.
            prepare: The Trainer's ``_prepare_inputs``.
        """
        parts: list[tuple[SampleLosses, Mapping[str, Any]]] = []
        bare = self._accelerator.unwrap_model(model)
        with rng_scope(devices=True), torch.no_grad(), _buffers_put_back(bare):
            for batch in self._batches:
                inputs = dict(prepare(batch))
                outputs = model(**without_labels(bare, inputs))
                parts.append((self._losses(model, outputs, inputs), inputs))
        return parts

    def keep(self, step: WeighedStep) -> None:
        """Keep the weights until each micro-batch takes its own."""
        self._begun, self._batches = True, ()
        self._weights = deque(part for part in step.weights if len(part))

    @property
    def due(self) -> bool:
        """Whether the step's samples have not been weighed yet."""
        return not self._begun

    def take(self) -> torch.Tensor:
        """Weights of the next micro-batch that has samples."""
        return self._weights.popleft()


@contextlib.contextmanager
def _buffers_put_back(model: torch.nn.Module) -> Iterator[None]:
    """Undo what forwards do to buffers, and to the numbers beside them in a module."""
    kept = []
    for module in model.modules():
        buffers = {name: buffer for name, buffer in module._buffers.items() if buffer is not None}
        if not buffers:
            continue
        values = {name: buffer.clone() for name, buffer in buffers.items() if buffer.numel() <= _SMALL}
        kept.append((module, dict(module._buffers), values, _numbers(module)))
    try:
        yield
    finally:
        for module, before, values, numbers in kept:
            module._buffers.clear()
            module._buffers.update(before)
            for name, value in values.items():
                buffer = before[name]
                assert buffer is not None  # only those that were there have a value
                buffer.copy_(value)
            for name in _numbers(module).keys() - numbers.keys():
                del module.__dict__[name]
            module.__dict__.update(numbers)


def _numbers(module: torch.nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if isinstance(value, (int, float, torch.Tensor))}
