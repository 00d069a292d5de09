"""The gate on numbers worked by hand, beside those that wrong versions of it give."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from dataflex import ConfigError
from dataflex.components.context import RunContext
from dataflex.components.weight_context import WeightContext, WeightedStep
from dataflex.math.weighting import token_mean_weight, weighted_loss
from dataflex.spec import Kind
from dataflex.testing.subject import Subject, bind_values
from dataflex_weighters_adapt.anchors import unit_vectors
from dataflex_weighters_adapt.params import AdaptParams, Centre, Pooling, Tokens
from dataflex_weighters_adapt.weighter import AdaptWeighter, gate, mean_cosines

HIDDEN = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
ANCHORS = torch.tensor([[1.0, 0.2], [0.2, 1.0]])
DIRECTION = torch.nn.functional.normalize(ANCHORS).mean(dim=0).numpy()
RUN = RunContext(dataset=[], data_collator=list)  # type: ignore[arg-type]


def score(hidden_Th: torch.Tensor, samples_T: list[int], pooling: Pooling = Pooling.POSITION) -> float:
    vectors = unit_vectors(hidden_Th.unsqueeze(0), torch.tensor([samples_T]), 1, pooling)
    return float(mean_cosines(vectors, DIRECTION))


def weighter(**params: Any) -> AdaptWeighter:
    made = AdaptWeighter(AdaptParams(**params), RUN)
    made.direction = DIRECTION
    return made


def shown(hidden_BTH: torch.Tensor, segments_BT: list[list[int]], **more: Any) -> WeightContext:
    given = {"step": 0, "tokens_B": torch.ones(1), "model": None, "inputs": {}, **more}
    return WeightContext(hidden_BTH=hidden_BTH, segments_BT=torch.tensor(segments_BT), **given)


def test_later_tokens_weigh_more_and_the_score_is_the_mean_cosine_with_the_anchors() -> None:
    pooled = torch.tensor([2 / 3, 5 / 6])  # (1 (1, 0) + 2 (0, 1) + 3 (1, 1)) / 6
    cosines = torch.nn.functional.cosine_similarity(pooled.unsqueeze(0), ANCHORS)
    assert float(cosines.mean()) == pytest.approx(0.826961, abs=1e-6)
    assert score(HIDDEN, [0, 0, 0]) == pytest.approx(0.826961, abs=1e-6)
    weights = weighter().weights(torch.tensor([2.0]), shown(HIDDEN.unsqueeze(0), [[0, 0, 0]]))
    assert weights.tolist() == pytest.approx([0.695712], abs=1e-6)


def test_pooling_without_positions_gives_another_score() -> None:
    assert score(HIDDEN, [0, 0, 0], Pooling.MEAN) == pytest.approx(0.83205, abs=1e-6)


def test_padding_on_the_left_counts_as_little_as_padding_on_the_right() -> None:
    noise = torch.full((5, 2), 9.0)
    left, right = torch.cat([noise, HIDDEN]), torch.cat([HIDDEN, noise])
    assert score(left, [-1] * 5 + [0] * 3) == pytest.approx(0.826961, abs=1e-6)
    assert score(right, [0] * 3 + [-1] * 5) == pytest.approx(0.826961, abs=1e-6)
    positions = torch.arange(1.0, 9.0).unsqueeze(1)  # the mistake: positions counted from the padding on
    wrong = (positions * torch.cat([torch.zeros(5, 2), HIDDEN])).sum(dim=0, keepdim=True)
    found = mean_cosines(torch.nn.functional.normalize(wrong), DIRECTION)
    assert float(found) == pytest.approx(0.831556, abs=1e-6)


def test_samples_of_a_packed_row_get_what_they_get_apart() -> None:
    draw = torch.Generator().manual_seed(0)
    parts = [torch.randn(length, 2, generator=draw) for length in (3, 1, 4)]
    row = torch.cat([*parts, torch.full((2, 2), 9.0)])
    numbers = torch.tensor([[0, 0, 0, 1, 2, 2, 2, 2, -1, -1]])
    together = mean_cosines(unit_vectors(row.unsqueeze(0), numbers, 3, Pooling.POSITION), DIRECTION)
    assert together.tolist() == pytest.approx([score(part, [0] * len(part)) for part in parts], abs=1e-6)
    segment_numbers = torch.tensor([1.0, 1, 1, 2, 3, 3, 3, 3, 0, 0])  # the mistake: a mask that numbers them multiplies
    places = torch.arange(1.0, 11.0) * segment_numbers
    wrong = mean_cosines(torch.nn.functional.normalize((places.unsqueeze(1) * row).sum(0, keepdim=True)), DIRECTION)
    assert all(abs(float(wrong) - each) > 1e-3 for each in together.tolist())


def test_targets_alone_may_count() -> None:
    context = shown(HIDDEN.unsqueeze(0), [[0, 0, 0]], inputs={"labels": torch.tensor([[-100, 5, 5]])})
    found = weighter(tokens=Tokens.TARGETS).weights(torch.tensor([2.0]), context)
    expected = score(HIDDEN[1:], [0, 0])
    assert found.tolist() == pytest.approx([1 / (1 + math.exp(-expected))], abs=1e-6)


@pytest.mark.parametrize("tau", [1.0, 0.1])
def test_a_sample_that_is_the_only_anchor_gets_the_largest_weight_there_is(tau: float) -> None:
    subject = weighter(tau=tau)
    subject.direction = np.array([0.6, 0.8], np.float32)
    found = subject.weights(torch.tensor([2.0]), shown(torch.tensor([[[3.0, 4.0]]]), [[0]]))
    assert found.tolist() == pytest.approx([1 / (1 + math.exp(-1 / tau))], abs=1e-6)


def test_the_step_has_a_mean_and_is_the_same_however_it_is_cut() -> None:
    weights, sums, tokens = np.array([0.695712, 0.6407, 0.3037]), np.array([30.0, 4, 12]), np.array([10.0, 2, 4])
    c = token_mean_weight(weights, tokens)
    assert c == pytest.approx(0.590824, abs=2e-5)
    made = [torch.from_numpy(each) for each in (sums, weights)]
    whole = float(weighted_loss(*made, c, 16.0))
    parts = sum(
        float(weighted_loss(made[0][place : place + 1], made[1][place : place + 1], c, 16.0)) for place in range(3)
    )
    assert whole == pytest.approx(2.864445, abs=2e-4) and parts == pytest.approx(whole)
    assert sums.sum() / tokens.sum() == 2.875
    wrong = float(weights @ (sums / tokens))  # the mistake: a sum over the micro-batch, divided by the accumulation
    assert wrong == pytest.approx(4.279539, abs=2e-4)
    assert wrong / 3 == pytest.approx(1.426513, abs=1e-4)


def test_bunched_scores_are_hardly_told_apart_and_less_so_when_the_gate_is_sharper() -> None:
    scores = torch.tensor([0.60, 0.65])
    apart = {}
    for tau in (1.0, 0.1):
        low, high = gate(scores, 0.0, AdaptParams(tau=tau)).tolist()
        apart[tau] = high / low - 1
    assert apart[1.0] == pytest.approx(0.018, abs=1e-3) and apart[0.1] == pytest.approx(0.001, abs=1e-4)
    low, high = gate(scores, 0.625, AdaptParams(tau=0.01)).tolist()  # sigmoid(-2.5), sigmoid(2.5)
    assert (low, high) == pytest.approx((0.075858, 0.924142), abs=1e-5)


def step(number: int, noted: list[float]) -> WeightedStep:
    ones = np.ones(len(noted))
    return WeightedStep(step=number, losses=ones, tokens=ones, weights=ones, noted=np.array(noted))


def test_the_centre_is_the_mean_of_the_latest_scores_and_survives_a_resume() -> None:
    first, second = weighter(centre=Centre.WINDOW, tau=0.1), weighter(centre=Centre.WINDOW, tau=0.1)
    context = shown(HIDDEN.unsqueeze(0), [[0, 0, 0]])
    assert first.weights(torch.tensor([2.0]), context).tolist() == [0.5]
    first.on_step(step(1, [0.8, 0.9]))
    first.on_step(step(2, [0.7]))
    expected = 1 / (1 + math.exp(-(0.826961 - 0.8) / 0.1))
    assert first.weights(torch.tensor([2.0]), context).tolist() == pytest.approx([expected], abs=1e-5)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.weights(torch.tensor([2.0]), context), second.weights(torch.tensor([2.0]), context))


def test_scores_keep_their_digits_where_half_precision_would_merge_them() -> None:
    angles = np.arccos(np.linspace(0.992, 0.995, 6))
    vectors = torch.tensor(np.stack([np.cos(angles), np.sin(angles)], axis=1), dtype=torch.float32)
    direction = np.array([1.0, 0.0], np.float32)
    assert len(set(mean_cosines(vectors, direction).tolist())) == 6
    assert len(set((vectors.bfloat16() @ torch.tensor([1.0, 0.0]).bfloat16()).tolist())) == 2  # the mistake


def test_a_clip_caps_and_nothing_else() -> None:
    assert gate(torch.tensor([0.0, 4.0]), 0.0, AdaptParams(clip=0.6)).tolist() == pytest.approx([0.5, 0.6])


@pytest.mark.parametrize(("name", "value"), [("tau", 0.0), ("refresh_steps", 0), ("max_anchors", 0), ("clip", 0.0)])
def test_a_number_out_of_range_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"component_params\.{name}: .* must be"):
        bind_values(Subject(name="adapt", kind=Kind.WEIGHTER).find(), {name: value})


def test_names_of_1x_files_are_read() -> None:
    entry = Subject(name="adapt", kind=Kind.WEIGHTER).find()
    assert bind_values(entry, {"refresh_interval": 7}).params.refresh_steps == 7
    assert {"anchor_batch_size", "eps"} <= set(entry.spec.legacy)
