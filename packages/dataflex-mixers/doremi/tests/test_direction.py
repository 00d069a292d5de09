"""What the reference is for: with it, text that cannot be learned loses weight; without it, it takes over."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import doremi_runs

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("doremi")]

DOMAINS = {"counting": 64, "noise": 64}


class NoReference:
    """What a reference that could not be loaded would come to."""

    vocabulary = doremi_runs.VOCABULARY

    def token_losses(self, batch: Any) -> torch.Tensor:
        return torch.zeros_like(batch.losses_BT)


def rows() -> list[dict[str, list[int]]]:
    draw = torch.Generator().manual_seed(2)
    starts = torch.randint(doremi_runs.VOCABULARY, (64,), generator=draw).tolist()
    counting = [[(start + step) % doremi_runs.VOCABULARY for step in range(12)] for start in starts]
    noise = torch.randint(doremi_runs.VOCABULARY, (64, 12), generator=draw).tolist()
    return [{"input_ids": row, "labels": row} for row in counting + noise]


def average_weight_of_noise(folder: Path, out: str) -> float:
    trainer = doremi_runs.trainer(
        folder / out, batch=16, steps=60, domains=DOMAINS, rows=rows(), optim="adamw_torch", learning_rate=3e-3
    )
    trainer.train()
    weights = json.loads((folder / out / "weights.json").read_text())
    return float(dict(zip(weights["names"], weights["average"], strict=True))["noise"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("direction")
    reference, draw = doremi_runs.model(seed=4), torch.Generator().manual_seed(5)
    optimizer, pool = torch.optim.AdamW(reference.parameters(), lr=3e-3), rows()
    for _ in range(150):
        chosen = torch.randint(len(pool), (16,), generator=draw).tolist()
        reference(**doremi_runs.collate([pool[row] for row in chosen])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    reference.save_pretrained(made / "reference")
    return made


def test_with_a_reference_noise_gets_little_weight(folder: Path) -> None:
    assert average_weight_of_noise(folder, "with") < 0.15


def test_without_one_noise_gets_nearly_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataflex_mixers_doremi.mixer.open_reference", lambda *given: NoReference())
    assert average_weight_of_noise(folder, "without") > 0.9
