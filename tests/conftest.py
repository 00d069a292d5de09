"""Real runs on a tiny model.

LlamaFactory takes seconds to import: runs share this process unless a process is the point.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_runs import OTHER, POOL, Workshop

from dataflex.testing.tiny import tiny_rows, write_dataset, write_model
from dataflex.testing.tiny_models import add_pictures, write_moe, write_vision


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_model(folder / "model")
    write_dataset(
        folder / "data", tiny=tiny_rows(POOL), other=tiny_rows(OTHER, seed=2, longest=4), val=tiny_rows(16, seed=1)
    )
    return folder


@pytest.fixture(scope="session")
def tiny_models(tiny_folder: Path) -> Path:
    """The tiny folder, with the models ``moe`` and ``vision`` and the data set ``pictures`` added."""
    write_moe(tiny_folder / "moe")
    write_vision(tiny_folder / "vision")
    add_pictures(tiny_folder / "data")
    return tiny_folder


@pytest.fixture
def workshop(tiny_folder: Path, tmp_path: Path) -> Workshop:
    return Workshop(tiny_folder, tmp_path)


@pytest.fixture
def train() -> Callable[..., None]:
    """Run ``dataflex train`` in this process."""

    def train(run_file: Path, *overrides: str, plugins: tuple[str, ...] = ()) -> None:
        from dataflex.cli.train import run_train

        run_train(run_file, list(overrides), list(plugins))

    return train
