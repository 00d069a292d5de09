"""``context.gradients`` and the cosine scorer, on gradients worked out by hand."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from passes_cases import COSINES, POOL, SQUARES, OneForAll, Squares, TwoTokens, context, row, subtasks
from torch import nn

from dataflex.errors import ComponentError, ConfigError
from dataflex.gradients.cosines import CosineScorer
from dataflex.scoring.shards import ShardStore

ALL = range(len(POOL))


def test_a_sink_scores_rows_by_the_gradients_of_their_mean_loss() -> None:
    found = context().gradients(TwoTokens(), ALL, Squares())
    np.testing.assert_allclose(found.values, SQUARES, rtol=1e-5)
    assert found.targets.tolist() == [1, 1, 1, 1, 2]
    assert (found.size, found.excluded, found.one_by_one, found.non_finite, found.resumed) == (4, (), "", 0, 0)


def test_rows_that_are_not_asked_for_or_have_no_target_have_no_score(caplog: pytest.LogCaptureFixture) -> None:
    pool = [*POOL, row(1, 1) | {"labels": [-100, -100]}]
    found = context(pool).gradients(TwoTokens(), [1, 5], Squares())
    np.testing.assert_allclose(found.values, [np.nan, SQUARES[1], *[np.nan] * 4], rtol=1e-5)
    assert found.non_finite == 0
    assert "0 rows have no finite score of their gradient and 1 no target token" in caplog.text


class Sum:
    """Adds the gradients of all rows up and scores none."""

    width = 0

    def restart(self) -> None:
        self.total = torch.zeros(4)

    def begin(self, samples: int, device: torch.device) -> None:
        pass

    def take(self, name: str, samples: slice, grads_Cn: torch.Tensor) -> None:
        self.total += grads_Cn.sum(0)

    def finish(self) -> None:
        pass

    def scores(self) -> torch.Tensor:
        raise AssertionError("a sink of width 0 is not asked")


def test_a_sink_may_add_up_over_rows_and_begins_anew_where_the_pass_does() -> None:
    for model in (TwoTokens(), OneForAll()):
        sink = Sum()
        found = context().gradients(model, [0, 1, 2], sink)
        assert found.values.shape == (5, 0) and bool(found.one_by_one) == isinstance(model, OneForAll)
        # (-.269 + .731, .269 - .731) in the column of token 0, (-.731, .731) in that of token 1
        expected = torch.tensor([[0.462117, -0.731059], [-0.462117, 0.731059]])
        torch.testing.assert_close(sink.total.reshape(2, 2), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ComponentError, match="sink of width 0"):
        context().gradients(TwoTokens(), ALL, Sum(), key="sum")


def test_rows_of_a_batch_that_see_each_other_are_measured_one_by_one_and_the_log_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    here, sink = context(), Squares()
    with caplog.at_level(logging.WARNING, "dataflex"):
        for _ in range(2):
            found = here.gradients(OneForAll(), ALL, sink)
    np.testing.assert_allclose(found.values, SQUARES, rtol=1e-5)
    assert "other gradients than they have alone" in found.one_by_one and sink.seen == 5
    assert caplog.text.count("measured one sample at a time") == 1


class TwoScores(Squares):
    width = 2


def test_a_sinks_scores_must_have_its_width() -> None:
    with pytest.raises(ComponentError, match=r"the sink returned shape \[\d\]; with width=2"):
        context().gradients(TwoTokens(), ALL, TwoScores())


class Embedded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.inner = nn.Embedding(2, 2), TwoTokens()
        nn.init.eye_(self.embed.weight)

    def forward(self, input_ids: torch.Tensor, attention_mask: Any = None) -> Any:
        outputs = self.inner(input_ids)
        outputs.logits = self.inner.layer(self.embed(input_ids))
        return outputs


def test_gradients_of_linear_layers_alone_are_asked_for_by_name(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "dataflex"):
        found = context().gradients(Embedded(), ALL, Squares(), parameters="linear")
    np.testing.assert_allclose(found.values, SQUARES, rtol=1e-5)
    assert found.excluded == ("embed.weight",) and "leaves 1 trainable parameters out" in caplog.text
    assert "outside plain linear layers" in context().gradients(Embedded(), ALL, Squares()).one_by_one


def test_parts_are_kept_under_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = ShardStore.__init__
    monkeypatch.setattr(ShardStore, "__init__", lambda *args, **kwargs: begin(*args, **{**kwargs, "seconds": 1e-9}))
    here, sink, model = context(cache_dir=tmp_path), Squares(), OneForAll()
    add, calls = ShardStore.add, []

    def interrupted(store: ShardStore, rows: Any, results: Any) -> None:
        add(store, rows, results)
        calls.append(len(rows))
        if len(calls) > 2:  # the first are of batches that are given up
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ShardStore, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            here.gradients(model, ALL, sink, key="squares")
    assert calls[-1] == 1
    found = here.gradients(model, ALL, sink, key="squares")
    assert 0 < found.resumed < 5 and sink.seen == 5 - found.resumed
    np.testing.assert_allclose(found.values, SQUARES, rtol=1e-5)


def test_cosines_are_means_over_the_rows_of_each_aim() -> None:
    found = CosineScorer(context(), who="test").at(TwoTokens()).score(subtasks(), ALL)
    np.testing.assert_allclose(found.values, COSINES, atol=1e-6)
    assert found.targets.tolist() == [1, 1, 1, 1, 2]
    assert (found.validation.lost, found.validation.flat, found.preconditioned) == (0, 0, False)


def test_a_projection_of_cosines_keeps_those_of_equal_directions() -> None:
    comparison = CosineScorer(context(), projection=64, who="test").at(TwoTokens())
    assert sum(comparison.sizes.values()) == 64
    found = comparison.score(subtasks(), ALL).values
    assert found[:2, 0] == pytest.approx([-1, 1], abs=1e-6)


def test_cosines_of_one_by_one_passes_are_those_of_batches() -> None:
    found = CosineScorer(context(), who="test").at(OneForAll()).score(subtasks(), ALL)
    np.testing.assert_allclose(found.values, COSINES, atol=1e-6)
    assert found.one_by_one


def test_parameters_that_are_spread_over_ranks_are_refused_by_the_components_name() -> None:
    model = TwoTokens()
    model.layer.weight.ds_id = 0  # type: ignore[attr-defined]  # as ZeRO-3 marks what it has taken apart
    with pytest.raises(ConfigError, match="test reads whole parameters, which ZeRO-3 spreads over ranks"):
        CosineScorer(context(), who="test").at(model)
    with pytest.raises(ConfigError, match=r"context\.gradients reads whole parameters"):
        context().gradients(model, ALL, Squares())
