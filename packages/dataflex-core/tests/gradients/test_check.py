"""Batches whose gradients are not those of their rows, and what the engine makes of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from doubles import OneRank
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune
from transformers.modeling_outputs import CausalLMOutput

from dataflex.data.scoring_loader import ScoringLoader
from dataflex.gradients.check import LIMITS, Sketch, difference, precision
from dataflex.gradients.coverage import Scope, cover
from dataflex.gradients.engine import GradientEngine

VOCABULARY = 11


def sketch(grads: torch.Tensor, places: Sequence[int] | None = None) -> Sketch:
    made = Sketch(list(range(len(grads))) if places is None else places)
    made.begin(len(grads), grads.device)
    half = grads.shape[1] // 2
    made.take("a", slice(0, len(grads)), grads[:, :half])
    made.take("b", slice(0, len(grads)), grads[:, half:])
    return made


@pytest.mark.parametrize("size", [1e-5, 1e-3, 0.1, 1.0])
def test_a_sketch_tells_how_far_gradients_are_apart(size: float) -> None:
    generator = torch.Generator().manual_seed(0)
    grads = torch.randn(3, 20_000, generator=generator)
    other = functional.normalize(torch.randn(3, 20_000, generator=generator)) * grads.norm(dim=1, keepdim=True)
    other[[0, 2]] = 0  # only the second sample differs
    found = difference(sketch(grads + size * other), [sketch(row[None], [0]) for row in grads])
    assert size / 2 < found < 2 * size


def test_a_difference_in_a_single_number_is_seen_in_full() -> None:
    grads = torch.ones(1, 400)
    moved = grads.clone()
    moved[0, 37] += 2.0
    assert difference(sketch(moved), [sketch(grads)]) == pytest.approx(2.0 / 20, rel=1e-4)


def test_a_gradient_that_only_its_batch_spoils_is_infinitely_far_off() -> None:
    grads = torch.ones(2, 10)
    spoilt = grads.clone()
    spoilt[1, 3] = torch.nan
    alone = [sketch(row[None]) for row in grads]
    assert difference(sketch(spoilt), alone) == float("inf")
    assert difference(sketch(spoilt), [alone[0], sketch(spoilt[1:])]) == 0  # that sample has no score either way
    assert difference(sketch(grads), [sketch(torch.zeros(1, 10))] * 2) == float("inf")
    assert difference(sketch(torch.zeros(2, 10)), [sketch(torch.zeros(1, 10))] * 2) == 0


def test_what_rounding_does_to_a_gradient_of_nearly_nothing_does_not_count() -> None:
    grads = torch.ones(2, 10)
    grads[1] *= 1e-7
    noisy = grads.clone()
    noisy[1] *= 1.5
    assert difference(sketch(noisy), [sketch(row[None]) for row in grads]) < LIMITS["fp32"]


def test_the_limit_is_that_of_the_coarsest_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Linear(2, 2)
    assert precision(model, None) == "fp32" == precision(model, OneRank(mixed_precision="no"))
    assert precision(model, OneRank(mixed_precision="fp16")) == "fp16"
    assert precision(model, OneRank(mixed_precision="bf16")) == "bf16"
    assert precision(nn.Linear(2, 2, dtype=torch.bfloat16), None) == "bf16"
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")  # TF32
    assert precision(model, None) == "fp16"


class Coupled(nn.Module):
    """Rows of a batch see each other where ``couples`` says so."""

    def __init__(self, couples: Callable[[torch.Tensor], bool]) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 6)
        self.embed.requires_grad_(False)
        self.layer, self.head = nn.Linear(6, 8), nn.Linear(8, VOCABULARY, bias=False)
        self.couples = couples

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> CausalLMOutput:
        hidden = self.layer(self.embed(input_ids).cumsum(dim=1))
        if self.couples(input_ids):
            hidden = hidden + 0.01 * hidden.mean(dim=0)
        return CausalLMOutput(logits=self.head(torch.tanh(hidden)))


class Keep:
    def __init__(self) -> None:
        self.rows: list[torch.Tensor] = []

    def begin(self, samples: int, device: torch.device) -> None:
        self.parts: list[torch.Tensor] = []

    def take(self, name: str, samples: slice, grads: torch.Tensor) -> None:
        self.parts.append(grads.clone())

    def finish(self) -> None:
        self.rows += torch.cat(self.parts, dim=1)


def pad(features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    width = max(len(feature["input_ids"]) for feature in features)
    fill = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    return {
        name: torch.tensor([[*feature[name], *[value] * (width - len(feature[name]))] for feature in features])
        for name, value in fill.items()
    }


def pool_of(lengths: Sequence[int]) -> list[dict[str, list[int]]]:
    tokens = [[(7 * row + place) % (VOCABULARY - 1) + 1 for place in range(size)] for row, size in enumerate(lengths)]
    return [{"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [-100, *ids[1:]]} for ids in tokens]


def measure(model: nn.Module, lengths: Sequence[int], budget: int = 40) -> tuple[GradientEngine, Keep, list[int]]:
    engine, sizes = GradientEngine(model, cover(model, Scope.LINEAR)), []

    def body() -> Keep:
        kept = Keep()
        loader = ScoringLoader(
            pool_of(lengths),
            pad,
            range(len(lengths)),
            token_budget=budget,
            max_batch=engine.max_batch or 256,
            uneven_first=True,
        )
        sizes.clear()
        for rows, batch in loader:
            engine.feed(batch, kept, loader.alone(rows))
            sizes.append(len(rows))
        return kept

    return engine, engine.attempt(body), sizes


def test_rows_that_see_each_other_are_measured_one_by_one_and_the_log_says_how_far_off_they_were(
    caplog: pytest.LogCaptureFixture,
) -> None:
    torch.manual_seed(0)
    model = Coupled(lambda tokens: len(tokens) > 1)
    with caplog.at_level(logging.WARNING, "dataflex"):
        engine, kept, sizes = measure(model, [9, 9, 8, 8, 5, 4, 4])
    assert engine.max_batch == 1 and set(sizes) == {1} and len(kept.rows) == 7
    assert "other gradients than they have alone" in engine.reason
    assert caplog.text.count("one sample at a time") == 1


@pytest.mark.parametrize(
    "couples",
    [
        lambda tokens: tokens.shape == (4, 10),  # the first batch
        lambda tokens: tokens.shape == (2, 3),  # the one with the most padding
    ],
    ids=["first batch", "most padding"],
)
def test_the_first_and_the_most_uneven_batch_are_looked_at(couples: Any) -> None:
    torch.manual_seed(0)
    engine, _, _ = measure(Coupled(couples), [10, 10, 10, 10, 9, 9, 9, 9, 8, 8, 8, 7, 7, 3, 2])
    assert "other gradients than they have alone" in engine.reason


def test_batches_that_are_right_stay_batches_and_nothing_is_left_behind() -> None:
    torch.manual_seed(0)
    model = Coupled(lambda tokens: False)
    engine, kept, sizes = measure(model, [9, 9, 8, 8, 5, 4, 4])
    assert engine.reason == "" and max(sizes) > 1 and len(kept.rows) == 7
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all("forward" not in vars(module) for module in model.modules())


class UsedTwice(Coupled):
    """The head's weight is used outside its forward too."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> CausalLMOutput:
        logits: Any = super().forward(input_ids).logits
        return CausalLMOutput(logits=logits + (self.head.weight**2).sum(dim=1))


def test_a_weight_that_is_used_outside_its_layer_is_found_out() -> None:
    torch.manual_seed(0)
    engine, _, _ = measure(UsedTwice(lambda tokens: False), [5, 5, 5])
    assert engine.reason == "the model uses head.weight outside its layer's forward"


def further_parameters() -> Iterator[tuple[str, nn.Module]]:
    normed = Coupled(lambda tokens: False)
    nn.utils.weight_norm(normed.layer)
    yield "layer.weight_g", normed
    pruned = Coupled(lambda tokens: False)
    prune.l1_unstructured(pruned.layer, "weight", 2)
    yield "layer.weight_orig", pruned
    gained: Any = Coupled(lambda tokens: False)
    gained.layer.gain = nn.Parameter(torch.ones(8))
    yield "layer.gain", gained


@pytest.mark.parametrize(("name", "model"), list(further_parameters()))
def test_only_weight_and_bias_of_a_linear_layer_are_told_apart_by_sample(name: str, model: nn.Module) -> None:
    coverage = cover(model, Scope.ALL)
    assert name in coverage.reason
    assert name in cover(model, Scope.LINEAR).excluded
