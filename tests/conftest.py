"""Real runs on a tiny model.

LlamaFactory takes seconds to import: runs share this process unless a process is the point.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import OTHER, POOL, Workshop

from dataflex.testing.tiny import tiny_rows, write_dataset, write_model
from dataflex.testing.tiny_models import add_pictures, write_moe, write_vision

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real Chromium; tests that open it belong to the xdist group ``browser``."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    found = os.environ.get("CHROMIUM") or next((path for name in BROWSERS if (path := shutil.which(name))), None)
    with sync_api.sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"no Chromium (apt install chromium, or playwright install chromium): {error.message[:200]}")
        yield started
        started.close()
