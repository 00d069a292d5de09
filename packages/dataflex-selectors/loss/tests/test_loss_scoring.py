from __future__ import annotations

import copy
import logging
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gloo import run_on_two_ranks
from loss_cases import (
    Bigram,
    Pad,
    out_of_memory,
    ragged_pool,
    reference_losses,
    select_on_a_rank,
    selector,
    tiny_qwen,
    two_token_pool,
)
from torch import nn
from transformers.modeling_outputs import CausalLMOutput

from dataflex.errors import ComponentError


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("budget", [1, 40, 200, 16384])
def test_scores_are_the_losses_of_the_rows_alone(budget: int, side: str, lora: bool) -> None:
    model, rows = tiny_qwen(lora=lora), ragged_pool()
    chosen = selector(rows, collator=Pad(side), token_budget=budget).select(model, 3, 4)
    np.testing.assert_allclose(chosen.scores, reference_losses(model, rows), atol=1e-5, rtol=0)


def test_left_padding_does_not_shift_the_positions_of_a_model_that_learned_them() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT2LMHeadModel(
            GPT2Config(vocab_size=200, n_positions=128, n_embd=32, n_layer=2, n_head=4, initializer_range=0.2)
        )
    rows = ragged_pool()
    chosen = selector(rows, collator=Pad("left")).select(model, 3, 4)
    np.testing.assert_allclose(chosen.scores, reference_losses(model, rows), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_with_rope_that_scales_with_the_longest_row_scores_are_the_losses_of_the_rows_alone(kind: str) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM

    sizes: dict[str, Any] = {
        "vocab_size": 200,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "initializer_range": 0.3,
        "pad_token_id": 0,
    }
    rope: dict[str, Any] = {"rope_type": kind, "rope_theta": 10000.0}
    model: nn.Module
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "dynamic":
            config = LlamaConfig(**sizes, max_position_embeddings=16, rope_parameters=rope | {"factor": 4.0})
            model = LlamaForCausalLM(config)
        else:
            rope |= {"short_factor": [1.0] * 4, "long_factor": [4.0, 5.0, 6.0, 7.0]}
            rope |= {"original_max_position_embeddings": 16}
            beyond = {"max_position_embeddings": 128, "original_max_position_embeddings": 16}
            model = Phi3ForCausalLM(Phi3Config(**sizes, **beyond, rope_parameters=rope))
    rows = ragged_pool()
    assert len({len(row["input_ids"]) > 16 for row in rows}) == 2  # on both sides
    before = [buffer.clone() for buffer in model.buffers()]
    chosen = selector(rows).select(model, 3, 4)
    assert all(map(torch.equal, model.buffers(), before))
    alone = [float(reference_losses(copy.deepcopy(model), [row])[0]) for row in rows]
    np.testing.assert_allclose(chosen.scores, alone, atol=1e-5, rtol=0)


def test_a_model_that_is_trained_with_a_loss_of_its_own_is_refused_by_name() -> None:
    from transformers import XLNetConfig, XLNetLMHeadModel

    model = XLNetLMHeadModel(XLNetConfig(vocab_size=200, d_model=32, n_layer=1, n_head=2, d_inner=32))
    with pytest.raises(ComponentError, match="XLNetLMHeadModel computes a loss of its own"):
        selector(ragged_pool()).select(model, 3, 4)


def test_scores_follow_the_rows_when_the_pool_is_reordered() -> None:
    model, rows = tiny_qwen(), ragged_pool()
    order = np.random.default_rng(0).permutation(len(rows))
    before = selector(rows, token_budget=100).select(model, 3, 4).scores
    after = selector([rows[row] for row in order], token_budget=100).select(model, 3, 4).scores
    assert before is not None
    np.testing.assert_allclose(after, before[order], atol=1e-5, rtol=0)


def test_padding_that_carries_labels_is_no_target() -> None:
    model, rows = tiny_qwen(), ragged_pool()
    chosen = selector(rows, collator=Pad(label=0)).select(model, 3, 4)  # ignore_pad_token_for_loss: false
    np.testing.assert_allclose(chosen.scores, reference_losses(model, rows), atol=1e-5, rtol=0)


def _hooks(model: nn.Module) -> list[tuple[Any, ...]]:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")
    return [tuple(dict(getattr(module, kind)) for kind in kinds) for module in model.modules()]


@pytest.mark.parametrize("lora", [False, True])
def test_scoring_leaves_no_trace(lora: bool) -> None:
    model = tiny_qwen(lora=lora)
    for place, module in enumerate(model.modules()):
        module.training = place % 3 != 0  # a mix, as with frozen parts
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, 0.5)
    model.register_forward_hook(lambda *_: None)
    weights = copy.deepcopy(model.state_dict())
    flags = [module.training for module in model.modules()]
    hooks, attributes = _hooks(model), set(vars(model))
    states = (torch.get_rng_state(), np.random.get_state(), random.getstate())

    selector(ragged_pool(), token_budget=100, max_candidates=8).select(model, 3, 4)

    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is not None and bool((weight.grad == 0.5).all()) for weight in model.parameters())
    assert [module.training for module in model.modules()] == flags
    assert _hooks(model) == hooks
    assert set(vars(model)) == attributes
    assert torch.equal(torch.get_rng_state(), states[0])
    assert all(np.array_equal(now, then) for now, then in zip(np.random.get_state(), states[1], strict=True))
    assert random.getstate() == states[2]


class Recording(nn.Module):
    """Remembers what it was called with."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.calls: list[dict[str, Any]] = []

    def forward(self, input_ids: torch.Tensor, attention_mask: Any = None, use_cache: bool = True, **rest: Any) -> Any:
        self.calls.append({"use_cache": use_cache, "grad": torch.is_grad_enabled(), **rest})
        return CausalLMOutput(logits=torch.zeros(*input_ids.shape, 200))


def test_the_model_gets_no_labels_no_cache_and_no_gradient() -> None:
    model = Recording()
    selector(ragged_pool()).select(model, 3, 4)
    assert model.calls == [{"use_cache": False, "grad": False}]


@pytest.mark.usefixtures("fresh_accelerate")
def test_mixed_precision_logits_stay_in_half_precision_and_the_wrapper_is_put_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from accelerate import Accelerator

    from dataflex.scoring import losses as scoring

    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    plain, model = tiny_qwen(), accelerator.prepare_model(tiny_qwen())
    wrapped, seen = model.forward, []

    def spy(logits: torch.Tensor, labels: torch.Tensor) -> Any:
        seen.append(logits.dtype)
        return real(logits, labels)

    real = scoring.sample_losses
    monkeypatch.setattr(scoring, "sample_losses", spy)
    rows = ragged_pool()
    chosen = selector(rows, accelerator=accelerator).select(model, 3, 4)
    assert set(seen) == {torch.bfloat16}
    assert model.forward == wrapped
    np.testing.assert_allclose(chosen.scores, reference_losses(plain, rows), rtol=0.03)


def test_batches_without_labels_have_no_loss() -> None:
    def collator(features: Any) -> dict[str, torch.Tensor]:
        batch = Pad()(features)
        del batch["labels"]
        return batch

    with pytest.raises(ComponentError, match=r"no labels \(they hold: input_ids, attention_mask\)"):
        selector(ragged_pool(), collator=collator).select(tiny_qwen(), 3, 4)


def test_running_out_of_memory_names_the_parameter_to_lower() -> None:
    model = tiny_qwen()
    model.forward = out_of_memory  # type: ignore[method-assign]
    with pytest.raises(ComponentError, match=r"batch of 1 x 64 tokens\. Lower component_params\.token_budget"):
        selector(ragged_pool(), token_budget=64).select(model, 3, 4)


def test_a_row_with_nan_logits_is_counted_and_chosen_last(caplog: pytest.LogCaptureFixture) -> None:
    rows, model = two_token_pool([1, 4, 2, 3])
    with torch.no_grad():
        model.table[4] = torch.nan
    with caplog.at_level(logging.WARNING, "dataflex"):
        chosen = selector(rows, mode="top").select(model, 3, 3)
    assert sorted(chosen.rows) == [0, 2, 3]
    assert chosen.metrics["non_finite"] == 1
    assert chosen.metrics["scored"] == 4
    assert "1 samples have a NaN or infinite loss" in caplog.text
    drawn = [selector(rows, seed=seed).select(model, 3, 3).rows for seed in range(30)]
    assert all(1 not in list(row) for row in drawn)
    assert 1 not in selector(rows, replacement=True).select(model, 3, 500).rows


def test_a_model_that_has_diverged_stops_the_run() -> None:
    rows, model = two_token_pool([1, 2])
    with torch.no_grad():
        model.table[:] = torch.nan
    with pytest.raises(ComponentError, match=r"none of the 2 candidates at step 3 has a finite loss \(2 are NaN"):
        selector(rows).select(model, 3, 1)


def test_a_row_without_targets_has_no_loss_and_is_chosen_last() -> None:
    rows, model = two_token_pool([1, 4, 2, 3])
    rows[3]["labels"] = [-100, -100]
    chosen = selector(rows, mode="top").select(model, 3, 3)
    assert sorted(chosen.rows) == [0, 1, 2]
    assert (chosen.metrics["without_targets"], chosen.metrics["non_finite"]) == (1, 0)
    assert all(3 not in list(selector(rows, seed=seed).select(model, 3, 3).rows) for seed in range(30))


def test_a_long_easy_answer_does_not_outrank_a_short_hard_one() -> None:
    # 30 tokens at p = 0.8: sum 6.69, mean 0.22. Two tokens at p = 0.2: sum 3.22, mean 1.61.
    model = Bigram([[0.8, 0.2], [0.2, 0.8]])
    rows = [
        {"input_ids": [0] * 31, "attention_mask": [1] * 31, "labels": [-100] + [0] * 30},
        {"input_ids": [0, 1, 0], "attention_mask": [1] * 3, "labels": [-100, 1, 0]},
    ]
    chosen = selector(rows, mode="top").select(model, 3, 1)
    assert list(chosen.rows) == [1]
    assert chosen.scores == pytest.approx([0.2231436, 1.6094379], abs=1e-6)


def test_two_ranks_choose_what_one_chooses_and_both_hear_of_a_failure(tmp_path: Path) -> None:
    run_on_two_ranks(select_on_a_rank, tmp_path)
    alone = selector(ragged_pool(), token_budget=64).select(tiny_qwen(), 6, 5)
    for rank in range(2):
        np.testing.assert_array_equal(np.load(tmp_path / f"rows{rank}.npy", allow_pickle=False), alone.rows)
        scores = np.load(tmp_path / f"scores{rank}.npy", allow_pickle=False)
        np.testing.assert_allclose(scores, alone.scores, atol=1e-6, rtol=0)
    heard = [(tmp_path / f"error{rank}.txt").read_text() for rank in range(2)]
    assert all(text.startswith("ComponentError") and "token_budget" in text for text in heard)
