"""Scores against an independent fp64 reference of one sample at a time (less_cases.reference_cosines)."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from doubles import OneRank, Scaler
from less_cases import (
    Pad,
    pool_and_goals,
    reference_cosines,
    rows_of,
    selector,
    tiny_qwen,
    warmed_up,
    with_lora,
)
from torch import nn
from torch.nn import functional

from dataflex.gradients.coverage import Scope, cover
from dataflex.gradients.engine import GradientEngine
from dataflex.gradients.moments import AdamMoments, adam_moments
from dataflex.gradients.preconditioning import PreconditioningSink, adam_direction_
from dataflex.gradients.sinks import ScoreSink

TOLERANCE = 1e-4


def scores(*arguments: Any, model: nn.Module, count: int = 5, **params: Any) -> np.ndarray:
    selection = selector(*arguments, **params).select(model, 6, count)
    assert selection.scores is not None
    return selection.scores


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("preconditioner", ["official", "adam", "sgd"])
def test_scores_and_choice_are_those_of_the_reference(preconditioner: str, seed: int) -> None:
    hidden = (16, 32, 48)[seed]
    model = with_lora(tiny_qwen(seed, hidden=hidden), seed, r=2 + seed)
    optimizer = warmed_up(model, betas=(0.8, 0.95), eps=1e-6)
    rows, goals = pool_and_goals(seed)
    expected = reference_cosines(model, optimizer, rows, goals, preconditioner).max(axis=1)
    less = selector(rows, goals, optimizer, preconditioner=preconditioner, token_budget=(40, 100, 1000)[seed])
    selection = less.select(model, 6, 5)
    np.testing.assert_allclose(selection.scores, expected, atol=TOLERANCE, rtol=0)
    assert selection.metrics["one_by_one"] == 0
    order = np.argsort(-expected)
    if expected[order[4]] - expected[order[5]] > TOLERANCE:
        assert set(selection.rows) == set(order[:5])


@pytest.mark.parametrize("other", [{"betas": (0.9, 0.999), "eps": 1e-8}, {"betas": (0.8, 0.0), "eps": 1e-3}])
@pytest.mark.parametrize("preconditioner", ["official", "adam"])
def test_each_weight_has_the_constants_of_its_group_and_an_age_of_its_own(preconditioner: str, other: Any) -> None:
    model = with_lora(tiny_qwen())
    optimizer = warmed_up(model, other=other, betas=(0.8, 0.95), eps=1e-6)
    trainable = [value for value in model.parameters() if value.requires_grad]
    optimizer.state[trainable[2]]["step"] += 20
    del optimizer.state[trainable[4]], optimizer.state[trainable[5]]  # as of weights that never had a gradient
    rows, goals = pool_and_goals()
    expected = reference_cosines(model, optimizer, rows, goals, preconditioner).max(axis=1)
    found = scores(rows, goals, optimizer, model=model, preconditioner=preconditioner)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("size", [1e-6, 1e-4, 1.0, 1e3])
@pytest.mark.parametrize("constants", [(0, 0.9, 0.999, 1e-8), (3, 0.9, 0.0, 1e-8), (10**6, 0.0, 0.99, 1e-4)])
def test_directions_are_steps_of_adam_whatever_the_size_of_moments(
    constants: tuple[int, float, float, float], size: float
) -> None:
    step, beta1, beta2, eps = constants
    generator = torch.Generator().manual_seed(0)
    grads, first = torch.randn(3, 50, generator=generator) * 1e-4, torch.randn(50, generator=generator) * size
    second = first**2 * (1 + torch.rand(50, generator=generator))
    moments = AdamMoments(first, second, step, beta1, beta2, eps)
    g, m, v = grads.double(), first.double(), second.double()
    released = (0.9 * m + 0.1 * g) / (0.999 * v + 0.001 * g**2 + 1e-8).sqrt()
    mean, square = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
    exact = mean / (1 - beta1 ** (step + 1)) / ((square / (1 - beta2 ** (step + 1))).sqrt() + eps)
    found = {kind: adam_direction_(grads.clone(), moments, kind).double() for kind in ("official", "adam")}  # type: ignore[arg-type]
    torch.testing.assert_close(found["adam"], exact, rtol=1e-4, atol=1e-6 * float(exact.abs().max()))
    torch.testing.assert_close(found["official"] * 0.1 / 0.999**0.5, released, rtol=1e-4, atol=1e-6)


def test_a_gradient_too_long_or_too_short_for_fp32_has_no_score() -> None:
    sink = ScoreSink({"weight": torch.full((1, 4), 0.5)})
    sink.begin(4, torch.device("cpu"))
    sink.take("weight", slice(0, 4), torch.tensor([1.0, 1e20, 1e-25, torch.nan])[:, None].expand(4, 4))
    torch.testing.assert_close(
        sink.cosines_BS[:, 0], torch.tensor([1.0] + [torch.nan] * 3, dtype=torch.float64), equal_nan=True
    )


def test_the_constants_tell_the_preconditioners_apart() -> None:
    model = with_lora(tiny_qwen())
    optimizer = warmed_up(model, betas=(0.8, 0.95), eps=1e-6)
    rows, goals = pool_and_goals()
    found = [scores(rows, goals, optimizer, model=model, preconditioner=name) for name in ("official", "adam", "sgd")]
    assert np.abs(found[0] - found[1]).max() > 10 * TOLERANCE and np.abs(found[0] - found[2]).max() > 10 * TOLERANCE


def test_the_mean_over_subtasks_is_another_ranking_than_the_highest() -> None:
    model = with_lora(tiny_qwen())
    optimizer = warmed_up(model)
    rows, goals = pool_and_goals()
    expected = reference_cosines(model, optimizer, rows, goals)
    for aggregate, combined in (("max", expected.max(axis=1)), ("mean", expected.mean(axis=1))):
        found = scores(rows, goals, optimizer, model=model, aggregate=aggregate)
        np.testing.assert_allclose(found, combined, atol=TOLERANCE, rtol=0)
    assert np.abs(expected.max(axis=1) - expected.mean(axis=1)).max() > 100 * TOLERANCE
    pooled = reference_cosines(model, optimizer, rows, {"all": [*goals["one"], *goals["two"]]})[:, 0]
    assert np.abs(pooled - expected.mean(axis=1)).max() > 10 * TOLERANCE  # subtasks count equally, whatever their size


def test_a_small_step_along_a_candidate_changes_the_validation_loss_as_its_inner_product_says() -> None:
    model = with_lora(tiny_qwen())
    optimizer = warmed_up(model)
    rows, goals = rows_of([9, 15, 21], seed=4), rows_of([13], seed=8)

    class Keep:
        def __init__(self) -> None:
            self.found: dict[str, torch.Tensor] = {}

        def begin(self, samples: int, device: torch.device) -> None:
            self.found = {}

        def take(self, name: str, samples: slice, grads: torch.Tensor) -> None:
            self.found[name] = grads[0].clone()

        def finish(self) -> None:
            pass

    coverage = cover(model, Scope.ALL)
    engine, kept = GradientEngine(model, coverage), Keep()
    moments = adam_moments(optimizer, coverage.parameters)

    def measure(row: dict[str, list[int]], sink: Any) -> dict[str, torch.Tensor]:
        engine.attempt(lambda: engine.feed(Pad()([dict(row)]), sink))
        return {name: value.double() for name, value in kept.found.items()}

    aim = measure(goals[0], kept)
    for row in rows:
        step = measure(row, PreconditioningSink(kept, moments, "official"))
        length = sum(float((value**2).sum()) for value in step.values()) ** 0.5
        predicted = -sum(float((aim[name] * step[name]).sum()) for name in aim) / float(length)
        change = [_loss_after(model, step, sign * 1e-3 / float(length), goals[0]) for sign in (1, -1)]
        assert (change[0] - change[1]) / 2e-3 == pytest.approx(predicted, rel=1e-3, abs=1e-6)


def _loss_after(model: nn.Module, step: dict[str, torch.Tensor], size: float, row: dict[str, list[int]]) -> float:
    moved = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for name, value in moved.named_parameters():
            if name in step:
                value.sub_(size * step[name].reshape(value.shape))
        tokens, labels = torch.tensor(row["input_ids"]), torch.tensor(row["labels"])
        logits = moved(tokens[None]).logits[0, :-1]  # Hugging Face's own loss rounds to fp32
        return float(functional.cross_entropy(logits, labels[1:]))


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = with_lora(tiny_qwen())
    return model, warmed_up(model)


def test_scores_follow_the_rows_when_the_pool_is_reordered(trained: Any) -> None:
    model, optimizer = trained
    rows, goals = pool_and_goals()
    order = np.random.default_rng(0).permutation(len(rows))
    before = scores(rows, goals, optimizer, model=model)
    after = scores([rows[row] for row in order], goals, optimizer, model=model)
    np.testing.assert_allclose(after, before[order], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "other",
    [
        {"token_budget": 1},
        {"token_budget": 64},
        {"collator": Pad("left")},
        {"collator": Pad(multiple=64)},
    ],
    ids=["one by one", "small batches", "padded left", "padded far"],
)
def test_scores_do_not_depend_on_how_rows_are_batched(trained: Any, other: dict[str, Any]) -> None:
    model, optimizer = trained
    rows, goals = pool_and_goals()
    usual = scores(rows, goals, optimizer, model=model)
    np.testing.assert_allclose(scores(rows, goals, optimizer, model=model, **other), usual, atol=2e-5, rtol=0)


def test_the_same_row_twice_has_the_same_score(trained: Any) -> None:
    model, optimizer = trained
    rows, goals = pool_and_goals()
    found = scores([*rows, rows[3], rows[0]], goals, optimizer, model=model, token_budget=64)
    np.testing.assert_allclose(found[[-2, -1]], found[[3, 0]], atol=1e-5, rtol=0)


def test_a_projection_keeps_the_scores_roughly_and_more_so_when_it_is_wide(trained: Any) -> None:
    model, optimizer = trained
    rows, goals = pool_and_goals(size=40)
    exact = scores(rows, goals, optimizer, model=model)
    errors = []
    for width in (64, 8192):
        found = scores(rows, goals, optimizer, model=model, projection="sjlt", proj_dim=width)
        errors.append(float(np.abs(found - exact).mean()))
    # A cosine of projections to d numbers scatters by about 1/sqrt(d) around the true one; a mean of several by less.
    assert errors[0] < 64**-0.5 and errors[1] < 8192**-0.5
    assert errors[1] < errors[0] / 4


@pytest.mark.usefixtures("fresh_accelerate")
def test_half_precision_moves_scores_little(trained: Any) -> None:
    from accelerate import Accelerator

    model, optimizer = trained
    rows, goals = pool_and_goals()
    exact = scores(rows, goals, optimizer, model=model)
    rough = scores(rows, goals, optimizer, model=model, accelerator=Accelerator(cpu=True, mixed_precision="bf16"))
    assert 0 < np.abs(rough - exact).max() < 0.05


def test_a_loss_scale_divides_out(trained: Any) -> None:
    model, optimizer = trained
    rows, goals = pool_and_goals()
    accelerator = OneRank(scaler=Scaler(65536.0))
    found = scores(rows, goals, optimizer, model=model, accelerator=accelerator)
    np.testing.assert_allclose(found, scores(rows, goals, optimizer, model=model), atol=1e-5, rtol=0)
