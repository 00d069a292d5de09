"""Data sets for the stages of LlamaFactory's that a chat alone does not do for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dataflex.testing.tiny import tiny_rows, write_dataset


def stage_data(folder: Path, stage: str) -> Path:
    """Write the data set ``pairs`` of 48 rows for a stage (pt, dpo, rm or kto); returns the folder."""
    rows = tiny_rows(48)
    if stage == "pt":
        info: dict[str, Any] = {"columns": {"prompt": "text"}}
        made: list[dict[str, Any]] = [{"text": row["instruction"] + row["output"] * 20} for row in rows]
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
