"""Proportions of an earlier run are compared by what they were found on, not taken for this run's by their name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prepared_runs import prepared_run
from transformers import Trainer, TrainingArguments

from dataflex.config.mixture import MixtureSettings, Rule
from dataflex.config.weights_file import WeightsFile
from dataflex.data.fingerprint import fingerprint
from dataflex.made_from import RowsOf
from dataflex.mixing.domains import Domains
from dataflex.trainers import dynamic_trainer
from dataflex.trainers.other_rows import warn_of_other_rows
from dataflex.trainers.resume.arguments import Arguments
from dataflex.trainers.session import Session

ROWS = [{"input_ids": [row, 1]} for row in range(6)]
KEYS = {"template": "default", "cutoff_len": 96, "stage": "sft"}


def session(rows: RowsOf, **arguments: Any) -> Session:
    found = WeightsFile("init_mixture_proportions: from:w.json (from run.yaml)", {"web": 0.5, "code": 0.5}, rows)
    values = {**KEYS, "dataset_dir": "elsewhere", "learning_rate": 1.0, **arguments}
    run = prepared_run(mixture=MixtureSettings(rule=Rule.MIXTURE, found=found))
    domains = Domains(("web", "code"), (4, 2), np.full(6, 2))
    return Session(run, domains, arguments=Arguments(values, frozenset(values)))


SAME = RowsOf(names=("web", "code"), keys=KEYS, pool=fingerprint(ROWS))


@pytest.mark.parametrize(
    ("rows", "arguments", "phrase"),
    [
        (SAME, {}, ""),
        (RowsOf(names=("web", "code")), {}, ""),  # written by hand
        (RowsOf(names=("code", "web"), keys=KEYS, pool="another order"), {}, ""),
        (SAME, {"cutoff_len": 64}, "cutoff_len was 96 and is now 64"),
        (SAME, {"stage": "pt", "template": "llama3"}, "stage was 'sft' and is now 'pt'; template was"),
        (RowsOf(names=("web", "code"), keys=KEYS, pool="f00"), {}, "the rows are others"),
        (RowsOf(names=("web", "code"), pool="f00"), {}, "the rows are others"),  # of an earlier release
    ],
    ids=["the same", "no facts", "another order", "a key", "two keys", "rows", "a pool alone"],
)
def test_what_differs_is_named_once(
    rows: RowsOf, arguments: dict[str, Any], phrase: str, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_other_rows(session(rows, **arguments), ROWS)
    assert len(caplog.messages) == bool(phrase) and phrase in caplog.text
    if phrase:
        assert "from:w.json (from run.yaml) was found on other rows than this run mixes" in caplog.text


def test_keys_that_could_not_be_checked_are_not_compared(caplog: pytest.LogCaptureFixture) -> None:
    run = session(SAME, cutoff_len=64)
    run.unchecked = {"cutoff_len": 64}
    warn_of_other_rows(run, ROWS)
    assert not caplog.messages


def test_a_run_is_told_before_it_trains(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = {"names": ["web", "code"], "average": [0.5, 0.5], "hashes": {"pool": "f00"}}
    (tmp_path / "w.json").write_text(json.dumps(record))
    keys = {"train_type": "static_mix", "init_mixture_proportions": f"from:{tmp_path / 'w.json'}", "train_step": 2}
    args = TrainingArguments(str(tmp_path / "out"), use_cpu=True, report_to="none", per_device_train_batch_size=2)
    dynamic_trainer(Trainer, keys, domains={"web": 4, "code": 2})(
        model=torch.nn.Linear(1, 1), args=args, train_dataset=ROWS
    )
    assert "was found on other rows than this run mixes: the rows are others" in caplog.text
