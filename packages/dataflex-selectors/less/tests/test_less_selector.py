"""What is chosen, recorded, remembered and resumed."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doubles import OneRank, Scheduler, Spread
from less_cases import pool_and_goals, rows_of, selector, tiny_qwen, train_step, warmed_up, with_lora
from torch import nn

from dataflex.errors import ComponentError, ConfigError
from dataflex_selectors_less.params import LessParams
from dataflex_selectors_less.ranking import choose
from dataflex_selectors_less.selector import LessSelector
from dataflex_selectors_less.subtasks import subtasks_of


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = with_lora(tiny_qwen())
    return model, warmed_up(model)


COSINES = np.array([[0.9, 0.0], [0.8, 0.1], [0.7, 0.2], [0.0, 0.6], [0.1, 0.5], [np.nan, np.nan]])


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [
        ("max", {0, 1, 2}),
        ("mean", {0, 1, 2}),  # means .45 .45 .45 .3 .3
        ("round_robin", {0, 3, 1}),  # the first subtask's best, the second's, the first's next
    ],
)
def test_each_way_to_combine_subtasks_chooses_its_rows(aggregate: Any, expected: set[int]) -> None:
    chosen = choose(COSINES, 3, LessParams(aggregate=aggregate), np.random.default_rng(0))
    assert set(chosen.tolist()) == expected


def test_in_turn_passes_over_what_another_subtask_has_taken() -> None:
    same = np.array([[0.9, 0.9], [0.8, 0.1], [0.1, 0.7], [0.2, 0.2]])
    chosen = choose(same, 3, LessParams(aggregate="round_robin"), np.random.default_rng(0))
    assert set(chosen.tolist()) == {0, 2, 1}


def test_sampling_prefers_high_scores_and_a_low_temperature_is_nearly_the_top() -> None:
    scores = np.linspace(-1, 1, 50)[:, None]

    def mean_of(temperature: float) -> float:
        params = LessParams(mode="sample", temperature=temperature)
        drawn = [choose(scores, 10, params, np.random.default_rng(seed)) for seed in range(50)]
        assert all(len(set(rows.tolist())) == 10 for rows in drawn)
        return float(np.mean([scores[rows].mean() for rows in drawn]))

    assert mean_of(0.01) == pytest.approx(float(scores[40:].mean()), abs=0.02)
    assert abs(mean_of(100.0)) < 0.1 < mean_of(1.0) < mean_of(0.01)


def test_scores_that_differ_by_rounding_alone_are_drawn_uniformly() -> None:
    scores = np.array([0.7, np.nextafter(0.7, 1), 0.7, np.nextafter(0.7, 1)])[:, None]
    params = LessParams(mode="sample", temperature=0.1)
    drawn = [choose(scores, 1, params, np.random.default_rng(seed))[0] for seed in range(2000)]
    assert np.bincount(drawn, minlength=4) / 2000 == pytest.approx(np.full(4, 0.25), abs=0.05)


def test_the_order_within_a_stage_is_random_and_a_function_of_seed_and_step(trained: Any) -> None:
    model, optimizer = trained
    rows, goals = pool_and_goals(size=30)
    first, again, other = (
        list(selector(rows, goals, optimizer, seed=seed).select(model, step, 20).rows)
        for seed, step in ((1, 6), (1, 6), (2, 6))
    )
    assert first == again != other and set(first) == set(other)


def test_with_passes_the_best_rows_are_read_again_in_another_order(trained: Any) -> None:
    model, optimizer = trained
    rows, goals = pool_and_goals(size=12)
    once = list(selector(rows, goals, optimizer).select(model, 6, 5).rows)
    again = selector(rows, goals, optimizer, passes=3).select(model, 6, 14)
    plan = list(again.rows)
    assert sorted(plan[:5]) == sorted(plan[5:10]) == sorted(once) and plan[:5] != plan[5:10]
    assert len(set(plan[10:])) == 4 and set(plan[10:]) < set(once)
    assert sum(again.metrics["subtask_shares"]) == pytest.approx(1)
    with pytest.raises(ConfigError, match=r"draws 13 samples .*\(passes=3 of a stage of 37\), but there are 12 "):
        selector(rows, goals, optimizer, passes=3).select(model, 6, 37)


def test_only_a_fresh_part_of_the_pool_is_scored_when_asked_for(trained: Any) -> None:
    model, optimizer = trained
    rows, goals = pool_and_goals(size=30)
    parts = []
    for step in (6, 9):
        selection = selector(rows, goals, optimizer, max_candidates=10).select(model, step, 5)
        scored = set(np.flatnonzero(np.isfinite(selection.scores)))
        assert len(scored) == 10 == selection.metrics["max_candidates"] and set(selection.rows) <= scored
        parts.append(scored)
    assert parts[0] != parts[1]
    with pytest.raises(ConfigError, match=r"draws 11 samples .*there are 10 .*Raise component_params.max_candidates"):
        selector(rows, goals, optimizer, max_candidates=10).select(model, 6, 11)


def test_a_row_without_targets_is_never_chosen(trained: Any, caplog: pytest.LogCaptureFixture) -> None:
    model, optimizer = trained
    rows, goals = pool_and_goals()
    rows[3]["labels"] = [-100] * len(rows[3]["labels"])
    with caplog.at_level(logging.WARNING, "dataflex"):
        chosen = selector(rows, goals, optimizer).select(model, 6, len(rows) - 1)
    assert 3 not in chosen.rows and np.isnan(chosen.scores[3])
    assert (chosen.metrics["without_targets"], chosen.metrics["non_finite"]) == (1, 0)
    assert "1 no target token" not in caplog.text and "1 have no target token; none is chosen" in caplog.text
    with pytest.raises(ComponentError, match=r"only 13 of 14 candidates at step 6 .*14 are needed .*1 no target token"):
        selector(rows, goals, optimizer).select(model, 6, len(rows))


@pytest.mark.parametrize("where", ["pool", "goals"])
def test_a_gradient_that_is_not_finite_is_counted_and_spoils_no_other(trained: Any, where: str) -> None:
    model, optimizer = trained
    rows, goals = pool_and_goals()
    unused = 119
    for row in [*rows, *(row for goal in goals.values() for row in goal)]:
        row["input_ids"] = [min(token, unused - 1) for token in row["input_ids"]]
        row["labels"] = [min(token, unused - 1) for token in row["labels"]]
    spoilt = rows[2] if where == "pool" else goals["one"][1]
    kept = {**goals, "one": [row for row in goals["one"] if row is not spoilt]}
    expected = selector(rows, kept, optimizer).select(model, 6, 5).scores
    spoilt["input_ids"] = [unused] * len(spoilt["input_ids"])
    embedding = model.get_input_embeddings().weight
    before = embedding.data[unused].clone()
    embedding.data[unused] = torch.nan
    try:
        selection = selector(rows, goals, optimizer).select(model, 6, 5)
    finally:
        embedding.data[unused] = before
    others = np.arange(len(rows)) != 2 if where == "pool" else np.full(len(rows), True)
    np.testing.assert_allclose(selection.scores[others], expected[others], atol=1e-5, rtol=0)
    assert selection.metrics["non_finite"] == (where == "pool") and (where != "pool" or 2 not in selection.rows)


def test_an_eval_set_without_targets_cannot_be_aimed_at(trained: Any) -> None:
    model, optimizer = trained
    rows, goals = pool_and_goals()
    for row in goals["two"]:
        row["labels"] = [-100] * len(row["labels"])
    with pytest.raises(ComponentError, match="no sample of the eval set 'two' has a finite gradient"):
        selector(rows, goals, optimizer).select(model, 6, 5)


def test_a_model_that_has_diverged_stops_the_run_with_what_to_do(trained: Any) -> None:
    model, optimizer = copy.deepcopy(trained)
    for parameter in model.parameters():
        parameter.data.fill_(float("nan"))
    rows, goals = pool_and_goals()
    with pytest.raises(ComponentError, match="lower the learning rate if the model has diverged"):
        selector(rows, goals, optimizer).select(model, 6, 5)


def test_the_decision_says_what_was_scored_and_how_it_looked(trained: Any) -> None:
    model, optimizer = trained
    rows, goals = pool_and_goals()
    less = selector(rows, goals, optimizer)
    first = less.select(model, 6, 5)
    metrics = first.metrics
    assert (metrics["scored"], metrics["validation"], metrics["resumed"]) == (14, 7, 0)
    assert max(metrics["subtask_maxima"]) == first.scores.max() and len(metrics["subtask_maxima"]) == 2
    assert sum(metrics["subtask_shares"]) == pytest.approx(1)
    trainable = sum(value.numel() for value in model.parameters() if value.requires_grad)
    assert metrics["gradient_size"] == trainable
    assert metrics["seconds"] > metrics["validation_seconds"] > 0 and metrics["samples_per_second"] > 0
    assert "score_quantiles" not in metrics and "overlap" not in less.select(model, 9, 5).metrics  # core records both


def test_there_is_nothing_to_remember_without_history_and_rows_that_version_0_1_kept_are_no_obstacle(
    trained: Any,
) -> None:
    model, optimizer = trained
    rows, goals = pool_and_goals()
    less, resumed = (selector(rows, goals, optimizer) for _ in range(2))
    first = less.select(model, 6, 5)
    assert less.state_dict() == {}
    resumed.load_state_dict({"last_rows": np.asarray(first.rows)})
    assert list(resumed.select(model, 9, 5).rows) == list(less.select(model, 9, 5).rows)


def test_history_adds_up_scores_by_learning_rate_and_survives_a_resume(trained: Any) -> None:
    model, optimizer = trained
    rows, goals = pool_and_goals()
    scheduler = Scheduler(1.0)

    def fresh() -> LessSelector:
        return selector(rows, goals, optimizer, history=True, scheduler=scheduler, aggregate="mean")

    less = fresh()
    first = less.select(model, 6, 5).scores
    shift = [(name, value) for name, value in model.named_parameters() if "lora_B" in name]
    for _, value in shift:
        value.data *= -1
    try:
        now = selector(rows, goals, optimizer, aggregate="mean").select(model, 9, 5).scores
        scheduler.rate = 3.0
        resumed = fresh()
        resumed.load_state_dict(less.state_dict())
        for one in (less, resumed, less):  # asking again at the same boundary counts it once
            np.testing.assert_allclose(one.select(model, 9, 5).scores, (first + 3 * now) / 4, atol=1e-9)
    finally:
        for _, value in shift:
            value.data *= -1
    assert np.abs(first - now).max() > 1e-3


def test_an_interrupted_pass_goes_on_from_its_shards_and_ends_with_the_same_scores(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, optimizer = trained
    rows, goals = pool_and_goals()
    options = {"cache_dir": tmp_path, "shard_seconds": 1e-9, "token_budget": 64}
    whole = selector(rows, goals, optimizer, token_budget=64).select(model, 6, 5)
    calls = _stop_after(monkeypatch, 9)  # 7 validation batches run twice at most; the rest are candidates
    with pytest.raises(KeyboardInterrupt):
        selector(rows, goals, optimizer, **options).select(model, 6, 5)
    monkeypatch.undo()
    written = list(tmp_path.glob("pass-*/scores-*/*.npy"))
    assert written and calls
    resumed = selector(rows, goals, optimizer, **options).select(model, 6, 5)
    assert 0 < resumed.metrics["resumed"] < 14
    np.testing.assert_array_equal(resumed.scores, whole.scores)
    assert list(resumed.rows) == list(whole.rows)
    assert selector(rows, goals, optimizer, **options).select(model, 6, 5).metrics["resumed"] == 14


def _stop_after(monkeypatch: pytest.MonkeyPatch, candidates_after: int) -> list[int]:
    """Interrupt the run as a user does, some batches into the candidate pass."""
    from dataflex.scoring.shards import ShardStore

    calls: list[int] = []
    add = ShardStore.add

    def counted(store: ShardStore, rows: Any, results: Any) -> None:
        add(store, rows, results)
        calls.append(len(rows))
        if sum(calls) >= candidates_after:
            raise KeyboardInterrupt

    monkeypatch.setattr(ShardStore, "add", counted)
    return calls


@pytest.mark.parametrize("change", ["weights", "moments", "pool", "goals", "parameters", "seed", "step"])
def test_shards_of_anything_else_are_not_used(change: str, tmp_path: Path) -> None:
    model = with_lora(tiny_qwen())
    optimizer = warmed_up(model)
    rows, goals = pool_and_goals()
    options: dict[str, Any] = {"cache_dir": tmp_path, "shard_seconds": 1e-9}
    selector(rows, goals, optimizer, **options).select(model, 6, 5)
    assert selector(rows, goals, optimizer, **options).select(model, 6, 5).metrics["resumed"] == 14
    step = 7 if change == "step" else 6
    weight = next(value for value in model.parameters() if value.requires_grad)
    if change == "weights":
        weight.data[0, 0] += 1e-3
    elif change == "moments":
        optimizer.state[weight]["exp_avg_sq"][0, 0] += 1e-9
    elif change == "pool":
        rows[4]["input_ids"][0] ^= 1
    elif change == "goals":
        goals["two"][0]["input_ids"][0] ^= 1
    elif change == "parameters":
        options["preconditioner"] = "adam"
    elif change == "seed":
        options["seed"] = 2
    assert selector(rows, goals, optimizer, **options).select(model, step, 5).metrics["resumed"] == 0
    assert len(list(tmp_path.glob("pass-*/*"))) == 1  # what can no longer be used is deleted


def test_an_edit_of_any_row_of_a_large_pool_is_seen(trained: Any, tmp_path: Path) -> None:
    model, optimizer = trained
    rows, goals = rows_of([4] * 600, seed=1), pool_and_goals()[1]
    options: dict[str, Any] = {"cache_dir": tmp_path, "shard_seconds": 1e-9}
    selector(rows, goals, optimizer, **options).select(model, 6, 5)
    rows[1]["input_ids"][0] ^= 1
    assert selector(rows, goals, optimizer, **options).select(model, 6, 5).metrics["resumed"] == 0


def test_a_damaged_shard_is_scored_again(trained: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, optimizer = trained
    rows, goals = pool_and_goals()
    options = {"cache_dir": tmp_path, "shard_seconds": 1e-9, "token_budget": 64}
    whole = selector(rows, goals, optimizer, **options).select(model, 6, 5)
    shard = min(tmp_path.glob("pass-*/scores-*/*.npy"))
    shard.write_bytes(shard.read_bytes()[:100])
    with caplog.at_level(logging.WARNING, "dataflex"):
        again = selector(rows, goals, optimizer, **options).select(model, 6, 5)
    assert "is damaged" in caplog.text and again.metrics["resumed"] < 14
    np.testing.assert_array_equal(again.scores, whole.scores)


def test_a_disk_that_fails_does_not_end_the_run(trained: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, optimizer = trained
    rows, goals = pool_and_goals()
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING, "dataflex"):
        less = selector(rows, goals, optimizer, cache_dir=tmp_path / "file", shard_seconds=1e-9)
        assert np.isfinite(less.select(model, 6, 5).scores).all()
    assert "scores could not be kept" in caplog.text


def test_nothing_is_written_when_shards_are_off(trained: Any, tmp_path: Path) -> None:
    model, optimizer = trained
    rows, goals = pool_and_goals()
    selector(rows, goals, optimizer, cache_dir=tmp_path / "cache").select(model, 6, 5)
    assert list(tmp_path.iterdir()) == []


def test_each_value_of_a_column_is_a_subtask() -> None:
    rows = [{"input_ids": [1], "task": name} for name in ("b", "a", "b")]
    found = subtasks_of({"eval": rows}, "task")
    assert [(subtask.name, subtask.rows.tolist()) for subtask in found] == [("b", [0, 2]), ("a", [1])]
    with pytest.raises(ConfigError, match=r"no column 'kind' \(it has: input_ids, task\).*eval_on_each_dataset"):
        subtasks_of({"eval": rows}, "kind")


def test_only_the_targets_among_the_eval_sets_are_aimed_at() -> None:
    evals = {"a": [{"input_ids": [1]}], "b": [{"input_ids": [2]}]}
    assert [subtask.name for subtask in subtasks_of(evals, None, ("b",))] == ["b"]
    with pytest.raises(ConfigError, match=r"targets names c, but the eval sets are a, b"):
        subtasks_of(evals, None, ("c",))


@pytest.mark.parametrize(("goals", "message"), [({}, "run has none"), ({"eval": []}, "'eval' is empty")])
def test_there_has_to_be_something_to_aim_at(goals: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        subtasks_of(goals, None)


def _accelerator(kind: str) -> OneRank:
    return OneRank(distributed_type=Spread(kind))


@pytest.mark.parametrize(("kind", "named"), [("FSDP", "FSDP1"), ("DEEPSPEED", "ZeRO-3")])
def test_parameters_spread_over_ranks_are_refused(kind: str, named: str) -> None:
    model = with_lora(tiny_qwen())
    if kind == "DEEPSPEED":
        next(model.parameters()).ds_id = 0  # as ZeRO-3 marks what it has taken apart
    rows, goals = pool_and_goals()
    less = selector(rows, goals, accelerator=_accelerator(kind), preconditioner="sgd")
    with pytest.raises(ConfigError, match=rf"which {named} spreads over ranks\. Use FSDP2, ZeRO-2 or DDP"):
        less.select(model, 6, 5)


def test_deepspeed_with_whole_parameters_is_not_refused(trained: Any) -> None:
    model, optimizer = trained
    rows, goals = pool_and_goals()
    plain = selector(rows, goals, optimizer).select(model, 6, 5)
    found = selector(rows, goals, optimizer, accelerator=_accelerator("DEEPSPEED")).select(model, 6, 5)
    np.testing.assert_array_equal(found.rows, plain.rows)


def _following(rule: int, count: int, seed: int) -> list[dict[str, list[int]]]:
    """Rule r: the answer repeats the prompt with every token raised by 20 r."""
    prompts = np.random.default_rng([seed, rule]).integers(1, 20, (count, 8))
    return [
        {
            "input_ids": [*prompt.tolist(), *(prompt + 20 * rule).tolist()],
            "attention_mask": [1] * 16,
            "labels": [-100] * 8 + (prompt + 20 * rule).tolist(),
        }
        for prompt in prompts
    ]


@pytest.mark.parametrize(("kind", "num_samples"), [("lora", 20), ("full", 40)])
def test_less_finds_the_fifth_of_the_pool_that_follows_the_eval_sets_rule(kind: str, num_samples: int) -> None:
    pool = [row for rule in range(1, 6) for row in _following(rule, 40, seed=0)]
    rng = np.random.default_rng(0)

    def trained_for(steps: int, model: nn.Module) -> torch.optim.Optimizer:
        optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-3)
        for _ in range(steps):
            train_step(model, optimizer, [pool[row] for row in rng.choice(len(pool), 8, replace=False)])
        return optimizer

    model = tiny_qwen(initializer_range=0.02, attention_dropout=0.0)
    optimizer = trained_for(20, model)
    if kind == "lora":
        model = with_lora(model, r=8, lora_dropout=0.1)
        optimizer = trained_for(20, model)
    less = selector(pool, {"eval": _following(2, 24, seed=1)}, optimizer, parameters="linear")
    chosen = np.asarray(less.select(model, 20, num_samples).rows)
    assert float(((chosen >= 40) & (chosen < 80)).mean()) >= 0.8


def test_rows_longer_than_the_budget_are_scored_alone(trained: Any) -> None:
    model, optimizer = trained
    rows = rows_of([60, 4, 4], seed=1)
    _, goals = pool_and_goals()
    selection = selector(rows, goals, optimizer, token_budget=32).select(model, 6, 2)
    assert np.isfinite(selection.scores).all()
