"""Adapters, full fine-tuning and models that a batched backward cannot take apart."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from less_cases import (
    backward,
    pool_and_goals,
    reference_cosines,
    selector,
    tiny_qwen,
    warmed_up,
    with_an_adapter_used_twice,
    with_lora,
)
from torch import nn
from unusual_cases import on_a_quantised_base

from dataflex.errors import ComponentError


def check(
    model: nn.Module, *, one_by_one: bool, names: Any = None, reference: nn.Module | None = None, **params: Any
) -> Any:
    """Select with a trained model and compare with the reference."""
    optimizer = warmed_up(model)
    rows, goals = pool_and_goals()
    selection = selector(rows, goals, optimizer, **params).select(model, 6, 5)
    assert selection.metrics["one_by_one"] == one_by_one
    expected = reference_cosines(reference or model, optimizer, rows, goals, names=names).max(axis=1)
    np.testing.assert_allclose(selection.scores, expected, atol=1e-4, rtol=0)
    return selection


def test_rank_stabilised_lora_is_measured_in_batches() -> None:
    check(with_lora(tiny_qwen(), use_rslora=True), one_by_one=False)


def test_a_trained_head_is_measured_in_batches() -> None:
    check(with_lora(tiny_qwen(), modules_to_save=["lm_head"]), one_by_one=False)


def test_trained_embeddings_are_measured_one_by_one_and_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "dataflex"):
        check(with_lora(tiny_qwen(), modules_to_save=["embed_tokens"]), one_by_one=True)
    assert "one sample at a time" in caplog.text and "embed_tokens" in caplog.text


def test_dora_is_measured_one_by_one_and_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "dataflex"):
        check(with_lora(tiny_qwen(), use_dora=True), one_by_one=True)
    assert "lora_magnitude_vector" in caplog.text


@pytest.mark.parametrize("tied", [False, True])
def test_full_fine_tuning_is_measured_one_by_one(tied: bool) -> None:
    selection = check(tiny_qwen(tied=tied), one_by_one=True)
    assert selection.metrics["excluded_parameters"] == 0


@pytest.mark.parametrize("tied", [False, True])
def test_full_fine_tuning_of_linear_layers_is_measured_in_batches_biases_included(tied: bool) -> None:
    model = tiny_qwen(tied=tied)
    linear = {
        f"{layer}.{own}"
        for layer, module in model.named_modules()
        if isinstance(module, nn.Linear) and not (tied and layer == "lm_head")
        for own in ("weight", "bias")
        if getattr(module, own) is not None
    }
    selection = check(model, one_by_one=False, parameters="linear", names=linear)
    norms_and_embedding = len(list(model.parameters())) - len(linear)
    assert selection.metrics["excluded_parameters"] == norms_and_embedding > 5


def test_full_fine_tuning_through_a_projection_needs_no_room_for_whole_directions() -> None:
    model = tiny_qwen()
    optimizer = warmed_up(model)
    rows, goals = pool_and_goals()
    tight = {"parameters": "linear", "direction_memory_gb": 1e-4}
    with pytest.raises(Exception, match=r"validation directions take 0\.0 GB .*projection: sjlt"):
        selector(rows, goals, optimizer, **tight).select(model, 6, 5)
    projected = selector(rows, goals, optimizer, projection="sjlt", proj_dim=4096, **tight).select(model, 6, 5)
    exact = selector(rows, goals, optimizer, parameters="linear").select(model, 6, 5)
    assert np.abs(projected.scores - exact.scores).max() < 3 / 4096**0.5


def test_adapters_on_a_quantised_base_are_measured_in_batches() -> None:
    check(on_a_quantised_base(), one_by_one=False)


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_stays_on_and_changes_no_score(reentrant: bool) -> None:
    model = with_lora(tiny_qwen())
    optimizer = warmed_up(model)
    rows, goals = pool_and_goals()
    usual = selector(rows, goals, optimizer).select(model, 6, 5).scores
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    calls = []
    attention = model.base_model.model.model.layers[0].self_attn
    attention.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    found = selector(rows, goals, optimizer).select(model, 6, 5)
    np.testing.assert_allclose(found.scores, usual, atol=1e-6, rtol=0)
    batches = len(calls) // 2
    assert calls == ([False, True] if reentrant else [True, True]) * batches  # each layer ran twice
    assert found.metrics["one_by_one"] == 0


def test_neftune_adds_no_noise_to_scores() -> None:
    model = with_lora(tiny_qwen())
    optimizer = warmed_up(model)
    rows, goals = pool_and_goals()
    usual = selector(rows, goals, optimizer).select(model, 6, 5).scores
    embedding = model.get_input_embeddings()

    def noise(module: nn.Module, _: Any, output: torch.Tensor) -> torch.Tensor:
        return output + torch.rand_like(output) if module.training else output  # as transformers' own hook

    embedding.register_forward_hook(noise)
    np.testing.assert_allclose(selector(rows, goals, optimizer).select(model, 6, 5).scores, usual, atol=1e-6)


def _adapted_layer(model: nn.Module) -> Any:
    return model.base_model.model.model.layers[0].mlp.down_proj


def test_a_fused_adapter_that_goes_around_its_layers_is_measured_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    model = with_lora(tiny_qwen())
    layer = _adapted_layer(model)
    first, second = layer.lora_A["default"], layer.lora_B["default"]

    def fused(x: torch.Tensor) -> torch.Tensor:
        return layer.base_layer(x) + x @ first.weight.T @ second.weight.T * layer.scaling["default"]

    layer.forward = fused
    check_model_with_instance_forwards(model, layer, caplog, "not through its own forward")


def check_model_with_instance_forwards(model: nn.Module, layer: Any, caplog: Any, reason: str) -> None:
    optimizer = warmed_up(model)
    rows, goals = pool_and_goals()
    with caplog.at_level(logging.WARNING, "dataflex"):
        selection = selector(rows, goals, optimizer).select(model, 6, 5)
    assert selection.metrics["one_by_one"] == 1 and reason in caplog.text
    state = layer.__dict__.pop("forward")  # the reference copies the model; what the layer computes is the same
    dropout, layer.lora_dropout["default"] = layer.lora_dropout["default"], nn.Identity()
    expected = reference_cosines(model, optimizer, rows, goals).max(axis=1)
    layer.forward, layer.lora_dropout["default"] = state, dropout
    np.testing.assert_allclose(selection.scores, expected, atol=1e-4, rtol=0)


def test_an_adapter_without_an_axis_of_samples_is_measured_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    model = with_lora(tiny_qwen())
    layer = _adapted_layer(model)
    first, second = layer.lora_A["default"], layer.lora_B["default"]

    def routed(x: torch.Tensor) -> torch.Tensor:  # as experts see their tokens
        flat = x.flatten(0, 1)
        return layer.base_layer(x) + (second(first(flat)) * layer.scaling["default"]).view(*x.shape[:-1], -1)

    layer.forward = routed
    check_model_with_instance_forwards(model, layer, caplog, "no axis of samples")


def test_an_adapter_used_twice_is_measured_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "dataflex"):
        check(with_an_adapter_used_twice(), one_by_one=True)
    assert "2 times" in caplog.text


def test_what_an_optimizer_does_inside_backward_it_does_not_do_while_gradients_are_measured() -> None:
    model, calls = with_lora(tiny_qwen(), modules_to_save=["embed_tokens"]), []
    optimizer = warmed_up(model)
    trainable = [value for value in model.parameters() if value.requires_grad]
    handles = [value.register_post_accumulate_grad_hook(calls.append) for value in trainable]
    rows, goals = pool_and_goals()
    found = selector(rows, goals, optimizer).select(model, 6, 5)
    assert calls == [] and found.metrics["one_by_one"] == 1
    expected = reference_cosines(model, optimizer, rows, goals).max(axis=1)
    np.testing.assert_allclose(found.scores, expected, atol=1e-4, rtol=0)
    backward(model, rows[:1])
    assert {id(value) for value in calls} == {id(value) for value in trainable}  # they are back
    for handle in handles:
        handle.remove()
    calls.clear()
    backward(model, rows[:1])
    assert calls == []  # and can be removed by whoever put them there


def test_moments_are_asked_for_only_where_they_are_used() -> None:
    model = with_lora(tiny_qwen())
    rows, goals = pool_and_goals()
    sgd = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], lr=0.1)
    with pytest.raises(ComponentError, match=r"\(SGD\) holds no Adam moments .*not stepped.*preconditioner: sgd"):
        selector(rows, goals, sgd).select(model, 6, 5)
    adam = torch.optim.AdamW(sgd.param_groups[0]["params"])
    with pytest.raises(ComponentError, match="has not stepped yet"):
        selector(rows, goals, adam).select(model, 6, 5)
    found = selector(rows, goals, sgd, preconditioner="sgd").select(model, 6, 5).scores
    expected = reference_cosines(model, None, rows, goals, "sgd").max(axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("other", [{"momentum_buffer": 0}, {"state1": 0, "state2": 0}, {"exp_avg": torch.zeros(2)}])
def test_moments_of_another_kind_are_not_taken_for_zeros(other: dict[str, Any]) -> None:
    model = with_lora(tiny_qwen())
    optimizer = warmed_up(model)
    optimizer.state[next(value for value in model.parameters() if value.requires_grad)] = other
    rows, goals = pool_and_goals()
    with pytest.raises(ComponentError, match=r"keeps .*of another kind or shape for .*lora_A"):
        selector(rows, goals, optimizer).select(model, 6, 5)


def test_moments_of_another_model_are_refused() -> None:
    model, other = with_lora(tiny_qwen()), with_lora(tiny_qwen())
    rows, goals = pool_and_goals()
    with pytest.raises(ComponentError, match=r"does not step .*lora_A.*shards or copies.*DeepSpeed's ZeRO-3"):
        selector(rows, goals, warmed_up(other)).select(model, 6, 5)


def test_a_frozen_model_has_nothing_to_measure() -> None:
    model = tiny_qwen()
    optimizer = warmed_up(model)
    model.requires_grad_(False)
    rows, goals = pool_and_goals()
    with pytest.raises(ComponentError, match="no trainable parameter"):
        selector(rows, goals, optimizer).select(model, 6, 5)
