"""The scores: numbers worked out on paper, properties, and the figure that is too good to be true."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from lexical_cases import POOL, TARGET, Row, found_by, paper_hash, texts, told_apart, zipf

from dataflex.errors import ComponentError
from dataflex_selectors_lexical import counting
from dataflex_selectors_lexical.features import bucketed
from dataflex_selectors_lexical.params import DsirParams, LexicalParams
from dataflex_selectors_lexical.weights import auc, halves, log_ratios, log_weights

NAN = float("nan")


@pytest.fixture
def on_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "bucketed", paper_hash)


def scores(pool: Any, target: Any, params: LexicalParams) -> list[float]:
    return found_by(pool, {"eval": target}, params).scores[:, 0].tolist()


def test_log_ratios_of_single_tokens_are_those_worked_out_by_hand() -> None:
    weights = log_ratios(np.array([2, 3, 0, 0]), np.array([2, 1, 2, 3]), 1.0, "counts")
    assert weights.tolist() == pytest.approx([0.2877, 0.9808, -0.8109, -1.0986], abs=5e-5)


@pytest.mark.usefixtures("on_paper")
@pytest.mark.parametrize(
    ("ngrams", "wanted"),
    [(1, [0.6343, -1.0027, -0.2616, -1.0986]), (2, [0.5580, -0.5523, -0.3232, -1.0986])],
)
def test_means_over_single_tokens_and_pairs_are_those_worked_out_by_hand(ngrams: int, wanted: list[float]) -> None:
    found = scores(texts(POOL), texts(TARGET), LexicalParams(ngrams=ngrams, buckets=4))
    assert found == pytest.approx(wanted, abs=5e-5)


def test_log_ratios_with_pairs_are_those_worked_out_by_hand() -> None:
    # Pairs hashed to (a + b) mod 4. Target: 01 -> 1, 11 -> 2, 01 -> 1; pool: 01 -> 1, 23 -> 1, 33 -> 2, 02 -> 2.
    weights = log_ratios(np.array([2, 5, 1, 0]), np.array([2, 3, 4, 3]), 1.0, "counts")
    assert weights.tolist() == pytest.approx([0.2877, 0.6931, -0.6286, -1.0986], abs=5e-5)


@pytest.mark.usefixtures("on_paper")
def test_pairs_that_cross_rows_would_change_the_scores() -> None:
    joined = [[token for row in rows for token in row] for rows in (POOL, TARGET)]
    numbered = [[number for number, row in enumerate(rows, 1) for _ in row] for rows in (POOL, TARGET)]
    apart = [{"input_ids": ids, "attention_mask": mask} for ids, mask in zip(joined, numbered, strict=True)]
    params = LexicalParams(buckets=4)
    packed = found_by([apart[0]], {"eval": [apart[1]]}, params).scores[0, 0]
    single = found_by(texts(POOL), {"eval": texts(TARGET)}, params).scores[:, 0]
    features = [2 * len(row) - 1 for row in POOL]
    assert packed == pytest.approx(float(single @ features) / sum(features))
    assert found_by(texts(joined[:1]), {"eval": texts(joined[1:])}, params).scores[0, 0] != pytest.approx(
        packed, abs=0.05
    )


@pytest.mark.usefixtures("on_paper")
def test_dsir_adds_to_the_shares_and_sums_over_a_row() -> None:
    # Shares of the target 2/5, 3/5, 0, 0; of the pool 2/8, 1/8, 2/8, 3/8; each plus 1e-8.
    ratio = [math.log(0.4 / 0.25), math.log(0.6 / 0.125), math.log(1e-8 / 0.25), math.log(1e-8 / 0.375)]
    wanted = [ratio[0] + ratio[1], ratio[2] + 2 * ratio[3], ratio[0] + ratio[2], ratio[3]]
    found = scores(texts(POOL), texts(TARGET), DsirParams(ngrams=1, buckets=4))
    assert found == pytest.approx(wanted, rel=1e-6)
    summed = scores(texts(POOL), texts(TARGET), LexicalParams(ngrams=1, buckets=4, normalise=False))
    assert summed == pytest.approx([2 * 0.63425, 3 * -1.0027, 2 * -0.2616, -1.0986], abs=3e-4)


@pytest.mark.parametrize("params", [LexicalParams(), DsirParams(), LexicalParams(ngrams=3)])
def test_a_target_that_is_the_pool_gives_zero(params: LexicalParams) -> None:
    pool = zipf(np.random.default_rng(0), 30)
    assert not np.any(scores(pool, pool, params))


def test_the_order_of_rows_changes_nothing() -> None:
    pool, target = told_apart()
    found = np.array(scores(pool, target, LexicalParams()))
    order = np.random.default_rng(1).permutation(len(pool))
    mixed = scores([pool[row] for row in order], target[::-1], LexicalParams())
    assert mixed == found[order].tolist()


def test_renaming_tokens_changes_nothing_but_for_collisions() -> None:
    pool, target = told_apart()
    names = np.random.default_rng(2).permutation(100_000)

    def renamed(rows: list[Row]) -> list[Row]:
        return texts([names[row["input_ids"]].tolist() for row in rows])

    params = LexicalParams(buckets=2**20)
    assert scores(renamed(pool), renamed(target), params) == pytest.approx(scores(pool, target, params), abs=0.05)
    rng, params = np.random.default_rng(0), LexicalParams(buckets=2**20, ngrams=1)  # 100 words: no collision
    pool, target = zipf(rng, 40, words=100), zipf(rng, 20, first=50, words=50)
    assert scores(renamed(pool), renamed(target), params) == pytest.approx(scores(pool, target, params), abs=1e-12)


def test_a_token_above_the_mean_raises_a_score() -> None:
    pool, target = told_apart()
    params = LexicalParams(ngrams=1)
    before = scores(pool, target, params)
    word = target[0]["input_ids"][0]  # any of the target's words weighs more than the mean of the first row
    more = [{"input_ids": [*pool[0]["input_ids"], word]}, *pool[1:]]
    assert scores(more, target, params)[0] > before[0]


def test_blocks_and_special_tokens_change_nothing_of_what_a_row_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, target = told_apart()
    wanted = scores(pool, target, LexicalParams())
    read = counting.token_blocks

    def smaller(*args: Any, **kwargs: Any) -> Any:
        return read(*args, **kwargs, size=97)

    monkeypatch.setattr(counting, "token_blocks", smaller)
    assert scores(pool, target, LexicalParams()) == wanted


def test_buckets_are_the_published_hash_of_the_ids_on_every_machine() -> None:
    (block,) = counting.token_blocks([{"input_ids": [5, 151_643, 5, 151_643]}], 0, 1)
    golden, whole = 0x9E3779B97F4A7C15, 2**64

    def mixed(key: int, n: int) -> int:
        z = (key * golden + n) % whole
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % whole
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % whole
        return ((z ^ (z >> 31)) >> 1) % 10_000

    one, two = (buckets.tolist() for buckets in map(np.copy, bucketed(block, 2, 10_000)))
    assert one == [mixed(5, 1), mixed(151_643, 1)] * 2
    forth, back = (5 * golden + 151_643) % whole, (151_643 * golden + 5) % whole
    assert two == [mixed(forth, 2), mixed(back, 2), mixed(forth, 2), 10_000]


def test_pairs_of_pairs_fill_the_buckets_evenly() -> None:
    ids = [number for first in range(300) for second in range(300) for number in (first, second)]
    (block,) = counting.token_blocks([{"input_ids": ids[:180_000]}], 0, 1)
    _, two = map(np.copy, bucketed(block, 2, 1000))
    counts = np.bincount(two[:-1:2], minlength=1001)[:-1]  # each pair once
    chi_square = float(((counts - 90) ** 2 / 90).sum())
    assert chi_square < 1140  # 999 degrees of freedom: exceeded once in a thousand hashes


def test_rows_without_a_token_that_counts_have_no_score_and_an_aim_without_any_is_named() -> None:
    empty: list[Row] = [{"input_ids": [], "labels": []}, {"input_ids": [1, 2], "labels": [-100, -100]}]
    rows = [*empty, {"input_ids": [1, 2], "labels": [-100, 2]}]
    found = scores(rows, rows, LexicalParams(part="answer"))
    assert np.isnan(found).tolist() == [True, True, False]
    with pytest.raises(ComponentError, match="eval set 'eval' has anything to aim at: each of its 2 rows has no token"):
        scores(rows, empty, LexicalParams(part="answer"))
    with pytest.raises(ComponentError, match="no row of the pool can be scored"):
        scores(empty, rows, LexicalParams(part="answer"))


@pytest.mark.parametrize(
    ("values", "temperature", "wanted"),
    [
        ([1.0, 2.0, 3.0, NAN], 0.5, [-2.449490, 0, 2.449490, -math.inf]),  # deviation .816497
        ([1.0, 2.0, NAN], None, [1.0, 2.0, -math.inf]),
        ([0.0, 0.0, NAN], 0.33, [0.0, 0.0, -math.inf]),
        ([0.1 + 0.2, 0.3, 0.3], 0.33, [0.0, 0.0, 0.0]),  # rounding
    ],
)
def test_weights_of_a_draw(values: list[float], temperature: float | None, wanted: list[float]) -> None:
    assert log_weights(np.array(values), temperature).tolist() == pytest.approx(wanted, abs=1e-6)


def test_auc_counts_ties_as_half() -> None:
    assert auc(np.array([2.0, 1.0, NAN]), np.array([1.0, 0.0])) == (1 + 1 + 0.5 + 1) / 4
    assert np.isnan(auc(np.array([NAN]), np.array([1.0])))


def test_halves_are_equal_and_drawn() -> None:
    assert np.bincount(halves(11, np.random.default_rng(0))).tolist() == [6, 5]
    assert halves(11, np.random.default_rng(0)).tolist() != halves(11, np.random.default_rng(1)).tolist()


def in_sample(pool: list[Row], target: list[Row], params: LexicalParams) -> float:
    """Wrong: the AUC of the rows that the weights were fitted to."""
    (weights,) = [
        log_ratios(
            counting.count(target, np.zeros(len(target), int), params, None)[0][0],
            counting.count(pool, np.zeros(len(pool), int), params, None)[0][0],
            params.smoothing,
            params.smooths,
        )
    ]
    nothing = np.zeros((0, 2, params.buckets))
    both = [
        counting.score(rows, np.zeros(len(rows), int), weights[None], nothing, params, None)[0][:, 0]
        for rows in (target, pool)
    ]
    return auc(*both)


@pytest.mark.parametrize("params", [LexicalParams(), DsirParams()])
def test_a_target_drawn_from_the_pool_itself_is_not_told_apart_but_by_weights_that_have_seen_it(
    params: LexicalParams,
) -> None:
    held_out, fitted = [], []
    for seed in range(20):
        rows = zipf(np.random.default_rng(seed), 300)
        target, pool = rows[:32], rows[32:]
        held_out += found_by(pool, {"eval": target}, params, seed=seed).separations
        fitted.append(in_sample(pool, target, params))
    assert 0.45 < np.mean(held_out) < 0.55
    assert np.mean(fitted) > 0.99


def test_words_that_tell_separate_and_few_rows_are_not_judged() -> None:
    pool, target = told_apart()
    assert found_by(pool, {"eval": target}, LexicalParams()).separations[0] > 0.85
    few = found_by(pool, {"eval": target[:15], "more": target[:16]}, LexicalParams()).separations
    assert np.isnan(few).tolist() == [True, False]
