"""Excess losses on numbers worked by hand, beside those that wrong versions give."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dataflex import ConfigError
from dataflex.components.mix_context import MicroBatch
from dataflex.components.weight_context import WeightContext
from dataflex.math.topk import top_k
from dataflex.math.weighting import token_mean_weight
from dataflex.runs import RunFacts, Steps, TrainType
from dataflex.scoring.reference.samples import sample_means
from dataflex.spec import Kind
from dataflex.testing.subject import Subject, bind_values
from dataflex_weighters_rho import plugin
from dataflex_weighters_rho.excess import excess_weights
from dataflex_weighters_rho.params import Mode, RhoSelectorParams
from dataflex_weighters_rho.selector import choose

LOSSES, REFERENCE = torch.tensor([2.0, 3.5, 1.2, 3.0]), torch.tensor([1.0, 3.4, 1.1, 1.5])


def test_weights_are_excess_losses_over_their_mean() -> None:
    weights = excess_weights(LOSSES, REFERENCE)
    c = token_mean_weight(weights.double().numpy(), np.ones(4))
    assert (weights / c).tolist() == pytest.approx([1.4815, 0.1481, 0.1481, 2.2222], abs=1e-4)


def test_a_sample_below_its_reference_counts_for_nothing_and_one_that_is_nan_shows() -> None:
    found = excess_weights(torch.tensor([1.0, math.nan, 2.0]), torch.tensor([1.5, 1.0, 1.5]))
    assert found.tolist() == [0.0, 1.0, 0.5]


def test_the_best_two_are_those_of_largest_excess_not_of_largest_loss() -> None:
    params, rng = RhoSelectorParams(reference="r", mode=Mode.TOP), np.random.default_rng(0)
    scores = (LOSSES - REFERENCE).double().numpy()
    assert sorted(choose(scores, 2, params, rng).tolist()) == [0, 3] and top_k(scores, 2).tolist() == [3, 0]
    assert top_k(LOSSES.numpy(), 2).tolist() == [1, 3]  # the mistake: losses without a reference


def test_a_draw_follows_the_scores_in_deviations() -> None:
    # scores -1, 1: one deviation apart from the mean each; at temperature 2 the weights are e^-.5 and e^.5
    params, rng = RhoSelectorParams(reference="r", mode=Mode.SAMPLE, temperature=2.0), np.random.default_rng(0)
    draws = [int(choose(np.array([5.0, 7.0]), 1, params, rng)[0]) for _ in range(4000)]
    assert np.mean(draws) == pytest.approx(math.e / (1 + math.e), abs=0.03)


class Fixed:
    """A reference with the losses it is given."""

    vocabulary = 9

    def __init__(self, losses_BT: list[list[float]]) -> None:
        self._losses_BT, self.rows = torch.tensor(losses_BT), [0]

    def token_losses(self, batch: MicroBatch) -> torch.Tensor:
        self.rows = batch.rows_B.tolist()
        return self._losses_BT

    def row_means(self, *_: Any) -> Any:
        raise AssertionError


def test_samples_of_a_packed_row_have_references_of_their_own() -> None:
    labels = torch.tensor([[-100, 5, 5, -100, 6, -100], [-100] * 6, [-100, 7, 7, 7, -100, -100]])
    positions = torch.tensor([[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]])
    reference = Fixed([[1.0, 3.0, 9.0, 4.0, 9.0], [9.0] * 5, [1.0, 2.0, 3.0, 9.0, 9.0]])
    context = WeightContext(
        step=0,
        tokens_B=torch.tensor([2, 1, 3]),
        model=None,
        inputs={"labels": labels, "position_ids": positions},
        rows_B=np.array([7, 7, 4]),
    )
    found = sample_means(reference, context, torch.ones(3))
    assert found.tolist() == [2.0, 4.0, 2.0]  # the mistake, one mean of the row: 8/3 for the first two
    assert reference.rows == [7, -1, 4]


def facts(folder: Path, kind: Kind, **arguments: Any) -> RunFacts:
    spec = next(spec for spec in plugin.dataflex_components() if spec.kind is kind)
    return RunFacts(
        train_type=TrainType.WEIGHT if kind is Kind.WEIGHTER else TrainType.SELECT,
        stage="sft",
        component=spec,
        dist="dataflex-weighters-rho",
        version="0.1.0",
        params={"reference": str(folder)},
        steps=Steps(warmup=0, update=1, times=1),
        output_dir=Path("out"),
        arguments=arguments,
        source="run.yaml",
    )


def test_a_reference_that_is_not_there_is_refused_before_anything_loads(tmp_path: Path) -> None:
    for kind in (Kind.WEIGHTER, Kind.SELECTOR):
        (problem,) = plugin.dataflex_check_run(facts(tmp_path / "missing", kind))
        assert f"{kind} 'rho'" in problem.message and "does not exist" in problem.message
        (problem,) = plugin.dataflex_check_run(facts(tmp_path, kind))
        assert "holds no model" in problem.message
    (tmp_path / "config.json").write_text("{}")
    (problem,) = plugin.dataflex_check_run(facts(tmp_path, Kind.WEIGHTER, label_smoothing_factor=0.1))
    assert "label_smoothing_factor" in problem.message


def test_a_reference_has_to_be_named() -> None:
    for kind in (Kind.WEIGHTER, Kind.SELECTOR):
        with pytest.raises(ConfigError, match="reference"):
            bind_values(Subject(name="rho", kind=kind).find(), {})
