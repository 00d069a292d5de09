"""The selector ``nice`` in a whole run: LlamaFactory's template, collator and adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import NOTE_SELECT, Workshop

from dataflex.cli.score import ScoreOptions, run_score

pytestmark = pytest.mark.slow

REWARDS = """
def letters(prompts, answers, references):
    assert all("user" in prompt and reference for prompt, reference in zip(prompts, references)), prompts
    assert not any("<|im_end|>" in text for text in [*prompts, *answers, *references])
    return [sum(letter.isalpha() for letter in answer) for answer in answers]
"""


def test_a_run_answers_its_eval_set_and_chooses_rows_by_what_the_answers_are_worth(
    workshop: Workshop, train: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(workshop.out, "end_to_end_rewards.py").write_text(REWARDS)
    monkeypatch.syspath_prepend(str(workshop.out))
    params = {"reward": "end_to_end_rewards:letters", "mc_samples": 4, "max_new_tokens": 12, "max_validation": 6}
    keys = NOTE_SELECT | {"component_name": "nice", "component_params": params, "eval_dataset": "val"}
    run_file = workshop.run_file(**keys)
    train(run_file)
    lines = (workshop.out / "run" / "decisions.jsonl").read_text().splitlines()
    decisions = [json.loads(line)["metrics"] for line in lines]
    assert len(decisions) == 2
    for metrics in decisions:
        assert 0 < metrics["validation_with_signal"] <= metrics["validation"] == 6
        assert (metrics["one_by_one"], metrics["non_finite"]) == (0, 0)
    options = ScoreOptions(out=workshop.out / "scores", component="nice", checkpoint=None, keep_top=None, keep=5)
    run_score(run_file, [], [], options)
    assert sum(len(path.read_text().splitlines()) for path in (workshop.out / "scores" / "kept").glob("*.jsonl")) == 5
