"""What the tests of unusual models share: a selection, its comparison with the reference, numbers of half precision."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from doubles import OneRank, Scaler, in_numbers
from less_cases import VOCABULARY, pool_and_goals, reference_cosines, selector, tiny_qwen, warmed_up, with_lora
from torch import nn
from torch.nn import functional

LLAMA_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
EXACT = 2e-6  # an fp32 pass beside an fp64 one, batch 1


def select(model: nn.Module, optimizer: Any, pool: Any, goals: Any, **params: Any) -> Any:
    return selector(pool, goals, optimizer, **params).select(model, 6, 3)


def check(
    model: nn.Module, pool: Any = None, goals: Any = None, *, one_by_one: bool | None = True, **params: Any
) -> Any:
    """Select with a trained model and compare all scores with the reference."""
    optimizer = warmed_up(model)
    if pool is None:
        pool, goals = pool_and_goals()
    expected = reference_cosines(model, optimizer, pool, goals).max(axis=1)
    selection = select(model, optimizer, pool, goals, **params)
    if one_by_one is not None:
        assert selection.metrics["one_by_one"] == one_by_one
    np.testing.assert_allclose(selection.scores, expected, atol=EXACT, rtol=0)
    return selection


def reference_of_batches(model: nn.Module, optimizer: Any, pool: Sequence[Any], goals: Sequence[Any]) -> np.ndarray:
    """LESS by the book for batches of one: fp64, the released code's constants, one subtask."""
    exact = copy.deepcopy(model).double().eval()
    names = [name for name, value in exact.named_parameters() if value.requires_grad]
    own, weights = dict(model.named_parameters()), dict(exact.named_parameters())

    def gradient(batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        given = {name: value.double() if value.is_floating_point() else value for name, value in batch.items()}
        labels = given.pop("labels")
        logits = exact(**given).logits[0, :-1]
        loss = functional.cross_entropy(logits, labels[0, 1:])
        return list(torch.autograd.grad(loss, [weights[name] for name in names], materialize_grads=True))

    def step(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        parts = []
        for name, grad in zip(names, gradient(batch), strict=True):
            state = optimizer.state.get(own[name]) or {"exp_avg": torch.zeros(()), "exp_avg_sq": torch.zeros(())}
            first, second = 0.9 * state["exp_avg"] + 0.1 * grad, 0.999 * state["exp_avg_sq"] + 0.001 * grad**2
            parts.append((first / (second + 1e-8).sqrt()).flatten())
        return torch.cat(parts)

    aims = torch.stack([torch.cat([part.flatten() for part in gradient(batch)]) for batch in goals])
    steps = torch.stack([step(batch) for batch in pool])
    cosines: np.ndarray = functional.cosine_similarity(steps[:, None], aims[None], dim=2, eps=0).mean(dim=1).numpy()
    return cosines


def in_half_precision(numbers: str, loss_scale: float | None = None) -> Any:
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}[numbers]
    return OneRank(
        mixed_precision=numbers, autocast=in_numbers(kind), scaler=Scaler(loss_scale) if loss_scale else None
    )


class Int8Linear(nn.Linear):
    """A frozen linear layer that keeps 8-bit weights, as quantised bases do."""

    def __init__(self, source: nn.Linear) -> None:
        super().__init__(source.in_features, source.out_features, source.bias is not None)
        self.bias = source.bias
        self.step = float(source.weight.detach().abs().max()) / 127
        quantised = (source.weight.detach() / self.step).round().to(torch.int8)
        self.weight = nn.Parameter(quantised, requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weight.to(x.dtype) * self.step, self.bias)

    def _apply(self, function: Any, recurse: bool = True) -> nn.Module:
        if self.bias is not None:
            self.bias.data = function(self.bias.data)
        return self  # a change of type leaves the 8 bits alone


def on_a_quantised_base() -> nn.Module:
    """LoRA on layers of 8 bits."""
    model: nn.Module = with_lora(tiny_qwen())
    for module in list(model.modules()):
        if hasattr(module, "lora_A") and hasattr(module, "base_layer"):
            inner: Any = module.base_layer
            module.base_layer = Int8Linear(inner)
    return model
