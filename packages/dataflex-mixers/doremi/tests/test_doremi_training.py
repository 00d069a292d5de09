"""DoReMi through the real Trainer."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import doremi_runs

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("doremi")]  # runs are shared


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("doremi")
    doremi_runs.model(seed=5, hidden=24).save_pretrained(made / "reference")
    return made


def run(folder: Path, *, ranks: int = 1, accumulation: int = 1, normalizer: str = "paper", source: str = "live") -> Any:
    out = folder / f"{ranks}-{accumulation}-{normalizer}-{source}"
    if not (out / "seen.json").exists():
        arguments = [str(out), str(accumulation), normalizer, source]
        if ranks == 1:
            doremi_runs.main(*arguments)
        else:
            launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
            command = [sys.executable, *launch, doremi_runs.__file__, *arguments]
            subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, timeout=500)
    return json.loads((out / "seen.json").read_text())


def flat(weights: Any) -> np.ndarray:
    return np.concatenate([np.asarray(part).ravel() for part in weights])


@pytest.mark.parametrize(
    ("normalizer", "ranks", "accumulation"), [("paper", 1, 4), ("paper", 2, 1), ("official", 1, 4), ("official", 2, 2)]
)
def test_accumulation_and_ranks_change_neither_weights_nor_model(
    folder: Path, normalizer: str, ranks: int, accumulation: int
) -> None:
    one = run(folder, normalizer=normalizer)
    other = run(folder, ranks=ranks, accumulation=accumulation, normalizer=normalizer)
    assert len(one["seen"]) == len(other["seen"]) == doremi_runs.STEPS
    for mine, theirs in zip(one["seen"], other["seen"], strict=True):
        assert theirs["tokens"] == mine["tokens"]
        assert theirs["alpha"] == pytest.approx(mine["alpha"], abs=1e-6)
    assert np.abs(flat(one["weights"]) - flat(other["weights"])).max() < 1e-5


@pytest.mark.parametrize(("ranks", "accumulation"), [(1, 1), (1, 4), (2, 1)])
def test_the_loss_of_a_step_uses_the_weights_after_the_step_before(folder: Path, ranks: int, accumulation: int) -> None:
    seen = run(folder, ranks=ranks, accumulation=accumulation)["seen"]
    assert seen[0]["used"] == pytest.approx([1 / 3] * 3)
    for before, after in itertools.pairwise(seen):
        assert after["used"] == before["alpha"]
    assert seen[0]["alpha"] != seen[5]["alpha"]


def test_tokens_counted_ahead_are_those_that_are_seen(folder: Path) -> None:
    for step in run(folder, accumulation=4)["seen"]:
        assert step["tokens"] == step["seen_tokens"]


def test_cached_references_are_the_live_ones_rounded_to_half_precision(folder: Path) -> None:
    live, cached = run(folder), run(folder, source="cached")
    for mine, theirs in zip(live["seen"], cached["seen"], strict=True):
        assert theirs["alpha"] == pytest.approx(mine["alpha"], abs=2e-3)


def test_a_step_trains_on_the_weighted_means_of_the_domains(folder: Path) -> None:
    """One step of SGD on the loss as the paper writes it, done by hand."""
    made = doremi_runs.trainer(
        folder / "by-hand", batch=6, accumulation=4, steps=1, params={"reference_losses": "live"}
    )
    seen = doremi_runs.watch(made)
    made.train()
    rows, pool = made.engine.plan, doremi_runs.pool()
    domains = np.searchsorted(np.cumsum(list(doremi_runs.SIZES.values())), rows, side="right")
    start = doremi_runs.model()
    means = []
    for domain in range(3):
        losses = []
        for row in rows[domains == domain]:
            tokens = torch.tensor([pool[row]["input_ids"]])
            logits = start(input_ids=tokens).logits[0, :-1]
            losses.append(torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="none"))
        means.append(torch.cat(losses).mean())
    loss = sum(weight * mean for weight, mean in zip(seen[0]["used"], means, strict=True))
    loss.backward()
    (logged,) = [entry["loss"] for entry in made.state.log_history if "loss" in entry]
    assert logged == pytest.approx(loss.item(), abs=1e-5)
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in start.parameters()])
    scale = min(1.0, 1.0 / norm.item())  # the Trainer clips at 1
    for expected, trained in zip(start.parameters(), made.model.parameters(), strict=True):
        assert torch.allclose(expected - 0.5 * scale * expected.grad, trained, atol=1e-5)
