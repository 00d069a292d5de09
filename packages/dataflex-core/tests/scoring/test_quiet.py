from __future__ import annotations

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


def test_the_forward_below_the_wrapper_of_mixed_precision_is_called_meanwhile() -> None:
    model: Any = _model()
    bare, wrapped = (lambda x: x), (lambda x: x + 1)
    model.forward, model._original_forward = wrapped, bare
    with quiet(model):
        assert model(1) == 1
    assert model(1) == 2
