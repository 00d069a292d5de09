"""dynamic_moe in training: counts as a plain loop makes them, whatever batches and ranks; exact resume; refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import moe_runs as runs
import numpy as np
import pytest
import torch
from gloo import run_on_two_ranks
from transformers import Qwen2Config, Qwen2ForCausalLM

from dataflex import ComponentError


def loads(layer: int) -> Any:
    """Tokens that each expert is sent by each domain, row by row, without padding; shape [domains, experts]."""
    model = runs.model().eval()
    found, begin = np.zeros((len(runs.SIZES), 4)), 0
    for place, count in enumerate(runs.SIZES.values()):
        for row in runs.POOL[begin : begin + count]:
            with torch.no_grad():
                logits = model(torch.tensor([row["input_ids"]]), output_router_logits=True).router_logits[layer]
            for token in logits:
                found[place, token.topk(2).indices.numpy()] += 1
        begin += count
    return found


def expected(layers: list[int], shares: list[float]) -> list[float]:
    """The proportions after one boundary, by plain loops."""
    apart = np.zeros(len(shares))
    for layer in layers:
        counts = loads(layer)
        own = counts / counts.sum(axis=1, keepdims=True)
        apart += [np.mean([np.sqrt(((one - other) ** 2).sum()) for other in own]) for one in own]
    weights = np.array(shares) * np.exp(10 * apart / len(layers))
    return (0.95 * weights / weights.sum() + 0.05 / len(shares)).tolist()


@pytest.mark.parametrize(("layer", "layers"), [("last", [-1]), ("all", [0, 1])])
def test_proportions_follow_the_experts_of_every_token_but_padding(
    tmp_path: Path, layer: str, layers: list[int]
) -> None:
    runs.trained(tmp_path, {"layer": layer}, learning_rate=0.0)
    first, second, _ = runs.proportions(tmp_path)
    assert first == pytest.approx(expected(layers, runs.FIRST), abs=1e-9)
    assert second == pytest.approx(expected(layers, first), abs=1e-9)


def test_neither_batches_nor_ranks_change_a_count(tmp_path: Path) -> None:
    runs.trained(tmp_path / "one", {"layer": "all"}, learning_rate=0.0)
    runs.trained(tmp_path / "small", {"layer": "all", "token_budget": 8}, learning_rate=0.0)
    assert runs.proportions(tmp_path / "small") == runs.proportions(tmp_path / "one")
    run_on_two_ranks(runs.rank_trains, tmp_path)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found == runs.proportions(tmp_path / "one")


def test_a_resumed_run_decides_and_trains_the_same(tmp_path: Path) -> None:
    params = {"max_samples": 3}
    whole = runs.trained(tmp_path / "whole", params)
    saves = {"save_strategy": "steps", "save_steps": 4}
    stopped = runs.trainer(tmp_path / "cut", params, **saves)
    stopped.add_callback(runs.StopAt(4))
    stopped.train()
    resumed = runs.trainer(tmp_path / "cut", params, **saves)
    resumed.train(resume_from_checkpoint=str(tmp_path / "cut" / "out" / "checkpoint-4"))
    assert runs.proportions(tmp_path / "cut") == runs.proportions(tmp_path / "whole")
    assert all(map(torch.equal, resumed.model.parameters(), whole.model.parameters()))


def test_a_model_without_experts_is_refused(tmp_path: Path) -> None:
    config = Qwen2Config(
        vocab_size=40, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=32,
    )  # fmt: skip
    with pytest.raises(ComponentError, match="Qwen2ForCausalLM returns no router_logits"):
        runs.trained(tmp_path, model=Qwen2ForCausalLM(config))
