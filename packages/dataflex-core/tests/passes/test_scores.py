"""``context.score`` and ``context.losses``: what they give, what they leave behind, and what they refuse."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doubles import OneRank, in_numbers
from gloo import run_on_two_ranks
from passes_cases import COSINES, LOSSES, POOL, SQUARES, TwoTokens, context, passes_on_a_rank, row, tokens_and_sum
from torch import nn

from dataflex import RunContext
from dataflex.components.mix_context import MixContext, MixtureView
from dataflex.errors import ComponentError
from dataflex.scoring.shards import ShardStore
from dataflex.testing import make_context

ALL = range(len(POOL))
SCORES = [[2, 0], [2, 1], [2, 1], [2, 2], [3, 1]]


def second_token(model: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
    return torch.where(batch["input_ids"][:, 1] > 0, 1.5, torch.nan)


@pytest.mark.parametrize("options", [{}, {"max_batch": 1}, {"max_batch": 2}, {"token_budget": 4}])
def test_each_row_has_the_scores_that_the_function_gives_it(options: dict[str, int]) -> None:
    found = context().score(TwoTokens(), ALL, tokens_and_sum, width=2, **options)
    assert found.values.dtype == np.float64
    assert found.values.tolist() == SCORES
    assert (found.resumed, found.non_finite) == (0, 0)
    assert found.rows_per_second == pytest.approx(5 / found.seconds)


def test_rows_that_are_not_asked_for_and_rows_without_a_score_are_nan(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "dataflex"):
        found = context().score(TwoTokens(), [3, 0, 1, 3], second_token, what="looked at")
    np.testing.assert_array_equal(found.values, [np.nan, 1.5, np.nan, 1.5, np.nan])
    assert found.non_finite == 1
    assert "looked at 3 rows in" in caplog.text
    assert caplog.text.count("1 of the 3 rows that were looked at have no finite score") == 1


def test_the_function_sees_a_model_in_evaluation_mode_without_gradient_and_the_model_is_left_as_it_was() -> None:
    model, seen = TwoTokens().train(), []
    model.layer.weight.grad = torch.ones(2, 2)

    def look(model: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        seen.append((model.training, model.get_submodule("layer").training, torch.is_grad_enabled(), set(batch)))
        return batch["input_ids"][:, 0].double()

    assert context().score(model, ALL, look).values.tolist() == [0, 0, 1, 1, 0]
    assert {(*flags, *sorted(names)) for *flags, names in seen} == {
        (False, False, False, "attention_mask", "input_ids", "labels")
    }
    assert model.training and model.layer.training and bool((model.layer.weight.grad == 1).all())


def test_the_function_runs_under_the_runs_autocast() -> None:
    accelerator = OneRank(autocast=in_numbers(torch.bfloat16))
    seen = []

    def look(model: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        seen.append(model(batch["input_ids"]).logits.dtype)
        return torch.zeros(len(batch["input_ids"]))

    context(accelerator=accelerator).score(TwoTokens(), ALL, look)
    assert set(seen) == {torch.bfloat16}


@pytest.mark.parametrize(
    ("scores", "width", "told"),
    [
        ([0.0] * 5, 1, r"returned list; scores of a batch are a tensor"),
        (torch.zeros(5, dtype=torch.bfloat16), 1, r"returned torch\.bfloat16; scores are fp32 or fp64"),
        (torch.zeros(5, dtype=torch.int64), 1, r"returned torch\.int64"),
        (torch.zeros(5, 2), 1, r"returned shape \[5, 2\]; with width=1 it must be \[rows of the batch\]"),
        (torch.zeros(5), 3, r"returned shape \[5\]; with width=3 it must be \[rows of the batch, 3\]"),
        (torch.zeros(()), 1, r"returned shape \[\]"),
        (torch.zeros(4), 1, r"a batch of 5 rows was given 4 scores"),
    ],
)
def test_scores_of_another_kind_or_shape_are_refused(scores: Any, width: int, told: str) -> None:
    with pytest.raises(ComponentError, match=told):
        context().score(TwoTokens(), ALL, lambda *_: scores, width=width)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([0, 5], r"row 5 was to be scored; the pool has rows 0 to 4"),
        ([-1], r"row -1 was to be scored"),
        ([0.5], r"one list of row indices, not float64 of shape \[1\]"),
        ([True, False], r"one list of row indices, not bool"),
        ([[0], [1]], r"not int64 of shape \[2, 1\]"),
    ],
)
def test_rows_that_are_none_of_the_pool_are_refused(rows: Any, told: str) -> None:
    with pytest.raises(ComponentError, match=told):
        context().score(TwoTokens(), rows, tokens_and_sum, width=2)


def test_a_score_needs_a_column() -> None:
    with pytest.raises(ComponentError, match="width=0"):
        context().score(TwoTokens(), ALL, tokens_and_sum, width=0)


def test_no_rows_are_scored_in_no_time() -> None:
    found = context().score(TwoTokens(), [], tokens_and_sum, width=2)
    assert found.values.shape == (5, 2) and np.isnan(found.values).all()


def test_running_out_of_memory_names_the_batch() -> None:
    def greedy(model: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        raise torch.cuda.OutOfMemoryError("tried to allocate 1 GiB")

    with pytest.raises(ComponentError, match=r"ran out of memory on a batch of 5 x 3 tokens\. Lower the token_budget"):
        context().score(TwoTokens(), ALL, greedy)


def written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = ShardStore.__init__
    monkeypatch.setattr(ShardStore, "__init__", lambda *args, **kwargs: begin(*args, **{**kwargs, "seconds": 1e-9}))


class Interrupted:
    """Stops after some batches, as a user or a machine does."""

    def __init__(self, batches: int) -> None:
        self.left, self.rows = batches, 0

    def __call__(self, model: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.rows += len(batch["input_ids"])
        return tokens_and_sum(model, batch)


def test_an_interrupted_pass_goes_on_from_its_parts_and_ends_with_the_same_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written_at_once(monkeypatch)
    here, model, key = context(cache_dir=tmp_path), TwoTokens(), {"method": "sums", "levels": [1, 2]}
    with pytest.raises(KeyboardInterrupt):
        here.score(model, ALL, Interrupted(2), width=2, max_batch=1, key=key)
    rest = Interrupted(5)
    found = here.score(model, ALL, rest, width=2, max_batch=1, key=key)
    assert (found.resumed, rest.rows) == (2, 3)
    assert found.values.tolist() == SCORES
    again = here.score(model, ALL, Interrupted(0), width=2, max_batch=1, key=key)
    assert again.resumed == 5 and again.values.tolist() == SCORES and again.rows_per_second == 0


@pytest.mark.parametrize("change", ["key", "weights", "rows", "contents", "width"])
def test_parts_of_anything_else_are_not_used(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written_at_once(monkeypatch)
    pool = [row(*one["input_ids"]) for one in POOL]
    here, model = context(pool, cache_dir=tmp_path), TwoTokens()
    here.score(model, [0, 1, 4], tokens_and_sum, width=2, key="one")
    key, rows, width = "one", [0, 1, 4], 2
    if change == "key":
        key = "two"
    elif change == "weights":
        model.layer.weight.data[0, 0] += 1e-6
    elif change == "rows":
        rows = [0, 1, 3, 4]
    elif change == "contents":
        pool[1]["input_ids"][0] = 1
    else:
        width = 1

    def fn(model: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        return tokens_and_sum(model, batch)[:, :width]

    assert here.score(model, rows, fn, width=width, key=key).resumed == 0
    kept = list(tmp_path.glob("pass-*/scores-*"))
    assert len(kept) == (2 if change == "key" else 1)  # what an earlier boundary left under the key is deleted


def test_nothing_is_written_without_a_key(tmp_path: Path) -> None:
    context(cache_dir=tmp_path / "cache").score(TwoTokens(), ALL, tokens_and_sum, width=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", [object(), float("nan"), {"a": {1, 2}}])
def test_a_key_that_json_cannot_hold_is_refused(key: Any, tmp_path: Path) -> None:
    with pytest.raises(ComponentError, match="key of a pass must be of JSON values"):
        context(cache_dir=tmp_path).score(TwoTokens(), ALL, tokens_and_sum, width=2, key=key)


def test_losses_are_means_over_the_target_tokens(caplog: pytest.LogCaptureFixture) -> None:
    unanswered = row(0, 1) | {"labels": [-100, -100]}
    found = context([*POOL, unanswered, row(1, 1)]).losses(TwoTokens(), range(6))
    np.testing.assert_allclose(found.means, [*LOSSES, np.nan, np.nan], rtol=1e-5)
    np.testing.assert_array_equal(found.targets, [1, 1, 1, 1, 2, 0, np.nan])
    assert found.non_finite == 0
    assert "0 samples have a NaN or infinite loss and 1 have no target token" in caplog.text


def test_losses_that_are_not_finite_are_counted() -> None:
    model = TwoTokens()
    model.layer.weight.data[:, 1] = torch.nan  # of everything after token 1
    model.layer.weight.data[:, 0] = torch.tensor([torch.inf, 0.0])  # NaN too
    assert context().losses(model, [0, 1, 2]).non_finite == 3


def test_losses_go_on_from_their_parts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written_at_once(monkeypatch)
    here = context(cache_dir=tmp_path)
    whole = here.losses(TwoTokens(), ALL)
    first = here.losses(TwoTokens(), ALL, key="losses")
    again = here.losses(TwoTokens(), ALL, key="losses")
    assert (first.resumed, again.resumed) == (0, 5)
    for found in (first, again):
        np.testing.assert_array_equal(found.means, whole.means)


def test_a_context_made_by_hand_says_where_one_that_can_score_comes_from() -> None:
    bare = RunContext(dataset=POOL, data_collator=list)  # type: ignore[arg-type]
    calls = (
        lambda: bare.score(TwoTokens(), ALL, tokens_and_sum),
        lambda: bare.losses(TwoTokens(), ALL),
        lambda: bare.gradients(TwoTokens(), ALL, None),  # type: ignore[arg-type]
    )
    for name, call in zip(("score", "losses", "gradients"), calls, strict=True):
        with pytest.raises(ComponentError, match=rf"context\.{name}\(\) was called.*testing\.make_context"):
            call()


def test_a_mixers_context_keeps_its_losses_of_domains_and_scores_as_well() -> None:
    known = make_context(POOL, pad_nothing)
    mixed = MixContext(
        dataset=POOL, data_collator=pad_nothing, passes=known.passes, mixture=MixtureView(["a"], [5], [1.0])
    )
    assert mixed.losses.tokens.tolist() == [0]
    np.testing.assert_allclose(mixed.passes.losses(mixed, TwoTokens(), [1]).means[1], LOSSES[1], rtol=1e-5)
    assert mixed.score(TwoTokens(), [4], tokens_and_sum, width=2).values[4].tolist() == [3, 1]


def pad_nothing(features: Any) -> dict[str, torch.Tensor]:
    return {name: torch.tensor([one[name] for one in features]) for name in features[0]}


def test_two_ranks_find_what_one_finds_and_both_hear_of_a_failure(tmp_path: Path) -> None:
    run_on_two_ranks(passes_on_a_rank, tmp_path)
    expected = {"scores": SCORES, "losses": LOSSES, "squares": SQUARES, "one by one": SQUARES, "cosines": COSINES}
    for rank in range(2):
        for name, values in expected.items():
            found = np.load(tmp_path / f"{name}{rank}.npy", allow_pickle=False)
            np.testing.assert_allclose(found, values, rtol=1e-4, atol=1e-6, err_msg=f"{name} of rank {rank}")
        assert "the list of rows to score on rank 1 differs" in (tmp_path / f"error0-{rank}.txt").read_text()
        assert "the disk is gone" in (tmp_path / f"error1-{rank}.txt").read_text()
