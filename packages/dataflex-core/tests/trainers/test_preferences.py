"""``context.preferences``: the loss of dpo, rm and kto as LlamaFactory's own Trainers compute it."""

from __future__ import annotations

import copy
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gloo import run_on_two_ranks

from dataflex.errors import ComponentError
from dataflex.testing import make_context
from dataflex.trainers.objectives import objective_of

sys.path.insert(0, str(Path(__file__).parent))  # preference_cases, in spawned processes too
from preference_cases import LENGTHS, collate, context_of, pairs, score_on_a_rank, stock, trainer_of

ALL = range(len(LENGTHS))
DPO: list[dict[str, Any]] = [
    {},
    {"lora": True},  # the reference is the model with its adapters off
    {"pref_beta": 0.4, "pref_ftx": 0.3, "dpo_label_smoothing": 0.2},
    {"ld_alpha": 0.5},
    {"pref_loss": "ipo"},
    {"pref_loss": "orpo"},
    {"pref_loss": "simpo", "simpo_gamma": 0.7},
]


@pytest.fixture(autouse=True)
def _one_process_state() -> Any:
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("settings", DPO)
def test_a_pair_has_the_loss_and_margin_of_a_batch_of_it_alone(tmp_path: Path, settings: dict[str, Any]) -> None:
    trainer = trainer_of("dpo", tmp_path, **settings)
    found = context_of(trainer, "dpo").preferences(trainer.model, ALL)
    alone = [stock(trainer, "dpo", [row]) for row in pairs()]
    close(found.losses, [loss for loss, _ in alone])
    close(found.margins, [margin for _, margin in alone])
    whole = stock(trainer, "dpo", pairs())
    close([found.losses.mean(), found.margins.mean()], whole)
    assert found.losses.std() > 1e-3


def test_a_reward_model_has_the_loss_and_margin_of_each_pair_alone(tmp_path: Path) -> None:
    trainer = trainer_of("rm", tmp_path)
    found = context_of(trainer, "rm").preferences(trainer.model, ALL)
    alone = [stock(trainer, "rm", [row]) for row in pairs()]
    close(found.losses, [loss for loss, _ in alone])
    close(found.margins, [margin for _, margin in alone])
    close([found.losses.mean(), found.margins.mean()], stock(trainer, "rm", pairs()))


@pytest.mark.parametrize("settings", [{}, {"lora": True}, {"kto_chosen_weight": 1.5, "kto_rejected_weight": 0.5}])
def test_kto_has_the_loss_of_the_batch_that_is_the_whole_pool(tmp_path: Path, settings: dict[str, Any]) -> None:
    trainer = trainer_of("kto", tmp_path, **settings)
    found = context_of(trainer, "kto").preferences(trainer.model, ALL, token_budget=40)
    loss, _ = stock(trainer, "kto", trainer.train_dataset)
    close(found.losses.mean(), loss)
    assert np.isnan(found.margins).all()


def test_kto_by_batches_would_have_another_kl_term_in_each(tmp_path: Path) -> None:
    """The wrong version: the mean of the stock loss over batches of one, each with a KL term of its own."""
    trainer = trainer_of("kto", tmp_path)
    wrong = np.mean([stock(trainer, "kto", [row])[0] for row in trainer.train_dataset])
    found = context_of(trainer, "kto").preferences(trainer.model, ALL)
    right, _ = stock(trainer, "kto", trainer.train_dataset)
    assert abs(wrong - right) > 1e-4
    close(found.losses.mean(), right)


@pytest.mark.parametrize("stage", ["dpo", "kto", "rm"])
def test_batches_change_nothing_and_no_trace_is_left(tmp_path: Path, stage: str) -> None:
    trainer = trainer_of(stage, tmp_path, lora=stage == "dpo")
    model, context = trainer.model, context_of(trainer, stage)
    before = copy.deepcopy(model.state_dict())
    flags = [module.training for module in model.modules()]
    grads = [weight.requires_grad for weight in model.parameters()]
    attributes, drawn = set(vars(trainer)), torch.get_rng_state()
    first = context.preferences(model, ALL)
    for budget in (1, 60):
        close(context.preferences(model, ALL, token_budget=budget).losses, first.losses)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == flags
    assert [weight.requires_grad for weight in model.parameters()] == grads
    assert set(vars(trainer)) == attributes
    assert torch.equal(torch.get_rng_state(), drawn)
    some = context.preferences(model, [4, 1])
    assert np.isfinite(some.losses).nonzero()[0].tolist() == [1, 4]


@pytest.mark.slow
def test_two_ranks_score_what_one_scores(tmp_path: Path) -> None:
    run_on_two_ranks(score_on_a_rank, tmp_path)
    trainer = trainer_of("kto", tmp_path / "alone")
    alone = context_of(trainer, "kto").preferences(trainer.model, ALL).losses
    for rank in range(2):
        close(np.load(tmp_path / f"losses{rank}.npy", allow_pickle=False), alone)


def _with_log_probabilities(trainer: Any, policy: tuple[float, float], reference: tuple[float, float]) -> None:
    def forward(*_: Any, is_ref_model: bool = False, **__: Any) -> dict[str, torch.Tensor]:
        chosen, rejected = (torch.tensor([value]) for value in (reference if is_ref_model else policy))
        logits = torch.zeros(1, 2, 3)
        names = {"chosen_logits": logits, "rejected_logits": logits, "chosen_logps_avg": chosen}
        return {"chosen_logps": chosen, "rejected_logps": rejected, **names}

    trainer.concatenated_forward = forward


def test_the_margin_and_sigmoid_loss_worked_out_by_hand(tmp_path: Path) -> None:
    trainer = trainer_of("dpo", tmp_path, pref_beta=0.1)
    _with_log_probabilities(trainer, (-10.0, -20.0), (-12.0, -19.0))
    found = context_of(trainer, "dpo").preferences(trainer.model, [0], token_budget=1)
    assert found.margins[0] == pytest.approx(0.3, abs=1e-6)  # .1 ((-10 + 12) - (-20 + 19))
    assert found.losses[0] == pytest.approx(0.554355, abs=1e-6)
    assert found.losses[0] == pytest.approx(-math.log(1 / (1 + math.exp(-0.3))), abs=1e-6)


def test_a_margin_without_the_reference_would_be_another(tmp_path: Path) -> None:
    """The wrong version: the policy's log probabilities alone, 1.0 where the margin is .3."""
    trainer = trainer_of("dpo", tmp_path, pref_beta=0.1)
    _with_log_probabilities(trainer, (-10.0, -20.0), (-12.0, -19.0))
    wrong = 0.1 * (-10.0 + 20.0)
    assert wrong == pytest.approx(1.0)
    found = context_of(trainer, "dpo").preferences(trainer.model, [0], token_budget=1)
    assert found.margins[0] != pytest.approx(wrong)


def test_a_row_of_nan_leaves_the_kl_term_of_the_others_alone(tmp_path: Path) -> None:
    trainer = trainer_of("kto", tmp_path)
    objective = objective_of(trainer, "kto")
    assert objective is not None
    numbers = np.array([[1, -9, -10, -3, -4], [0, -8, -7, -5, -5], [1, np.nan, -1, -1, -1]], np.float64)
    losses, _ = objective.scores(numbers)
    alone, _ = objective.scores(numbers[:2])
    close(losses[:2], alone)
    # beta .1, KL = max(0, (1 + 0) / 2) = .5: 1 - sigmoid(.1 (1 - .5)), 1 - sigmoid(.1 (.5 + 1))
    close(alone, [1 - 1 / (1 + math.exp(-0.05)), 1 - 1 / (1 + math.exp(-0.15))])
    assert np.isnan(losses[2])


def test_a_stage_of_single_answers_has_none(tmp_path: Path) -> None:
    assert objective_of(None, "sft") is None
    context = make_context(pairs(), collate, stage="sft")
    with pytest.raises(ComponentError, match=r"stage: sft are single answers\. Use context\.losses"):
        context.preferences(torch.nn.Linear(1, 1), [0])


def test_finished_parts_are_kept_under_what_they_depend_on(tmp_path: Path) -> None:
    trainer = trainer_of("dpo", tmp_path)
    context = context_of(trainer, "dpo", cache_dir=tmp_path / "cache")
    first = context.preferences(trainer.model, ALL, key="margin")
    again = context.preferences(trainer.model, ALL, key="margin")
    assert again.resumed == len(LENGTHS)
    close(again.losses, first.losses)
    with torch.no_grad():
        next(trainer.ref_model.parameters()).add_(0.1)
    assert context.preferences(trainer.model, ALL, key="margin").resumed == 0
    trainer.beta = 0.7
    other = context_of(trainer, "dpo", cache_dir=tmp_path / "cache")
    assert other.preferences(trainer.model, ALL, key="margin").resumed == 0
