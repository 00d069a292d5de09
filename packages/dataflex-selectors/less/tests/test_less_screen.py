"""``less`` behind a screen: that of another ``less`` agrees with it, and a killed run goes on with the same rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from less_cases import Pad, pool_and_goals, tiny_qwen, with_lora
from less_screen_runs import BOUNDARIES, decisions, plan, trained, trainer

from dataflex.errors import ComponentError
from dataflex.testing import make_context
from dataflex_selectors_near.params import RdsParams
from dataflex_selectors_near.selector import NearSelector

PARAMS = {
    "passes": 2,
    "max_validation": 2,
    "screen": {"name": "less", "params": {"max_validation": 2}, "survivors": 8, "every": 1, "agreement": 20},
}


def test_less_screened_by_less_agrees_with_itself_and_a_killed_run_goes_on(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole", PARAMS)
    whole.train()
    for metrics in decisions(tmp_path / "whole"):
        assert metrics["screen_agreement"] > 0.9
        assert metrics["screen_survivors"] == 8
        assert metrics["validation"] == 4
    first = decisions(tmp_path / "whole")[0]
    # 2 boundaries: the screen scores 40 rows and passes twice over 4; so does less over its rows; adapters: beta = 1.
    scored = first["scored"]
    assert first["selection_steps"] == pytest.approx(2 * (40 + 8 + scored + 8) / 2)

    trainer(tmp_path / "cut", PARAMS, save_strategy="steps", save_steps=3).train()
    resumed = trainer(tmp_path / "cut", PARAMS)
    resumed.train(resume_from_checkpoint=str(tmp_path / "cut" / "out" / "checkpoint-3"))
    for step in BOUNDARIES:
        assert plan(tmp_path / "cut", step) == plan(tmp_path / "whole", step)
    np.testing.assert_array_equal(trained(resumed.model), trained(whole.model))
    states = [made.component.state_dict() for made in (whole, resumed)]
    assert states[0].keys() == states[1].keys() == {"validation/one", "validation/two"}
    screens = [made.parts.screen.state_dict() for made in (whole, resumed)]
    assert {"screen/validation/one", "screened/scores", "screened/boundary"} <= screens[0].keys()
    np.testing.assert_array_equal(screens[0]["screened/scores"], screens[1]["screened/scores"])


def test_a_screen_by_embeddings_is_of_the_model_as_training_began(tmp_path: Path) -> None:
    screen = {"name": "rds", "params": {"tokens": 5}, "survivors": 12, "agreement": 0}
    made = trainer(tmp_path / "run", {"passes": 2, "screen": screen})
    made.train()
    rows, goals = pool_and_goals(size=40)
    by_hand = NearSelector(RdsParams(tokens=5), make_context(rows, Pad(), cache_dir=tmp_path, eval_datasets=goals))
    began = with_lora(tiny_qwen(attention_dropout=0.0), lora_dropout=0.0)
    by_hand.begin(began)
    expected = by_hand.select(began, 2, 1).scores
    np.testing.assert_allclose(made.parts.screen.state_dict()["screened/scores"], expected, atol=2e-3)
    late = NearSelector(RdsParams(tokens=5), make_context(rows, Pad(), cache_dir=tmp_path, eval_datasets=goals))
    late.begin(made.model)  # wrong: after training
    assert np.abs(late.select(made.model, 2, 1).scores - expected).max() > 0.01


def test_labels_of_training_screen_too(tmp_path: Path) -> None:
    screen = {"name": "influence", "survivors": 33, "agreement": 0, "params": {"max_validation": 2}}
    made = trainer(tmp_path, {"passes": 2, "screen": screen}, per_device_train_batch_size=16)
    made.train()
    labels = made.parts.screen.asking.component._labels
    assert len(labels) == 6 * 16 and set(labels.directions.tolist()) == {1}
    assert [each["screen_survivors"] for each in decisions(tmp_path)] == [33, 33]


def test_too_few_labels_to_screen_by_are_said(tmp_path: Path) -> None:
    screen = {"name": "influence", "survivors": 12, "agreement": 0}
    with pytest.raises(ComponentError, match=r"there are 4 labels and at least 32 are needed to screen a pool.*warmup"):
        trainer(tmp_path, {"passes": 2, "screen": screen}).train()
