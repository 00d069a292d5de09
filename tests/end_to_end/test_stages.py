"""The engine drives every LlamaFactory stage it names, at loader level."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_runs import NOTE_SELECT

from dataflex.decisions import DecisionLog
from dataflex.testing.tiny import tiny_rows, write_dataset

pytestmark = pytest.mark.slow


def stage_data(folder, stage):
    rows = tiny_rows(48)
    if stage == "pt":
        info, made = (
            {"columns": {"prompt": "text"}},
            [{"text": row["instruction"] + row["output"] * 20} for row in rows],
        )
    elif stage in ("dpo", "rm"):
        info = {"ranking": True, "columns": {"prompt": "instruction", "chosen": "output", "rejected": "worse"}}
        made = [{**row, "worse": row["output"][::-1]} for row in rows]
    elif stage == "kto":
        info = {"columns": {"prompt": "instruction", "response": "output", "kto_tag": "good"}}
        made = [{**row, "good": index % 2 == 0} for index, row in enumerate(rows)]
    else:
        raise ValueError(stage)
    write_dataset(folder, pairs=made)
    (folder / "dataset_info.json").write_text(json.dumps({"pairs": {"file_name": "pairs.jsonl", **info}}))
    return folder


@pytest.mark.parametrize("stage", ["pt", "dpo", "rm", "kto"])
def test_a_stage_trains_on_what_the_selector_chose(workshop, train, stage):
    data = stage_data(workshop.out / "data", stage)
    keys = NOTE_SELECT | {"stage": stage, "dataset": "pairs", "dataset_dir": str(data)}
    train(workshop.run_file(**keys, packing=False if stage == "pt" else None))
    steps = json.loads((workshop.out / "run" / "trainer_state.json").read_text())["global_step"]
    records = list(DecisionLog(workshop.out / "run"))
    assert steps == 8 and [record.step for record in records] == [2, 5]
    rows = np.load(workshop.out / "run" / records[0].result_ref)
    assert len(set(rows.tolist())) == 12
