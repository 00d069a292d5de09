from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from embedded_pools import pad, pool, rows_of, target, tiny_qwen
from nice_cases import OVERLAP, selector

from dataflex import ComponentError, ConfigError
from dataflex.components.passes import Subtask
from dataflex_selectors_nice.aiming import aim, signal
from dataflex_selectors_nice.judging import Judge


def flat_gradient(model: Any, row: dict[str, list[int]], *, mean: bool) -> torch.Tensor:
    """Of one row alone, of the weights and biases of linear layers."""
    batch = pad([row])
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[0, :-1]
    reduction = "mean" if mean else "sum"
    loss = torch.nn.functional.cross_entropy(logits, batch["labels"][0, 1:], reduction=reduction)
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    wanted = [parameter for module in linear for parameter in module.parameters()]
    return torch.cat([each.flatten() for each in torch.autograd.grad(loss, wanted)])


def by_autograd(subject: Any, model: Any, step: int) -> np.ndarray[Any, Any]:
    """Scores with every gradient kept: one backward pass for each answer and each row."""
    model.eval()
    data, context, params = target(), subject.context, subject.params
    judge = Judge(params.reward, context)
    aimed = aim(context, params, judge, model, [Subtask("eval", data, np.arange(len(data)))], step)
    units = []
    for each in aimed.judged[0]:
        vector = torch.zeros(())
        for answer, weight in zip(each.answers, signal(each.rewards, params), strict=True):
            tokens = each.prompt + answer
            row = {"input_ids": tokens, "attention_mask": [1] * len(tokens)}
            row["labels"] = [-100] * len(each.prompt) + answer
            vector = vector + weight * flat_gradient(model, row, mean=False)
        if vector.norm() > 0:
            units.append(vector / vector.norm())
    direction = torch.stack(units).mean(dim=0)
    gradients = [flat_gradient(model, row, mean=True) for row in pool()]
    return np.array([float(each @ direction / each.norm()) for each in gradients])


@pytest.mark.parametrize("baseline", ["loo", "none"])
def test_scores_are_cosines_with_the_gradient_of_the_expected_reward(tmp_path: Path, baseline: str) -> None:
    model = tiny_qwen().double()
    subject = selector(tmp_path, baseline=baseline)
    expected = by_autograd(subject, model, 4)
    found = subject.select(model, 4, 12)
    assert found.scores == pytest.approx(expected, abs=1e-5)
    assert set(found.rows) == set(np.argsort(-expected)[:12].tolist())
    assert list(found.target_scores) == ["eval"]
    assert found.metrics["validation_with_signal"] <= found.metrics["validation"] == 7
    one_by_one = selector(tmp_path / "other", baseline=baseline, parameters="all").select(model, 4, 12)
    assert one_by_one.metrics["one_by_one"] == 1.0
    assert np.isfinite(one_by_one.scores).all()


def test_rewards_may_be_scaled_and_shifted(tmp_path: Path) -> None:
    model = tiny_qwen().double()
    first = selector(tmp_path).select(model, 4, 12)
    second = selector(tmp_path, reward="nice_cases:scaled").select(model, 4, 12)
    assert first.scores == pytest.approx(second.scores, abs=1e-9)
    without = selector(tmp_path, baseline="none").select(model, 4, 12)
    shifted = selector(tmp_path, baseline="none", reward="nice_cases:scaled").select(model, 4, 12)
    assert np.abs(np.asarray(without.scores) - np.asarray(shifted.scores)).max() > 0.01  # wrong in dataflex 1.1.0


def test_scores_depend_on_the_validation_prompts(tmp_path: Path) -> None:
    """dataflex 1.1.0 answered one empty prompt, whatever the eval set."""
    model = tiny_qwen()
    other = {"eval": rows_of(7, 30, 60, 9)}
    one, two = selector(tmp_path).select(model, 4, 12), selector(tmp_path, eval_datasets=other).select(model, 4, 12)
    assert not np.allclose(one.scores, two.scores)


def test_batches_change_no_score(tmp_path: Path) -> None:
    model = tiny_qwen().double()
    one = selector(tmp_path / "a").select(model, 4, 12)
    two = selector(tmp_path / "b", token_budget=16).select(model, 4, 12)
    assert one.scores == pytest.approx(two.scores, abs=1e-6)


def test_the_step_draws_other_answers_and_the_seed_too(tmp_path: Path) -> None:
    model = tiny_qwen()
    first, again = (selector(tmp_path).select(model, 4, 12) for _ in range(2))
    assert np.array_equal(first.scores, again.scores)
    assert not np.allclose(first.scores, selector(tmp_path).select(model, 8, 12).scores)
    assert not np.allclose(first.scores, selector(tmp_path, seed=7).select(model, 4, 12).scores)


@pytest.mark.parametrize("more", [{"projection": "sjlt", "proj_dim": 4096}, {"aggregate": "round_robin"}])
def test_several_targets_and_a_projection(tmp_path: Path, more: dict[str, Any]) -> None:
    targets = {"one": target(), "two": rows_of(4, 30, 60, 9)}
    found = selector(tmp_path, eval_datasets=targets, reward=OVERLAP, **more).select(tiny_qwen(), 4, 12)
    assert len(set(found.rows)) == 12
    assert list(found.target_scores) == ["one", "two"]
    exact = selector(tmp_path / "exact", eval_datasets=targets, reward=OVERLAP).select(tiny_qwen(), 4, 12)
    assert np.corrcoef(found.scores, exact.scores)[0, 1] > 0.9


def test_constant_rewards_have_no_signal(tmp_path: Path) -> None:
    with pytest.raises(ComponentError, match=r"'eval' gives no signal: in each of its 7 rows .*between 0.3 and 0.3"):
        selector(tmp_path, reward="nice_cases:constant").select(tiny_qwen(), 4, 5)
    with pytest.raises(ComponentError, match="gives no signal"):
        selector(tmp_path, reward="exact_match").select(tiny_qwen(), 4, 5)


def test_what_a_reward_gives_is_checked(tmp_path: Path) -> None:
    for name, message in {
        "nice_cases:too_few": "gave 1 numbers for 4 answers",
        "nice_cases:endless": "gave inf for the answer",
    }.items():
        with pytest.raises(ComponentError, match=message):
            selector(tmp_path, reward=name).select(tiny_qwen(), 4, 5)
    for name, message in {
        "nice_cases:missing": "could not be imported",
        "no_such_module:reward": "could not be imported",
        "nice_cases:OVERLAP": "is no function, but str",
    }.items():
        with pytest.raises(ConfigError, match=message):
            selector(tmp_path, reward=name).begin(tiny_qwen())


def test_rows_without_a_prompt_or_an_answer_are_left_out(tmp_path: Path) -> None:
    data = target()
    data[0]["labels"] = [-100] * len(data[0]["labels"])
    data[1]["labels"] = list(data[1]["input_ids"])
    metrics = selector(tmp_path, eval_datasets={"eval": data}).select(tiny_qwen(), 4, 5).metrics
    assert (metrics["validation"], metrics["validation_left_out"]) == (5, 2)


def test_the_rows_aimed_at_are_drawn_once_and_kept(tmp_path: Path) -> None:
    model, subject = tiny_qwen(), selector(tmp_path, max_validation=3)
    subject.select(model, 4, 6)
    state = subject.state_dict()
    assert len(state["validation/eval"]) == 3
    expected = subject.select(model, 8, 6)
    resumed = selector(tmp_path, max_validation=3)
    resumed.load_state_dict(state)
    assert np.array_equal(resumed.select(model, 8, 6).scores, expected.scores)


def test_sampling_from_another_distribution_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "dataflex"):
        selector(tmp_path).select(tiny_qwen(), 4, 6)
    assert "7 validation rows have a signal" in caplog.text
    assert "with a bias" not in caplog.text
    with caplog.at_level(logging.WARNING, "dataflex"):
        selector(tmp_path, top_p=0.9).select(tiny_qwen(), 4, 6)
    assert "top_p: 0.9 sample another distribution" in caplog.text


def test_rows_are_read_several_times_and_some_are_scored(tmp_path: Path) -> None:
    found = selector(tmp_path, passes=3, max_candidates=20).select(tiny_qwen(), 1, 25)
    assert set(found.rows[:9]) == set(found.rows[9:18])
    assert np.isfinite(found.scores).sum() == 20
    with pytest.raises(ConfigError, match="max_candidates=4 of a pool of 60"):
        selector(tmp_path, max_candidates=4).select(tiny_qwen(), 1, 5)


def test_there_is_something_to_aim_at_and_room_for_its_direction(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nice aims at an eval set and the run has none"):
        selector(tmp_path, eval_datasets={}).select(tiny_qwen(), 4, 5)
    with pytest.raises(ConfigError, match="above direction_memory_gb"):
        selector(tmp_path, direction_memory_gb=1e-6).select(tiny_qwen(), 4, 5)


def test_models_in_pieces_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataflex.lockstep.is_collective", lambda model, accelerator: True)
    with pytest.raises(ConfigError, match="every token is an exchange between them"):
        selector(tmp_path).select(tiny_qwen(), 4, 5)


def test_too_few_rows_with_a_score_are_an_error(tmp_path: Path) -> None:
    rows = pool()
    for row in rows[5:]:
        row["labels"] = [-100] * len(row["labels"])
    with pytest.raises(ComponentError, match="only 5 of 60 candidates at step 8 have a score and 6 are needed"):
        selector(tmp_path, dataset=rows).select(tiny_qwen(), 8, 6)


def test_it_costs_the_answers_of_each_validation_row_at_every_boundary(tmp_path: Path) -> None:
    cost = selector(tmp_path).scoring_cost(tiny_qwen())
    assert (cost.rows, cost.backward, cost.validation) == (None, True, 38)  # 7 x 4 x 4/3
