"""``preconditioner: linear``: by hand, against fp64 of one sample at a time, and its two forms against each other.

Wrong versions stand beside the tests, with the values they give.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from less_cases import Pad, pool_and_goals, rows_of, selector, tiny_qwen, warmed_up, with_lora
from scipy.stats import spearmanr
from torch import nn

from dataflex.gradients.coverage import Scope, cover
from dataflex.gradients.engine import GradientEngine
from dataflex.gradients.linear import Recorder
from dataflex.gradients.linear_adam import LinearAdam, LinearScoreSink
from dataflex.gradients.moments import AdamMoments
from dataflex.gradients.sinks import ScoreSink


def moments_of(second: list[float], *, step: int = 1, beta2: float = 0.0, eps: float = 0.0) -> AdamMoments:
    """With beta2 = 0 the corrected moment is the moment."""
    value = torch.tensor(second)
    return AdamMoments(torch.zeros_like(value), value, step, 0.9, beta2, eps)


def test_the_score_by_hand() -> None:
    """g = (3, 4), u = (1, 0), P = (2, 1)."""
    directions = LinearAdam({"weight": moments_of([0.25, 1.0])}).apply_({"weight": torch.tensor([[1.0, 0.0]])})
    sink = LinearScoreSink(directions)
    sink.begin(1, torch.device("cpu"))
    sink.take("weight", slice(0, 1), torch.tensor([[3.0, 4.0]]))
    assert float(sink.scores()) == pytest.approx(1.2)
    without_the_length = float(sink.dots_BS)
    assert without_the_length == pytest.approx(6.0)


def test_the_denominator_has_the_runs_constants_and_bias_correction() -> None:
    adam = LinearAdam({"weight": moments_of([0.19, 0.0], step=2, beta2=0.9, eps=0.5)})
    torch.testing.assert_close(adam.factor("weight"), torch.tensor([1 / 1.5, 2.0]))  # v_hat = .19 / (1 - .81) = 1
    never = LinearAdam({"weight": moments_of([0.0], step=0, beta2=0.9, eps=1e-8)})
    assert never.factor("weight").tolist() == [0.0]


ROWS = {
    "(1, 2)": ([[1, 2], [0, 0]], [1, 0]),
    "(0, -1)": ([[2, 1], [2, 0]], [-1, 1]),
    "(.5, 1.5)": ([[1, 3], [2, 2]], [0.5, 0]),
}
"""Inputs of two tokens and gradients of one output that give each row its gradient."""


@pytest.mark.parametrize("form", ["per_row", "streamed", "ghost"])
def test_inner_products_by_hand_in_all_forms(form: str) -> None:
    """Gradients of three rows (1,2), (0,-1), (.5,1.5), of validation (1,3): 7, -3, 5."""
    x_BTi = torch.tensor([x for x, _ in ROWS.values()], dtype=torch.float32)
    gy_BTo = torch.tensor([gy for _, gy in ROWS.values()], dtype=torch.float32).unsqueeze(2)
    if form == "ghost":  # products of inputs and of output gradients with those of a validation row
        x_v, gy_v = torch.tensor([[1.0, 1.0], [0.0, 1.0]]), torch.tensor([[1.0], [2.0]])
        dots = torch.einsum("bti,si,bto,so->b", x_BTi, x_v, gy_BTo, gy_v)
    else:
        layer = nn.Linear(2, 1, bias=False)
        recorder, sink = (
            Recorder({"": layer}, frozenset({"weight"})),
            LinearScoreSink({"weight": torch.tensor([[1.0, 3.0]])}, form),
        )
        sink.begin(3, torch.device("cpu"))
        recorder.begin(3, sink)
        with recorder.attached():
            layer(x_BTi).backward(gy_BTo)
        recorder.finish()
        dots = sink.dots_BS[:, 0]
        torch.testing.assert_close(sink.squares_B, torch.tensor([5.0, 1.0, 2.5], dtype=torch.float64))
    torch.testing.assert_close(dots.float(), torch.tensor([7.0, -3.0, 5.0]))


def reference(model: nn.Module, optimizer: torch.optim.Optimizer, rows: Any, goals: Any, *, length: bool = True) -> Any:
    """By the book: fp64, one row at a time, whole gradients side by side; shape [rows, goals]."""
    exact = copy.deepcopy(model).double().eval()
    wanted = {name: value for name, value in exact.named_parameters() if value.requires_grad}
    own = dict(model.named_parameters())
    groups = {value: group for group in optimizer.param_groups for value in group["params"]}
    factors = []
    for name in wanted:
        state, group = optimizer.state[own[name]], groups[own[name]]
        corrected = state["exp_avg_sq"].double() / (1 - group["betas"][1] ** float(state["step"]))
        factors.append((1 / (corrected.sqrt() + group["eps"])).flatten())
    factor = torch.cat(factors)

    def gradient(row: Any) -> torch.Tensor:
        loss = exact(**{name: torch.tensor([value]) for name, value in row.items()}).loss
        grads = torch.autograd.grad(loss, list(wanted.values()), materialize_grads=True)
        return torch.cat([grad.flatten() for grad in grads])

    aims = [torch.stack([gradient(row) / gradient(row).norm() for row in goal]).mean(0) for goal in goals.values()]
    scores = []
    for row in rows:
        grad = gradient(row)
        scores.append([float(grad @ (factor * aim)) / (float(grad.norm()) if length else 1.0) for aim in aims])
    return np.asarray(scores)


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = with_lora(tiny_qwen())
    return model, warmed_up(model, betas=(0.8, 0.95), eps=1e-6, other={"betas": (0.9, 0.99), "eps": 1e-4})


@pytest.mark.parametrize("token_budget", [1, 100, 1000])
def test_scores_are_those_of_the_reference(trained: Any, token_budget: int) -> None:
    model, optimizer = trained
    rows, goals = pool_and_goals()
    expected = reference(model, optimizer, rows, goals).max(axis=1)
    less = selector(rows, goals, optimizer, preconditioner="linear", token_budget=token_budget)
    selection = less.select(model, 6, 5)
    size = np.abs(expected).max()
    np.testing.assert_allclose(selection.scores, expected, atol=1e-4 * size, rtol=0)
    assert selection.metrics["preconditioned"] == 1 and selection.metrics["one_by_one"] == 0
    wrong = reference(model, optimizer, rows, goals, length=False).max(axis=1)
    assert np.abs(wrong - expected).max() > 0.05 * size


@pytest.mark.parametrize("full", [False, True])
def test_both_forms_of_a_layer_are_equal(full: bool) -> None:
    model = tiny_qwen() if full else with_lora(tiny_qwen())
    coverage = cover(model, Scope.LINEAR)
    generator = torch.Generator().manual_seed(3)
    directions = {
        name: torch.randn(2, value.numel(), generator=generator) for name, value in coverage.parameters.items()
    }
    batch, found = Pad()(copy.deepcopy(rows_of([9, 15, 21, 30], seed=4))), {}
    for form in ("per_row", "streamed"):
        sink = LinearScoreSink(directions, form)
        engine = GradientEngine(model, coverage)
        engine.attempt(lambda engine=engine, sink=sink: engine.feed(batch, sink))
        found[form] = sink
        assert not engine.reason
    plain = ScoreSink(directions)
    engine.attempt(lambda: engine.feed(batch, plain))
    for sink in found.values():
        torch.testing.assert_close(sink.squares_B, plain.squares_B, rtol=1e-5, atol=0)
        lengths = plain.squares_B.sqrt()[:, None]
        torch.testing.assert_close(sink.dots_BS / lengths, plain.dots_BS / lengths, rtol=1e-5, atol=1e-5)
    assert torch.equal(found["per_row"].dots_BS, plain.dots_BS)
    assert not torch.equal(found["streamed"].dots_BS, plain.dots_BS)  # the other form was taken


def test_the_cheaper_form_is_taken_of_each_layer() -> None:
    sink = LinearScoreSink({"weight": torch.zeros(1, 1)})
    assert sink.wants_factors("weight", 100, 256, 256) and not sink.wants_factors("weight", 200, 256, 256)
    assert not sink.wants_factors("lora_A", 100, 256, 8)
    assert not LinearScoreSink({"weight": torch.zeros(2, 1)}).wants_factors("weight", 100, 256, 256)


def test_a_projection_takes_the_denominator_before_it(trained: Any) -> None:
    model, optimizer = trained
    rows, goals = pool_and_goals(size=40)
    found = {}
    for projection in ("none", "sjlt"):
        less = selector(
            rows, goals, optimizer, preconditioner="linear", projection=projection, proj_dim=16384, aggregate="mean"
        )
        found[projection] = less.select(model, 6, 5).scores
    assert spearmanr(found["none"], found["sjlt"]).statistic > 0.9
