"""Three answers of probability 1/3 and rewards 1, .8 and 0: by hand, and against the rules of dataflex 1.1.0."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
import torch
from nice_cases import ToyPolicy

from dataflex.gradients.coverage import Scope, cover
from dataflex.gradients.engine import GradientEngine
from dataflex.gradients.grouped import SumSink
from dataflex.gradients.sinks import NormSink
from dataflex_selectors_nice.rewards import advantages, exact_match, overlap

Vector = npt.NDArray[np.float64]

POLICY = np.full(3, 1 / 3)
REWARDS = np.array([1.0, 0.8, 0.0])
EXACT = np.array([-0.133333, -0.066667, 0.2])  # the gradient of minus the expected reward
SAMPLES = [0, 1, 2, 0]
TEACHES_A, TEACHES_B = POLICY - np.eye(3)[0], POLICY - np.eye(3)[1]


def vector(samples: list[int], weights: list[float]) -> Vector:
    """The validation vector, through the gradient engine: one batch of all answers, run once."""
    model = ToyPolicy()
    engine = GradientEngine(model, cover(model, Scope.ALL))
    batch = {
        "input_ids": torch.tensor([[1, sample] for sample in samples]),
        "labels": torch.tensor([[-100, sample] for sample in samples]),
        "attention_mask": torch.ones(len(samples), 2, dtype=torch.long),
    }
    sink, norms = SumSink(), NormSink()

    def body() -> bool:
        sink.restart()
        engine.feed(batch, sink, weights_B=torch.tensor(weights), reduction="sum")
        return True

    engine.attempt(body)
    sink.hand_to(norms, torch.device("cpu"))
    (found,) = sink.sums.values()
    assert norms.squares_B.item() == pytest.approx(float(found @ found))
    return found.double().numpy()


def by_hand(samples: list[int], weights: list[float]) -> Vector:
    return sum(weight * (POLICY - np.eye(3)[sample]) for sample, weight in zip(samples, weights, strict=True))


def weights_of(samples: list[int], baseline: str) -> list[float]:
    return [each / len(samples) for each in advantages(REWARDS[samples].tolist(), baseline)]


def cosine(one: Vector, other: Vector) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_the_other_answers_mean_is_taken_off() -> None:
    assert advantages([1, 0.8, 0, 1], "loo") == pytest.approx([0.4, 0.133333, -0.933333, 0.4], abs=1e-6)
    assert advantages([1, 0.8, 0, 1], "none") == [1, 0.8, 0, 1]
    for reward in np.linspace(0, 1, 50).tolist():  # a plain subtraction would leave a signal of rounding
        assert advantages([reward] * 7, "loo") == [0.0] * 7


def test_a_rows_vector_by_hand_and_with_the_baseline_nearer_to_the_exact_one() -> None:
    ours = vector(SAMPLES, weights_of(SAMPLES, "loo"))
    assert ours == pytest.approx([-0.2, -0.033333, 0.233333], abs=1e-5)
    plain = vector(SAMPLES, weights_of(SAMPLES, "none"))  # wrong in dataflex 1.1.0, the paper's own without a baseline
    assert plain == pytest.approx([-0.266667, 0.033333, 0.233333], abs=1e-5)
    assert cosine(ours, EXACT) == pytest.approx(0.9799, abs=1e-4)
    assert cosine(plain, EXACT) == pytest.approx(0.9011, abs=1e-4)


def test_over_all_draws_both_are_unbiased_and_the_baseline_varies_less() -> None:
    draws = [list(draw) for draw in itertools.product(range(3), repeat=4)]
    variances = {}
    for baseline in ("loo", "none"):
        found = np.array([by_hand(draw, weights_of(draw, baseline)) for draw in draws])
        assert found.mean(axis=0) == pytest.approx(EXACT, abs=1e-6)
        variances[baseline] = found.var(axis=0).sum()
    assert variances == {"loo": pytest.approx(0.0311, abs=5e-5), "none": pytest.approx(0.0756, abs=5e-5)}


def test_answers_of_another_model_would_reverse_the_order() -> None:
    other = np.array([0.1, 0.8, 0.1])  # wrong in dataflex 1.1.0: it answers, and is imitated
    expected = sum(other[each] * REWARDS[each] * (POLICY - np.eye(3)[each]) for each in range(3))
    assert expected == pytest.approx([0.146667, -0.393333, 0.246667], abs=1e-6)
    assert [cosine(each, EXACT) for each in (TEACHES_A, TEACHES_B)] == pytest.approx([0.6547, 0.3273], abs=1e-4)
    assert [cosine(each, expected) for each in (TEACHES_A, TEACHES_B)] == pytest.approx([-0.3689, 0.9894], abs=1e-4)


def test_the_order_of_the_answers_does_not_matter() -> None:
    turned = SAMPLES[::-1]
    first, second = (vector(each, weights_of(each, "loo")) for each in (SAMPLES, turned))
    assert first == pytest.approx(second, abs=1e-7)


def test_sums_are_not_means() -> None:
    model = ToyPolicy()
    engine = GradientEngine(model, cover(model, Scope.ALL))
    batch = {"input_ids": torch.tensor([[1, 0, 1]]), "labels": torch.tensor([[-100, 0, 1]])}
    found = {}
    for reduction in ("mean", "sum"):
        sink = SumSink()
        engine.attempt(lambda sink=sink, reduction=reduction: engine.feed(batch, sink, reduction=reduction))
        found[reduction] = sink.sums["head.weight"].numpy()
    assert found["sum"] == pytest.approx(by_hand([0, 1], [1, 1]), abs=1e-6)
    assert found["mean"] == pytest.approx(found["sum"] / 2, abs=1e-6)


def test_the_shipped_rewards() -> None:
    answers = ["the cat, the mat", "", "A cat on the mat.", "dog"]
    references = ["The mat", "", "a cat on the mat.", "cat"]
    # 2 of 5 and 2 tokens: F1 = 4 / 7.
    assert overlap([""] * 4, answers, references) == pytest.approx([4 / 7, 1, 1, 0])
    assert overlap([""] * 2, ["", "a"], ["a", ""]) == [0, 0]
    assert exact_match([""] * 3, [" a\n", "A", "ab"], ["a", "a", "a"]) == [1, 0, 0]
