"""What is chosen, said and recorded."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from gloo import run_on_two_ranks
from lexical_cases import Row, found_by, select, select_on_a_rank, selector, texts, told_apart, zipf

from dataflex.errors import ComponentError, ConfigError
from dataflex_selectors_lexical.params import DsirParams, LexicalParams


def rows_of(chosen: Any) -> list[int]:
    return np.asarray(chosen.rows).tolist()


def test_rows_in_the_targets_words_are_chosen_at_step_0_without_a_model() -> None:
    pool, target = told_apart()
    top = select(selector(pool, {"eval": target}, LexicalParams(mode="top")))
    assert len(set(rows_of(top)) & set(range(160, 200))) >= 38
    drawn = select(selector(pool, {"eval": target}))
    assert len(set(rows_of(drawn)) & set(range(160, 200))) >= 25
    assert len(set(rows_of(drawn))) == 40
    assert top.scores is not None and drawn.scores is not None
    assert top.scores.tolist() == drawn.scores.tolist()


def test_a_pool_in_arrow_gives_the_same_as_a_list() -> None:
    pool, target = told_apart()
    listed = select(selector(pool, {"eval": target}))
    table = select(selector(datasets.Dataset.from_list(pool), {"eval": datasets.Dataset.from_list(target)}))
    assert rows_of(table) == rows_of(listed)
    assert table.scores is not None and listed.scores is not None
    assert table.scores.tolist() == listed.scores.tolist()


def test_each_boundary_draws_anew_and_a_resumed_run_draws_the_same() -> None:
    pool, target = told_apart()
    chooser = selector(pool, {"eval": target})
    first, second = rows_of(select(chooser, 5)), rows_of(select(chooser, 10))
    assert sorted(first) != sorted(second)
    assert rows_of(select(selector(pool, {"eval": target}), 10)) == second


def test_the_top_of_all_rows_is_all_of_them() -> None:
    pool, target = told_apart()
    params = LexicalParams(mode="top")
    assert sorted(rows_of(select(selector(pool, {"eval": target}, params), 0, 200))) == list(range(200))


def test_equal_scores_are_drawn_uniformly() -> None:
    pool = zipf(np.random.default_rng(0), 8)
    chooser = selector(pool, {"eval": pool})
    drawn = np.concatenate([rows_of(select(chooser, step, 2)) for step in range(1000)])
    counts = np.bincount(drawn, minlength=8)
    assert counts / 1000 == pytest.approx(np.full(8, 0.25), abs=0.05)


def test_a_lower_temperature_stays_closer_to_the_top() -> None:
    pool, target = told_apart()

    def hits(temperature: float | None) -> int:
        chooser = selector(pool, {"eval": target}, LexicalParams(temperature=temperature))
        return sum(row >= 160 for step in range(20) for row in rows_of(select(chooser, step)))

    assert hits(0.05) > hits(0.33) > hits(1.0) > hits(100.0)
    assert hits(100.0) == pytest.approx(20 * 40 / 5, rel=0.25)


def test_a_share_of_a_half_leaves_half_of_the_stage_to_chance() -> None:
    pool, target = told_apart()
    whole = LexicalParams(mode="top")
    half = LexicalParams(mode="top", share=0.5)
    none = LexicalParams(mode="top", share=0.0)
    best = set(rows_of(select(selector(pool, {"eval": target}, whole), 3, 5)))
    rows = rows_of(select(selector(pool, {"eval": target}, half), 3, 9))  # floor(4.5 + .5) = 5 by score
    assert len(set(rows)) == 9
    assert best < set(rows)
    assert set(rows[:5]) != best  # mixed
    assert len(set(rows_of(select(selector(pool, {"eval": target}, none), 3, 9)))) == 9


@pytest.mark.parametrize("params", [LexicalParams, DsirParams])
@pytest.mark.parametrize("share", [1.0, 0.5, 0.0])
def test_a_share_does_not_excuse_rows_without_a_score(params: Any, share: float) -> None:
    """20 of 100 rows have a token: enough for the half that is chosen by score, not for the rows of a pass."""
    _, target = told_apart()
    rng = np.random.default_rng(1)
    pool = [*zipf(rng, 20), *texts([[]] * 80)]
    chooser = selector(pool, {"eval": target}, params(share=share, passes=2))
    assert len(set(rows_of(select(chooser, 3, 40)))) == 20
    with pytest.raises(ComponentError, match=r"only 20 of the pool's 100 rows .* 21 are needed at step 3"):
        select(chooser, 3, 41)


def test_passes_read_the_chosen_rows_again_in_another_order() -> None:
    pool, target = told_apart()
    once = rows_of(select(selector(pool, {"eval": target}), 4, 34))
    thrice = rows_of(select(selector(pool, {"eval": target}, LexicalParams(passes=3)), 4, 100))
    assert sorted(thrice[:34]) == sorted(thrice[34:68]) == sorted(once)
    assert set(thrice[68:]) < set(once)
    assert thrice[:34] != thrice[34:68]
    with pytest.raises(ConfigError, match=r"draws 201 samples without replacement \(passes=2 of a stage of 402\)"):
        select(selector(pool, {"eval": target}, LexicalParams(passes=2)), 4, 402)


def two_targets() -> tuple[list[Row], dict[str, list[Row]]]:
    rng = np.random.default_rng(8)
    pool = zipf(rng, 60) + zipf(rng, 20, first=1000) + zipf(rng, 20, first=5000)
    return pool, {"a": zipf(rng, 30, first=1000), "b": zipf(rng, 60, first=5000)}


def test_several_targets_are_combined_as_asked() -> None:
    pool, targets = two_targets()
    table = found_by(pool, targets, LexicalParams(), seed=42).scores
    by_max = select(selector(pool, targets, LexicalParams(mode="top")), 0, 10)
    assert set(rows_of(by_max)) == set(np.argsort(-table.max(axis=1))[:10].tolist())
    by_mean = select(selector(pool, targets, LexicalParams(mode="top", aggregate="mean")), 0, 10)
    assert set(rows_of(by_mean)) == set(np.argsort(-table.mean(axis=1))[:10].tolist())
    assert by_mean.scores is not None
    assert by_mean.scores.tolist() == pytest.approx(table.mean(axis=1).tolist())
    in_turn = select(selector(pool, targets, LexicalParams(mode="top", aggregate="round_robin")), 0, 10)
    best_of_each = {*np.argsort(-table[:, 0])[:5].tolist(), *np.argsort(-table[:, 1])[:5].tolist()}
    assert set(rows_of(in_turn)) == best_of_each
    assert in_turn.metrics["subtask_shares"] == [0.5, 0.5]
    only = select(selector(pool, targets, LexicalParams(mode="top", targets=("b",))), 0, 10)
    assert set(rows_of(only)) == set(np.argsort(-table[:, 1])[:10].tolist())


def test_one_part_of_the_rows_can_be_what_counts() -> None:
    pool, target = told_apart()
    swapped = [  # prompts tell the wrong rows, answers the right ones
        {
            "input_ids": [*pool[(row + 100) % 200]["input_ids"], *pool[row]["input_ids"]],
            "labels": [-100] * len(pool[(row + 100) % 200]["input_ids"]) + pool[row]["input_ids"],
        }
        for row in range(200)
    ]
    aims = [{**row, "labels": row["input_ids"]} for row in target]
    answers = select(selector(swapped, {"eval": aims}, LexicalParams(mode="top", part="answer")))
    assert len(set(rows_of(answers)) & set(range(160, 200))) >= 38
    with pytest.raises(ComponentError, match="each of its 40 rows has no token without a label"):
        select(selector(swapped, {"eval": aims}, LexicalParams(part="prompt")))
    asked = [{**row, "labels": [-100] * len(row["input_ids"])} for row in target]
    prompts = select(selector(swapped, {"eval": asked}, LexicalParams(mode="top", part="prompt")))
    assert len(set(rows_of(prompts)) & set(range(60, 100))) >= 38
    with pytest.raises(ConfigError, match="rows of stage: pt have none"):
        select(selector(swapped, {"eval": asked}, LexicalParams(part="prompt"), stage="pt"))


def test_too_few_rows_with_a_score_are_counted_with_the_reason() -> None:
    pool, target = texts([[1, 2]] * 3 + [[]] * 7), texts([[1, 2]])
    assert sorted(rows_of(select(selector(pool, {"eval": target}), 0, 3))) == [0, 1, 2]
    reason = (
        r"only 3 of the pool's 10 rows have a score and 4 are needed at step 0: 7 have no token that is not padding"
    )
    with pytest.raises(ComponentError, match=reason):
        select(selector(pool, {"eval": target}), 0, 4)
    with pytest.raises(ConfigError, match="draws 11 samples without replacement, but there are 10 candidates"):
        select(selector(pool, {"eval": target}), 0, 11)
    with pytest.raises(ConfigError, match="aims at an eval set and the run has none"):
        select(selector(pool, {}), 0, 3)


def test_a_target_that_words_do_not_tell_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(4)
    pool, target = zipf(rng, 200), zipf(rng, 100)
    chooser = selector(pool, {"eval": target})
    with caplog.at_level(logging.INFO, logger="dataflex"):
        found = select(chooser, 0)
        select(chooser, 5)
    warned = [record.message for record in caplog.records if "words hardly tell" in record.message]
    assert len(warned) == 1
    assert "'eval'" in warned[0]
    assert 0.4 < float(found.metrics["separation"]) < 0.6  # type: ignore[arg-type]
    told = select(selector(*told_apart_as_a_run()), 0)
    assert float(told.metrics["separation"]) > 0.85  # type: ignore[arg-type]
    few = select(selector(pool, {"eval": target[:15]}))
    assert "separation" not in few.metrics


def told_apart_as_a_run() -> tuple[list[Row], dict[str, list[Row]]]:
    pool, target = told_apart()
    return pool, {"eval": target}


def test_a_decision_records_what_was_found() -> None:
    pool, target = told_apart()
    found = select(selector([*pool, {"input_ids": []}], {"a": target, "b": target[:20]}))
    assert found.metrics["scored"] == 200
    assert found.metrics["without_score"] == 1
    assert found.metrics["validation"] == 60
    assert found.metrics["tokens"] == sum(len(row["input_ids"]) for row in pool)
    assert len(found.metrics["score_quantiles"]) == 5  # type: ignore[arg-type]
    assert len(found.metrics["subtask_separations"]) == 2  # type: ignore[arg-type]


def test_two_ranks_choose_what_one_chooses_bit_for_bit_and_both_hear_of_a_failure(tmp_path: Path) -> None:
    run_on_two_ranks(select_on_a_rank, tmp_path)
    pool, target = told_apart()
    for params in (LexicalParams(share=0.7, passes=2), DsirParams()):
        alone = select(selector(pool, {"a": target, "b": target[:20]}, params))
        name = type(params).__name__
        for rank in (0, 1):
            assert np.load(tmp_path / f"{name}-rows{rank}.npy").tolist() == rows_of(alone)
            assert np.load(tmp_path / f"{name}-scores{rank}.npy").tolist() == np.asarray(alone.scores).tolist()
    errors = [Path(tmp_path, f"error{rank}.txt").read_text(encoding="utf-8") for rank in (0, 1)]
    assert all("row 199 of the pool could not be read" in error for error in errors)
