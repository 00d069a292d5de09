"""The strategies on numbers worked by hand, and what holds for all of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dataflex.errors import ConfigError
from dataflex.spec import Kind
from dataflex.testing.subject import Subject, bind_values
from dataflex_weighters_loss.params import LossWeighterParams, Strategy
from dataflex_weighters_loss.strategies import loss_weights, window_statistics

LOSSES = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
ALL = list(Strategy)
finite_losses = st.lists(st.floats(0, 20), min_size=1, max_size=30)


def weigh(losses: torch.Tensor, window: torch.Tensor, **params: float) -> torch.Tensor:
    settings = LossWeighterParams(**params)  # type: ignore[arg-type]
    return loss_weights(losses, window_statistics(window, settings), settings)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"strategy": Strategy.UNIFORM}, [1, 1, 1, 1]),
        # h = -1, -1/3, 1/3, 1; softmax(f(h) / 0.4), times 4
        ({"strategy": Strategy.LINUPPER}, [0.1305, 0.6907, 1.5894, 1.5894]),
        ({"strategy": Strategy.QUADRATIC}, [0.1955, 1.8045, 1.8045, 0.1955]),
        ({"strategy": Strategy.EXTREMES}, [1.6823, 0.3177, 0.3177, 1.6823]),
        # e^-1 .. e^-4 sum to 0.5713: 4 * 0.3679 / 0.5713 = 2.5756, each next one divided by e
        ({"strategy": Strategy.TILTED, "t": -1.0}, [2.5756, 0.9475, 0.3486, 0.1282]),
        ({"strategy": Strategy.TILTED, "t": 1.0}, [0.1282, 0.3486, 0.9475, 2.5756]),
        ({"strategy": Strategy.TILTED, "t": 0.0}, [1, 1, 1, 1]),
        # the 0.7 quantile lies at 1 + 0.7 * 3 = 3.1
        ({"strategy": Strategy.CVAR}, [0, 0, 0, 4]),
        ({"strategy": Strategy.TRIM}, [4 / 3, 4 / 3, 4 / 3, 0]),
        # 1 - e^-l = 0.6321, 0.8647, 0.9502, 0.9817; squared 0.3996, 0.7476, 0.9029, 0.9637, mean 0.7535
        ({"strategy": Strategy.FOCAL}, [0.5303, 0.9923, 1.1983, 1.2791]),
        ({"strategy": Strategy.FOCAL, "gamma": 0.0}, [1, 1, 1, 1]),
    ],
    ids=str,
)
def test_the_hand_worked_weights(params: dict[str, float], expected: list[float]) -> None:
    assert weigh(LOSSES, LOSSES, **params).tolist() == pytest.approx(expected, abs=1.5e-4)


def test_delta_is_the_range_of_h() -> None:
    # delta = 2: h = -2, -2/3, 2/3, 2 and linupper's f = 0, 4/3, 2, 2; r = 0.8 makes f / r that of delta 1 and r 0.4
    sharper = weigh(LOSSES, LOSSES, strategy=Strategy.LINUPPER, delta=2.0, r=0.8)
    assert torch.allclose(sharper, weigh(LOSSES, LOSSES, strategy=Strategy.LINUPPER))


@pytest.mark.parametrize("strategy", ALL)
@given(losses=finite_losses)
def test_weights_are_finite_not_negative_and_have_mean_one_over_the_window(
    strategy: Strategy, losses: list[float]
) -> None:
    window = torch.tensor(losses, dtype=torch.float64)
    weights = weigh(window, window, strategy=strategy)
    assert bool((torch.isfinite(weights) & (weights >= 0)).all())
    assert float(weights.mean()) == pytest.approx(1)


@pytest.mark.parametrize("strategy", ALL)
@given(window=finite_losses, losses=finite_losses)
def test_a_weight_depends_on_its_own_loss_and_the_window_alone(
    strategy: Strategy, window: list[float], losses: list[float]
) -> None:
    seen, batch = torch.tensor(window, dtype=torch.float64), torch.tensor(losses, dtype=torch.float64)
    together = weigh(batch, seen, strategy=strategy)
    alone = [float(weigh(loss.reshape(1), seen, strategy=strategy)) for loss in batch]
    assert together.tolist() == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize("strategy", ALL)
@given(losses=finite_losses, extra=st.floats(0, 1000))
def test_a_loss_far_outside_the_window_keeps_a_finite_weight(
    strategy: Strategy, losses: list[float], extra: float
) -> None:
    window = torch.tensor(losses, dtype=torch.float64)
    weights = weigh(torch.tensor([0.0, max(losses) + extra]), window, strategy=strategy)
    assert bool(torch.isfinite(weights).all()) and bool((weights <= 1e12).all())


@pytest.mark.parametrize("strategy", ALL)
def test_without_a_window_all_samples_weigh_one(strategy: Strategy) -> None:
    empty = torch.zeros(0, dtype=torch.float64)
    assert weigh(LOSSES, empty, strategy=strategy).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("strategy", ALL)
def test_a_window_of_equal_losses_tells_nothing_apart(strategy: Strategy) -> None:
    same = torch.full((5,), 2.5, dtype=torch.float64)
    assert weigh(same, same, strategy=strategy).tolist() == pytest.approx([1] * 5)


@pytest.mark.parametrize("strategy", ALL)
def test_a_loss_that_is_not_finite_weighs_one(strategy: Strategy) -> None:
    weights = weigh(torch.tensor([math.nan, 2.0, math.inf], dtype=torch.float64), LOSSES, strategy=strategy)
    assert weights[[0, 2]].tolist() == [1, 1] and bool(torch.isfinite(weights).all())


def test_uniform_is_exactly_one() -> None:
    window = torch.from_numpy(np.random.default_rng(0).gamma(2.0, size=300))
    assert bool((weigh(window, window, strategy=Strategy.UNIFORM) == 1).all())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("r", 0.0),
        ("r", 1e-320),
        ("delta", -1.0),
        ("delta", 1e-300),
        ("gamma", -0.1),
        ("t", math.inf),
        ("quantile", 1.0),
        ("window", 0),
    ],
)
def test_a_number_out_of_range_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"component_params\.{name}: .* must be"):
        bind_values(Subject(name="loss", kind=Kind.WEIGHTER).find(), {name: value})
