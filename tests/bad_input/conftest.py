"""A folder to write bad files to, and a way to start runs that never come to load a model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asked_runs import Stage, stage_without_model

from dataflex.testing.tiny import tiny_rows, write_dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory of a module's tests."""
    path, before = tmp_path_factory.mktemp("bad"), Path.cwd()
    (path / "model").mkdir()
    write_dataset(path / "data", tiny=tiny_rows(1), other=tiny_rows(1), val=tiny_rows(1))
    os.chdir(path)
    yield path
    os.chdir(before)


@pytest.fixture(scope="module")
def stage(folder: Path) -> Iterator[Stage]:
    with stage_without_model() as stage:
        yield stage


@pytest.fixture(scope="module")
def rest(folder: Path) -> dict[str, Any]:
    """LlamaFactory's keys of a run of 4 samples a step."""
    return {
        "model_name_or_path": str(folder / "model"),
        "stage": "sft",
        "do_train": True,
        "dataset": "tiny",
        "output_dir": str(folder / "out"),
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "report_to": "none",
        "use_cpu": True,
    }
