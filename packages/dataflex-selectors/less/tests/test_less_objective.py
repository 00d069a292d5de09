"""The loss whose gradients are measured: what is left out of it, and models that are trained with another one."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from less_cases import (
    VOCABULARY,
    Pad,
    pool_and_goals,
    reference_cosines,
    selector,
    tiny_qwen,
    warmed_up,
    with_lora,
)
from torch import nn
from unusual_cases import EXACT, LLAMA_SIZES, check, reference_of_batches, select

from dataflex.errors import ComponentError


def test_a_routers_loss_is_left_out_and_the_log_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    config = MixtralConfig(
        **LLAMA_SIZES,
        num_local_experts=4,
        output_router_logits=True,
        router_aux_loss_coef=0.5,
        initializer_range=0.2,
        experts_implementation="eager",  # the grouped product takes no fp64, in which the reference runs
    )
    model = with_lora(MixtralForCausalLM(config), target_modules=["q_proj", "v_proj"])
    optimizer = warmed_up(model)
    pool, goals = pool_and_goals()
    less = selector(pool, goals, optimizer)
    with caplog.at_level(logging.INFO, "dataflex"):
        found = less.select(model, 6, 3)
        less.select(model, 8, 3)
    assert caplog.text.count("the router's loss (router_aux_loss_coef: 0.5) is left out") == 1
    model.base_model.model.config.output_router_logits = False  # the reference then has the plain loss
    expected = reference_cosines(model, optimizer, pool, goals).max(axis=1)
    np.testing.assert_allclose(found.scores, expected, atol=EXACT, rtol=0)


def test_adaloras_own_term_is_left_out_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    from peft import AdaLoraConfig, get_peft_model

    torch.manual_seed(0)
    config = AdaLoraConfig(
        task_type="CAUSAL_LM", init_r=4, target_r=2, total_step=100, tinit=5, tfinal=5, target_modules=["q_proj"]
    )
    model = get_peft_model(tiny_qwen(), config)
    for name, value in model.named_parameters():
        if "lora_E" in name:
            nn.init.normal_(value, std=0.1)
    optimizer = warmed_up(model)
    pool, goals = pool_and_goals()
    with caplog.at_level(logging.INFO, "dataflex"):
        found = select(model, optimizer, pool, goals)
    assert "AdaLoRA's orthogonality term (orth_reg_weight: 0.5) is left out" in caplog.text
    batches = [[Pad(multiple=1)([dict(row)]) for row in rows] for rows in (pool, *goals.values())]
    expected = [reference_of_batches(model, optimizer, batches[0], goal) for goal in batches[1:]]
    np.testing.assert_allclose(found.scores, np.max(expected, axis=0), atol=EXACT, rtol=0)


@pytest.mark.parametrize("name", ["CpmAnt", "Moshi", "XLNet", "TrOCR", "Bart"])
def test_a_model_that_is_trained_with_a_loss_of_its_own_is_refused_by_name(name: str) -> None:
    import transformers

    torch.manual_seed(0)
    size = {"vocab_size": VOCABULARY, "max_position_embeddings": 64}
    layers = {**size, "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    decoder = {**size, "d_model": 32, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32}
    configs: dict[str, dict[str, Any]] = {
        "CpmAnt": {**layers, "dim_head": 16, "dim_ff": 32},
        "Moshi": {**layers, "head_dim": 16, "ffn_dim": 32},
        "XLNet": {"vocab_size": VOCABULARY, "d_model": 32, "n_layer": 1, "n_head": 2, "d_inner": 32},
        "TrOCR": decoder,
        "Bart": decoder,
    }
    kind = "XLNetLMHeadModel" if name == "XLNet" else f"{name}ForCausalLM"
    model = getattr(transformers, kind)(getattr(transformers, f"{name}Config")(**configs[name]))
    pool, goals = pool_and_goals()
    with pytest.raises(ComponentError, match=rf"{kind} computes a loss of its own.*component_name: random"):
        selector(pool, goals, None, preconditioner="sgd").select(model, 6, 3)


def test_prompt_tuning_is_refused_where_the_first_token_is_a_target_and_exact_where_it_is_not() -> None:
    from peft import PromptTuningConfig, get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(tiny_qwen(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    pool, goals = pool_and_goals()
    check(model, pool, goals)
    for row in pool:  # stage: pt
        row["labels"] = list(row["input_ids"])
    with pytest.raises(ComponentError, match=r"under PROMPT_TUNING the first token.*stage: pt"):
        selector(pool, goals, None, preconditioner="sgd").select(model, 6, 3)
