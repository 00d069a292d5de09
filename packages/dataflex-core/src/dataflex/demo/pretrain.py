"""A short pretraining, so that losses under the model mean something: a plain loop, no framework."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

IGNORED = -100
"""Label of positions without a loss, as everywhere in transformers."""


def pretrain(
    model: Any,
    sequences: Sequence[Sequence[int]],
    *,
    steps: int,
    batch: int,
    rate: float,
    seed: int,
    report: Callable[[int, float], None],
) -> float:
    """Train a causal language model on token sequences, every token a target; the learning rate falls to zero.

    Args:
        model: The model; trained in place, left in eval mode.
        sequences: Token ids.
        steps: Optimizer steps.
        batch: Sequences per step.
        rate: Highest learning rate.
        seed: Seed of the order; each pass over the sequences has another one.
        report: Called after each step with the steps done and that step's loss.

    Returns:
        The last step's loss, in nats per token.
    """
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: 1 - done / steps)
    draw = random.Random(seed)
    order: list[int] = []
    last = float("nan")
    model.train()
    for step in range(1, steps + 1):
        while len(order) < batch:
            order += draw.sample(range(len(sequences)), len(sequences))
        rows, order = order[:batch], order[batch:]
        inputs, mask, labels = _collate([sequences[row] for row in rows])
        loss = model(input_ids=inputs, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        last = float(loss.detach())
        report(step, last)
    model.eval()
    return last


def _collate(sequences: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    import torch

    longest = max(len(sequence) for sequence in sequences)
    missing = [longest - len(sequence) for sequence in sequences]
    inputs = [[*sequence, *[0] * gap] for sequence, gap in zip(sequences, missing, strict=True)]
    labels = [[*sequence, *[IGNORED] * gap] for sequence, gap in zip(sequences, missing, strict=True)]
    mask = [[1] * len(sequence) + [0] * gap for sequence, gap in zip(sequences, missing, strict=True)]
    return torch.tensor(inputs), torch.tensor(mask), torch.tensor(labels)
