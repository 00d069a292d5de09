from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from dataflex.scoring.quiet import evaluating, quiet


def _model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))


def test_the_train_flags_come_back_when_scoring_fails() -> None:
    model = _model()
    with pytest.raises(ZeroDivisionError), evaluating(model):
        assert not any(module.training for module in model.modules())
        raise ZeroDivisionError
    assert all(module.training for module in model.modules())


def test_scoring_does_not_call_a_train_method_that_merges_weights() -> None:
    class Merging(nn.Dropout):
        def train(self, mode: bool = True) -> nn.Module:
            raise AssertionError("train() was called")

    model = nn.Sequential(Merging())
    with evaluating(model):
        assert not model[0].training
    assert model[0].training


class Checkpointing(nn.Module):
    """A layer that checkpoints, and drops out by its own hand, as OPT's does."""

    gradient_checkpointing = True

    def __init__(self) -> None:
        super().__init__()
        self.dropout = 0.5
        self.inner = nn.Dropout(0.5)
        self.was_training = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.was_training = self.training
        return self.inner(functional.dropout(x, self.dropout, self.training))


def test_a_layer_that_checkpoints_stays_in_train_mode_without_dropout() -> None:
    layer, x = Checkpointing().train(), torch.ones(50)
    with quiet(layer, keep_checkpointing=True):
        assert torch.equal(layer(x), x)
        assert layer.was_training and not layer.inner.training
    assert layer.training and layer.inner.training and layer.dropout == 0.5
    with quiet(layer):
        assert torch.equal(layer(x), x) and not layer.was_training


@dataclass
class SharedConfiguration:
    """As a model's, of which layers keep no copy."""

    hidden_dropout: float
    hidden_size: int


class ByConfiguration(Checkpointing):
    """As a model whose layers read the probability from a configuration they share."""

    def __init__(self, config: SharedConfiguration) -> None:
        super().__init__()
        self.dropout, self.config = 0.0, config

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(super().forward(x), self.config.hidden_dropout, self.training)


def test_dropout_of_a_shared_configuration_is_off_too_and_comes_back() -> None:
    config = SharedConfiguration(hidden_dropout=0.5, hidden_size=4)
    model, x = nn.Sequential(ByConfiguration(config), ByConfiguration(config)).train(), torch.ones(50)
    with quiet(model, keep_checkpointing=True):
        assert torch.equal(model(x), x) and model[0].was_training
    assert vars(config) == {"hidden_dropout": 0.5, "hidden_size": 4}


def test_a_checkpointing_layer_of_transformers_checkpoints_and_computes_in_eval_mode() -> None:
    from transformers.modeling_layers import GradientCheckpointingLayer

    class Layer(GradientCheckpointingLayer):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.dropout(x, 0.5, self.training)  # a constant, known to nobody

    layer, x, calls = Layer().train(), torch.ones(50), []
    layer.gradient_checkpointing = True
    layer._gradient_checkpointing_func = lambda function, *args: (calls.append(1), function(*args))[1]
    with quiet(layer, keep_checkpointing=True):
        assert torch.equal(layer(x), x) and calls == [1]
        assert layer.training
    assert "forward" not in vars(layer) and layer.training
    assert not torch.equal(layer(x), x)


class Rotary(nn.Module):
    """As RoPE of type dynamic: a long batch leaves its frequencies behind."""

    def __init__(self) -> None:
        super().__init__()
        self.rope_type, self.original_max_seq_len, self.max_seq_len_cached = "dynamic", 4, 4
        self.register_buffer("inv_freq", torch.ones(2), persistent=False)
        self.register_buffer("original_inv_freq", torch.ones(2), persistent=False)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, length: int) -> torch.Tensor:
        self.calls += 1
        if length > self.max_seq_len_cached:
            self.register_buffer("inv_freq", torch.ones(2) / length, persistent=False)
            self.max_seq_len_cached = length
            self.extra = length
        return self.inv_freq


def test_frequencies_are_fresh_for_every_batch_and_buffers_are_put_back() -> None:
    model = Rotary()
    model(8)  # training leaves this behind
    before = model.inv_freq
    with quiet(model):
        assert model(3).tolist() == [1, 1]
        assert model(10).tolist() == pytest.approx([0.1, 0.1])
        assert model(6).tolist() == pytest.approx([1 / 6, 1 / 6])
    assert model.inv_freq is before and model.calls.item() == 1
    assert (model.max_seq_len_cached, model.extra) == (8, 8) and "forward" not in vars(model)


def test_the_forward_below_the_wrapper_of_mixed_precision_is_called_meanwhile() -> None:
    model: Any = _model()
    bare, wrapped = (lambda x: x), (lambda x: x + 1)
    model.forward, model._original_forward = wrapped, bare
    with quiet(model):
        assert model(1) == 1
    assert model(1) == 2
