"""Methods that the base classes of PyPI dataflex 1.1.0 have, called as classes written for it call them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from doubles import IdleTrainer
from torch import nn
from transformers.modeling_outputs import CausalLMOutput

from dataflex.components.asking import Asking
from dataflex.train.selector.base_selector import Selector
from dataflex.train.weighter.base_weighter import Weighter


class OldSelector(Selector):
    """Takes the candidates of highest loss, and asks only for helper methods of 1.1.0's base class."""

    def __init__(self, dataset: Any, accelerator: Any, data_collator: Any, cache_dir: Any) -> None:
        super().__init__(dataset, accelerator, data_collator, cache_dir)
        self.forgotten = 0

    def _compute_losses(self, positions: Any, model: Any, step_id: int) -> list[float]:
        return [float(self.dataset[position]) for position in positions]

    def _on_candidate_pool_changed(self) -> None:
        self.forgotten += 1

    def select(self, model: Any, step_id: int, num_samples: int, **kwargs: Any) -> list[int]:
        rows = self.candidate_positions()
        scores = self._scores_for(rows, model, step_id)
        return sorted(rows, key=lambda row: -scores[rows.index(row)])[:num_samples]


class ForgetfulSelector(OldSelector):
    def __init__(self, dataset: Any) -> None:  # without super().__init__()
        self.dataset, self.forgotten = dataset, 0


def old_selector() -> OldSelector:
    return OldSelector([0.5, 3.0, 1.0, 2.0], None, None, "cache")


def test_an_old_selector_scores_and_chooses_from_the_whole_pool() -> None:
    assert old_selector().select(None, 1, 2) == [1, 3]
    assert ForgetfulSelector([1.0, 2.0]).select(None, 1, 1) == [1]


def test_an_old_selector_can_be_restricted_to_candidates() -> None:
    selector = old_selector()
    selector.set_candidate_pool([0, 2])
    selector.set_candidate_pool([0, 2])
    assert selector.select(None, 1, 2) == [2, 0] and selector.forgotten == 1
    pool = selector.get_candidate_pool()
    assert pool == [0, 2]
    pool.append(3)
    assert selector.candidate_positions() == [0, 2]
    selector.set_candidate_pool(None)
    assert selector.candidate_positions() == [0, 1, 2, 3] and selector.forgotten == 2


def test_an_old_selectors_scores_may_come_from_elsewhere() -> None:
    selector = old_selector()
    assert not selector.has_score_source()
    selector.set_score_source(lambda positions: [-float(row) for row in positions])
    assert selector.has_score_source() and selector.select(None, 1, 2) == [0, 1]
    selector.set_score_source(lambda positions: [1.0])
    with pytest.raises(ValueError, match="1 scores for 4 rows"):
        selector.select(None, 1, 2)


def test_a_class_without_losses_of_its_own_is_told_which_method_is_missing() -> None:
    class Bare(Selector):
        pass

    with pytest.raises(NotImplementedError, match=r"Bare must define _compute_losses\(\)"):
        Bare([1.0], None, None, "cache")._scores_for([0], nn.Identity(), 1)


def test_the_loss_of_a_sample_is_the_mean_over_its_targets() -> None:
    # Two tokens to choose from, one logit a and one 0: the loss of the first token is ln(1 + exp(-a)).
    logits = torch.zeros(2, 3, 2)
    logits[0, :, 0] = math.log(3.0)  # probabilities .75 and .25
    labels = torch.tensor([[-100, 0, 1], [-100, -100, -100]])
    losses = Weighter()._per_sample_loss_from_logits(logits, labels)
    # Divided by all positions in place of the targets, the first would be smaller by a third.
    assert losses.tolist() == pytest.approx([(math.log(4 / 3) + math.log(4)) / 2, 0.0])


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 4)

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> CausalLMOutput:
        logits = self.table(input_ids)
        loss: Any = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return CausalLMOutput(loss=loss, logits=logits)


@dataclass
class Accumulating:
    """As many of the ``TrainingArguments`` as a training step sees."""

    gradient_accumulation_steps: int = 2


class OldTrainer(IdleTrainer):
    """As much of a Trainer as a training step of 1.1.0 sees; accumulates over two micro-batches."""

    def __init__(self, model: Model) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        super().__init__(Accumulating(), optimizer=optimizer, current_gradient_accumulation_steps=2)

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = model(inputs["input_ids"], inputs.pop("labels"))
        return outputs.loss, outputs

    def compute_loss_context_manager(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def _prepare_inputs(self, inputs: Mapping[str, Any]) -> Any:
        return dict(inputs)


class DoublesTheFirst(Weighter):
    """Calls the training step of its base class, as 1.1.0's subclasses may."""

    def get_weighted_loss(self, losses: torch.Tensor, **facts: Any) -> torch.Tensor:
        weights = torch.ones_like(losses)
        weights[0] = 2.0
        return (weights * losses).sum() / len(losses)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return super().training_step(*args, **kwargs)


@pytest.mark.parametrize(("acts", "expected"), [(True, [2.0, 1.0]), (False, [1.0, 1.0])])
def test_the_training_step_of_the_base_class_weighs_and_accumulates(acts: bool, expected: list[float]) -> None:
    torch.manual_seed(0)
    model, tokens = Model(), torch.tensor([[0, 1, 2], [3, 2, 1]])
    weighter = DoublesTheFirst()
    loss = weighter.training_step(OldTrainer(model), model, {"input_ids": tokens, "labels": tokens.clone()}, None, acts)
    gradient, model.table.weight.grad = model.table.weight.grad.clone(), None
    logits = model.table(tokens)
    by_row = [nn.functional.cross_entropy(row[:-1], labels[1:]) for row, labels in zip(logits, tokens, strict=True)]
    wanted = sum(weight * one for weight, one in zip(expected, by_row, strict=True)) / 2 / 2  # rows, accumulation
    wanted.backward()
    torch.testing.assert_close(gradient, model.table.weight.grad)
    torch.testing.assert_close(loss, wanted.detach())


def test_what_the_base_class_has_is_no_training_step_of_ones_own() -> None:
    class Plain(Weighter):
        def get_weighted_loss(self, losses: torch.Tensor, **facts: Any) -> torch.Tensor:
            return losses.mean()

    owns = [Asking(one, Weighter, "").defines("training_step") for one in (DoublesTheFirst(), Plain(), object())]
    assert owns == [True, False, False]
