"""``less`` behind a screen: that of another ``less`` agrees with it, and a killed run goes on with the same rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from screen_runs import BOUNDARIES, decisions, plan, trained, trainer

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
