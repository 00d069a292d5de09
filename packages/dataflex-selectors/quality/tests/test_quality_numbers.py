"""The numbers of the issue, and the wrong versions beside them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from embedded_pools import pad, tiny_qwen
from quality_cases import HEADER, rows_with_prompts

from dataflex_selectors_quality.answers import answer_losses
from dataflex_selectors_quality.base import ranked
from dataflex_selectors_quality.diverse import Diverse
from dataflex_selectors_quality.ifd import difficulty
from dataflex_selectors_quality.taking import take


def test_the_losses_of_two_answers_are_divided_or_their_perplexities() -> None:
    after, alone, tokens = [1.2, 0.3], [2.0, 0.6], [9, 9]
    assert difficulty(after, alone, tokens).scores == pytest.approx([0.6, 0.5])
    assert difficulty(after, alone, tokens, ratio="ppl").scores == pytest.approx([0.449329, 0.740818], abs=1e-6)
    # Both rank the two rows the other way round: taking one for the other is no matter of scale.
    assert ranked(difficulty(after, alone, tokens).scores).tolist() == [0, 1]
    assert ranked(difficulty(after, alone, tokens, ratio="ppl").scores).tolist() == [1, 0]


def test_rows_whose_prompt_hurts_have_no_score() -> None:
    """Kept, they would come first: an answer that does not belong to its prompt is what is most surprising after it."""
    after, alone, tokens = np.array([2.5, 1.2, 2.0]), np.array([2.0, 2.0, 2.0]), np.array([9, 9, 9])
    wrong = after / alone
    assert ranked(wrong)[0] == 0
    for ratio in ("loss", "ppl"):
        found = difficulty(after, alone, tokens, ratio=ratio)  # type: ignore[arg-type]
        assert np.isnan(found.scores[0])
        assert ranked(found.scores).tolist() == [2, 1]  # a ratio of exactly 1 is kept, as in Cherry_LLM
        assert found.scores[2] == 1
        assert (found.above_one, found.too_short) == (1, 0)


def test_short_answers_and_losses_of_zero_have_no_score() -> None:
    after, alone, tokens = [1.0, 1.0, 0.0, np.nan, 0.0], [2.0, 2.0, 0.0, np.nan, 1.0], [3, 4, 9, 0, 9]
    for ratio, last in (("loss", 0.0), ("ppl", np.exp(-1.0))):
        found = difficulty(after, alone, tokens, ratio=ratio)  # type: ignore[arg-type]
        assert np.isfinite(found.scores).tolist() == [False, True, False, False, True]
        assert found.scores[4] == pytest.approx(last)
        assert found.too_short == 2
    assert np.isfinite(difficulty(after, alone, tokens, least_tokens=1).scores[0])


def loss_of(model: Any, tokens: list[int], first: int) -> list[float]:
    """Losses of the tokens from ``first`` on, by the definition: one row, one position after the other."""
    with torch.no_grad():
        chances = model(input_ids=torch.tensor([tokens])).logits[0].log_softmax(-1)
    return [-float(chances[place - 1, tokens[place]]) for place in range(first, len(tokens))]


@pytest.mark.parametrize("header", [HEADER, ()])
def test_both_losses_are_those_of_the_answer_by_itself(header: tuple[int, ...]) -> None:
    model, rows = tiny_qwen().eval(), rows_with_prompts(8)
    with torch.no_grad():
        found = answer_losses(model, pad(rows), header).double().numpy()
    for row, (after, alone, tokens) in zip(rows, found, strict=True):
        start = row["labels"].count(-100)
        answer, skipped = row["input_ids"][start:], 0 if header else 1
        if tokens == 0:
            assert len(answer) == 1 and not header
            assert np.isnan(after) and np.isnan(alone)
            continue
        assert tokens == len(answer) - skipped
        assert after == pytest.approx(np.mean(loss_of(model, row["input_ids"], start + skipped)), abs=1e-5)
        assert alone == pytest.approx(np.mean(loss_of(model, [*header, *answer], max(len(header), 1))), abs=1e-5)
        # Wrong: a mean over the prompt's tokens too.
        assert after != pytest.approx(np.mean(loss_of(model, row["input_ids"], 1)), abs=1e-3)


def test_padding_on_either_side_changes_nothing() -> None:
    model, rows = tiny_qwen().eval(), rows_with_prompts(6)
    batch = pad(rows)
    width = batch["input_ids"].shape[1]
    left = {name: torch.stack([torch.roll(value[row], width - len(rows[row]["input_ids"])) for row in range(6)])
            for name, value in batch.items()}  # fmt: skip
    with torch.no_grad():
        together = answer_losses(model, batch, HEADER)
        torch.testing.assert_close(answer_losses(model, left, HEADER), together, atol=1e-5, rtol=0)
        for place, row in enumerate(rows):
            torch.testing.assert_close(
                answer_losses(model, pad([row]), HEADER)[0], together[place], atol=1e-5, rtol=0, equal_nan=True
            )


def test_of_several_answers_each_stands_alone_and_all_tokens_count() -> None:
    model = tiny_qwen().eval()
    first, second = [10, 11, 12], [20, 21]
    tokens = [5, 6, *HEADER, *first, 7, 8, *HEADER, *second]
    labels = [-100] * 4 + first + [-100] * 4 + second
    row = {"input_ids": tokens, "attention_mask": [1] * len(tokens), "labels": labels}
    with torch.no_grad():
        ((after, alone, count),) = answer_losses(model, pad([row]), HEADER).double().tolist()
    whole = loss_of(model, tokens, 1)
    assert count == 5
    assert after == pytest.approx(np.mean([*whole[3:6], *whole[10:12]]), abs=1e-5)
    bare = [*loss_of(model, [*HEADER, *first], 2), *loss_of(model, [*HEADER, *second], 2)]
    assert alone == pytest.approx(np.mean(bare), abs=1e-5)


def test_a_token_that_begins_texts_begins_the_answer_alone_too() -> None:
    model = tiny_qwen().eval()
    row = {
        "input_ids": [1, 6, 7, *HEADER, 10, 11, 12, 13],
        "attention_mask": [1] * 9,
        "labels": [-100] * 5 + [10, 11, 12, 13],
    }
    with torch.no_grad():
        ((_, alone, _),) = answer_losses(model, pad([row]), HEADER, begin=1).double().tolist()
        ((_, bare, _),) = answer_losses(model, pad([row]), HEADER, begin=2).double().tolist()
    assert alone == pytest.approx(np.mean(loss_of(model, [1, *HEADER, 10, 11, 12, 13], 3)), abs=1e-5)
    assert bare == pytest.approx(np.mean(loss_of(model, [*HEADER, 10, 11, 12, 13], 2)), abs=1e-5)


def test_a_row_that_begins_with_its_answer_or_has_none_has_no_losses() -> None:
    rows = [
        {"input_ids": [5, 6, 7], "attention_mask": [1] * 3, "labels": [5, 6, 7]},
        {"input_ids": [5, 6, 7], "attention_mask": [1] * 3, "labels": [-100] * 3},
    ]
    with torch.no_grad():
        found = answer_losses(tiny_qwen().eval(), pad(rows), HEADER)
    assert torch.isnan(found[:, :2]).all()
    assert found[:, 2].tolist() == [0, 0]


def kept_by_hand(vectors: np.ndarray, above: float) -> list[int]:
    kept: list[int] = []
    for row, vector in enumerate(vectors):
        likeness = [
            float(vector @ vectors[other]) / float(np.linalg.norm(vector) * np.linalg.norm(vectors[other]))
            for other in kept
        ]
        if not any(like > above for like in likeness):
            kept.append(row)
    return kept


def test_a_row_too_much_like_a_better_one_is_left_out() -> None:
    """Angles 0, 20, 30, 90, 100 in order of score: cos 20 = .94 and cos 10 = .98 are above .9, cos 30 = .87 is not."""
    angles = np.radians([0, 20, 30, 90, 100])
    vectors = np.column_stack([np.cos(angles), np.sin(angles)])
    found = Diverse(np.arange(5), vectors, 0.9)
    assert found.all().tolist() == [0, 2, 3]
    assert found.left_out(found.all()).tolist() == [1, 4]
    # Wrong: a distance, 1 - similarity, against the same number, as the word in the released code has it.
    distance, wrong = 1 - vectors @ vectors.T, [0]
    for row in range(1, 5):
        if not any(distance[row, other] > 0.9 for other in wrong):
            wrong.append(row)
    assert wrong == [0, 1, 2]  # copies stay, what is unlike is left out


def test_what_is_kept_does_not_depend_on_how_far_one_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(50, 4)) * rng.uniform(0.1, 9, (50, 1))
    expected = kept_by_hand(vectors, 0.6)
    for block, asked in itertools.product((1, 7, 64), (1, 3, 5)):
        monkeypatch.setattr("dataflex_selectors_quality.diverse._BLOCK", block)
        subject = Diverse(np.arange(50), vectors, 0.6)
        for count in range(1, len(expected), asked):
            found = subject.until(None, count)
            assert found.tolist() == expected[:count]
            assert set(subject.left_out(found)) == set(range(expected[count - 1])) - set(expected)
        assert subject.all().tolist() == expected
    free = np.zeros(50, bool)
    free[expected[4]] = True
    assert Diverse(np.arange(50), vectors, 0.6).until(free, 1).tolist() == expected[:5]


def test_a_later_boundary_goes_on_and_begins_again_when_nothing_is_left() -> None:
    order, free = np.array([3, 1, 4, 0]), np.ones(6, bool)
    first = take(order, free, 3)
    assert (first.rows.tolist(), first.began_again) == ([3, 1, 4], False)
    second = take(order, first.free, 3)
    assert (second.rows.tolist(), second.began_again) == ([0, 3, 1], True)
    assert take(order, second.free, 2).rows.tolist() == [4, 0]
