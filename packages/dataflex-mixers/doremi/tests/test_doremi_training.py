"""DoReMi through the real Trainer."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from dataflex.decisions import DecisionLog
from dataflex.errors import ComponentError, ConfigError

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


def token_losses(model: Any, rows: Any) -> list[torch.Tensor]:
    """Losses of all tokens of each domain, by hand: one row at a time."""
    pool = doremi_runs.pool()
    domains = np.searchsorted(np.cumsum(list(doremi_runs.SIZES.values())), rows, side="right")
    found: list[list[torch.Tensor]] = [[], [], []]
    for row, domain in zip(rows, domains, strict=True):
        tokens = torch.tensor([pool[row]["input_ids"]])
        logits = model(input_ids=tokens).logits[0, :-1]
        found[domain].append(torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="none"))
    return [torch.cat(losses) for losses in found]


def assert_trained_on(loss: torch.Tensor, start: Any, made: Any) -> None:
    """One step of SGD on a loss gives what was trained."""
    loss.backward()
    (logged,) = [entry["loss"] for entry in made.state.log_history if "loss" in entry]
    assert logged == pytest.approx(loss.item(), abs=1e-5)
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in start.parameters()])
    scale = min(1.0, 1.0 / norm.item())  # the Trainer clips at 1
    for expected, trained in zip(start.parameters(), made.model.parameters(), strict=True):
        assert torch.allclose(expected - 0.5 * scale * expected.grad, trained, atol=1e-5)


def test_a_step_trains_on_the_weighted_means_of_the_domains(folder: Path) -> None:
    """One step of SGD on the loss as the paper writes it, done by hand."""
    made = doremi_runs.trainer(
        folder / "by-hand", batch=6, accumulation=4, steps=1, params={"reference_losses": "live"}
    )
    seen = doremi_runs.watch(made)
    made.train()
    start = doremi_runs.model()
    means = [losses.mean() for losses in token_losses(start, made.engine.plan)]
    loss = sum(weight * mean for weight, mean in zip(seen[0]["used"], means, strict=True))
    assert_trained_on(loss, start, made)


def test_an_official_step_weighs_tokens_by_the_shares_that_are_sampled(folder: Path) -> None:
    """One step on the loss as the released code writes it: sum w loss / sum w, w = (1/3) / share."""
    shares = [0.6, 0.3, 0.1]
    made = doremi_runs.trainer(
        folder / "official",
        batch=6,
        accumulation=4,
        steps=1,
        keys={"init_mixture_proportions": shares},
        params={"reference_losses": "live", "normalizer": "official"},
    )
    made.train()
    start = doremi_runs.model()
    losses = token_losses(start, made.engine.plan)
    weights = [1 / 3 / share for share in shares]
    total = sum(weight * part.sum() for weight, part in zip(weights, losses, strict=True))
    loss = total / sum(weight * len(part) for weight, part in zip(weights, losses, strict=True))
    plain = torch.cat(losses).mean()
    assert abs(loss.item() - plain.item()) > 1e-3
    assert_trained_on(loss, start, made)


def online(folder: Path, name: str, **keys: Any) -> Any:
    return doremi_runs.trainer(
        folder / name,
        steps=10,
        keys={"init_mixture_proportions": [0.6, 0.3, 0.1]},
        params={"reference_losses": "live", "mode": "online", "online_decay": 0.5, "eta": 3.0},
        **keys,
    )


def test_an_online_run_samples_by_the_moving_average_of_the_weights_and_goes_on_with_it(folder: Path) -> None:
    whole = online(folder, "online")
    seen = doremi_runs.watch(whole)
    whole.train()
    moving, expected = np.full(3, 1 / 3), {}
    for step, entry in enumerate(seen):
        if step % 4 == 0:
            expected[step] = moving
        moving = 0.5 * moving + 0.5 * np.array(entry["alpha"])
    decided = list(DecisionLog(folder / "online"))[:-1]  # the last one closes the run
    assert [record.step for record in decided] == [0, 4, 8]
    for record in decided:
        assert record.metrics["proportions"] == pytest.approx(expected[record.step].tolist(), abs=1e-12)
        drawn = np.array(record.metrics["samples"])
        assert np.abs(drawn - expected[record.step] * drawn.sum()).max() <= 1
    assert np.abs(expected[8] - expected[4]).max() > 0.02 and np.abs(expected[4] - 1 / 3).max() > 0.02

    checkpoints = {"save_strategy": "steps", "save_steps": 6}
    cut = online(folder, "cut", **checkpoints)
    cut.train()
    shutil.rmtree(folder / "cut" / "checkpoint-10", ignore_errors=True)
    again = online(folder, "cut", **checkpoints)
    again.train(resume_from_checkpoint=str(folder / "cut" / "checkpoint-6"))
    there = list(DecisionLog(folder / "cut"))[:-1]
    assert [record.metrics["proportions"] for record in there] == [record.metrics["proportions"] for record in decided]
    assert again.component.dro.moving.tolist() == whole.component.dro.moving.tolist()


def test_a_run_does_not_go_on_against_another_reference(folder: Path) -> None:
    doremi_runs.model(seed=6).save_pretrained(folder / "moving")
    keys = {"steps": 4, "params": {"reference": str(folder / "moving")}, "save_strategy": "steps", "save_steps": 2}
    doremi_runs.trainer(folder / "resumed", **keys).train()
    checkpoint = str(folder / "resumed" / "checkpoint-2")
    doremi_runs.trainer(folder / "resumed", **keys).train(resume_from_checkpoint=checkpoint)
    doremi_runs.model(seed=7).save_pretrained(folder / "moving")
    with pytest.raises(ConfigError, match=r"the reference of mixer 'doremi' changed after the checkpoint was written"):
        doremi_runs.trainer(folder / "resumed", **keys).train(resume_from_checkpoint=checkpoint)


def test_a_reference_with_fewer_tokens_is_refused_before_training(folder: Path) -> None:
    small = doremi_runs.model()
    small.resize_token_embeddings(doremi_runs.VOCABULARY - 1)
    small.save_pretrained(folder / "few")
    made = doremi_runs.trainer(folder / "refused", params={"reference": str(folder / "few")})
    with pytest.raises(ConfigError, match=r"smaller vocabulary .*: 31 tokens, and 32 are needed \(the run has no tok"):
        made.train()


def test_a_run_whose_loss_is_not_finite_stops_and_names_the_domain(folder: Path) -> None:
    start = doremi_runs.model()
    with torch.no_grad():
        start.model.embed_tokens.weight[31] = torch.nan
    sound = [{"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}] * 8
    ill = [{"input_ids": [1, 31, 3], "labels": [-100, 31, 3]}] * 8
    made = doremi_runs.trainer(
        folder / "spoilt",
        steps=2,
        domains={"sound": 8, "ill": 8},
        rows=sound + ill,
        started=start,
        params={"reference_losses": "live"},
    )
    with pytest.raises(ComponentError, match=r"the training loss of ill is not finite at step 1"):
        made.train()
    assert not (folder / "spoilt" / "weights.json").exists()


class StopAt(TrainerCallback):
    """Ends training early, as early stopping does."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step == 6


def test_a_run_that_ends_early_leaves_the_average_over_the_steps_it_made(folder: Path) -> None:
    made = doremi_runs.trainer(folder / "early")
    seen = doremi_runs.watch(made)
    made.add_callback(StopAt())
    made.train()
    average = np.mean([step["alpha"] for step in seen], axis=0)
    found = json.loads((folder / "early" / "weights.json").read_text())
    assert found["steps"] == len(seen) == 6 < doremi_runs.STEPS
    assert np.allclose(found["average"], average, atol=1e-12)
    closing = json.loads((folder / "early" / "decisions.jsonl").read_text().splitlines()[-1])
    assert (closing["step"], closing["stage"]) == (6, 2)  # boundaries at 0 and 4
    assert np.allclose(closing["metrics"]["alpha_average"], average, atol=1e-12)
    assert sum(closing["metrics"]["samples"]) == 2 * 8  # of the two steps since the last boundary
