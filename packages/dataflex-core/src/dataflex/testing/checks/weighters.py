"""Checks of weighters."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from dataflex.errors import ComponentError
from dataflex.testing.bench import STEPS, Bench
from dataflex.testing.check import CheckFailed, NotApplicable
from dataflex.testing.trainee import Row
from dataflex.testing.weighter_bench import ACCUMULATED, SAMPLES, MicroBatch, Trained, WeighterBench
from dataflex.trainers.losses.weight_seam import sees_whole_steps

_GRADIENT_TOLERANCE = 1e-3  # relative: another order of adding up is no fault


def gives_one_weight_per_sample(bench: Bench) -> None:
    """There is one weight for each loss, as a tensor.

    Mend: return a tensor of the shape of ``losses_B``.
    """
    weighter = _weighter(bench)
    answer = weighter.decide(weighter.component())
    if not isinstance(answer, torch.Tensor):
        raise CheckFailed(f"it returned {type(answer).__name__}, not a tensor")
    if answer.shape != (SAMPLES,):
        raise CheckFailed(f"for {SAMPLES} losses it returned a tensor of shape {list(answer.shape)}")


def weights_are_finite_and_not_negative(bench: Bench) -> None:
    """Weights are finite, none is negative, and not all are 0.

    Mend: clamp at 0; beware of dividing by a sum or a spread that is 0.
    """
    weighter = _weighter(bench)
    component = weighter.component()
    for step in STEPS:
        answer = weighter.decide(component, step)
        if not isinstance(answer, torch.Tensor) or answer.shape != (SAMPLES,):
            raise NotApplicable("it does not give one weight for each: see gives_one_weight_per_sample")
        try:
            weighter.validate(answer)
        except ComponentError as error:
            raise CheckFailed(f"at step {step}, {error}") from error
        if not bool(answer.any()):
            if not weighter.door(component).defines("weights"):
                raise NotApplicable("its loss does not depend on the losses: see loss_has_a_gradient")
            raise CheckFailed(f"at step {step} every weight is 0, so that nothing is learnt")


def loss_has_a_gradient(bench: Bench) -> None:
    """What ``get_weighted_loss`` returns depends on the losses: samples of a weight above 0 are learnt from.

    Mend: multiply the losses as they came; detach what the weights are made of, not the losses.
    """
    weighter = _weighter(bench)
    component = weighter.component()
    if weighter.door(component).defines("weights"):
        raise NotApplicable("the framework makes the loss of its weights")
    losses_B, loss = weighter.reduce(component, STEPS[0], weighter.batch)
    if not loss.requires_grad:
        raise CheckFailed("the loss it returned has no gradient")
    (gradient_B,) = torch.autograd.grad(loss, losses_B)
    if not bool(torch.isfinite(gradient_B).all() and gradient_B.any()):
        raise CheckFailed(f"the gradient of its loss is {gradient_B.tolist()}")


def identical_samples_weigh_the_same(bench: Bench) -> None:
    """Copies of one sample get one weight, and a weighted mean of equal losses is that loss: nothing is rescaled.

    Mend: let a weight depend on what is known of its sample, not on its place; divide by the sum of the weights.
    """
    weighter = _weighter(bench)
    component = weighter.component()
    batch = weighter.micro_batch(weighter.rows()[:1] * SAMPLES)
    weights = weighter.weights(component, batch)
    if not _close(weights, weights.flat[0]):
        raise CheckFailed(f"copies of one sample got {weights.tolist()}")
    if weighter.door(component).defines("weights"):
        return
    _, loss = weighter.reduce(weighter.component(), STEPS[0], batch)
    if not _close(loss.item(), batch.losses_B[0].item()):
        raise CheckFailed(f"{SAMPLES} losses of {batch.losses_B[0].item():.4f} became {loss.item():.4f}")


def padding_is_irrelevant(bench: Bench) -> None:
    """Longer padding of the batch changes no weight.

    Mend: count by ``labels`` or ``context.tokens_B``, not by the width of ``input_ids``.
    """
    weighter = _weighter(bench)
    rows = weighter.rows()[:SAMPLES]
    batches = [weighter.micro_batch(rows, padding) for padding in (0, 32)]
    plain, padded = (weighter.weights(weighter.component(), batch) for batch in batches)
    _refuse_other(plain, padded, "with 32 columns of padding more")


def order_of_samples_is_irrelevant(bench: Bench) -> None:
    """The samples of a micro-batch in another order get the same weights, in that order.

    Mend: let a weight depend on what is known of its sample, not on its place.
    """
    weighter = _weighter(bench)
    weighter.repeatable()
    rows = weighter.rows()[:SAMPLES]
    plain = weighter.weights(weighter.component(), weighter.micro_batch(rows))
    turned = weighter.weights(weighter.component(), weighter.micro_batch(rows[::-1]))
    _refuse_other(plain, turned[::-1], "in the opposite order")


def other_samples_are_irrelevant(bench: Bench) -> None:
    """The weight of a sample does not depend on those it shares a micro-batch with, nor then on batch size and ranks.

    Mend: compare with statistics of earlier steps, gathered in ``on_step(stats)``, instead of with the micro-batch; or
    with the whole step (``statistics = "batch"``, ``on_losses``).
    """
    weighter = _weighter(bench)
    if not weighter.door(weighter.component()).defines("weights"):
        raise NotApplicable("it reduces a whole micro-batch")
    if sees_whole_steps(weighter.door(weighter.component())):
        raise NotApplicable("statistics: batch compares the samples of a step with each other")
    weighter.repeatable()
    rows = weighter.rows()[:SAMPLES]
    together = weighter.weights(weighter.component(), weighter.micro_batch(rows))
    halves = [rows[: SAMPLES // 2], rows[SAMPLES // 2 :]]
    apart = [weighter.weights(weighter.component(), weighter.micro_batch(half)) for half in halves]
    _refuse_other(together, np.concatenate(apart), "in two halves")


def copes_with_a_single_sample(bench: Bench) -> None:
    """A micro-batch of one sample gets one weight, or an error that says what to do.

    Mend: beware of ``std()`` and ``quantile()`` of one number.
    """
    weighter = _weighter(bench)
    rows: list[Row] = weighter.rows()[:1]
    weighter.copes(
        lambda: weighter.ask(weighter.build(), STEPS[0], weighter.micro_batch(rows)),
        lambda answer: weighter.validate(answer, 1),
        "with a micro-batch of one sample",
    )


def copes_with_losses_that_are_nan(bench: Bench) -> None:
    """A loss that is NaN, or all of them, still gives weights that are finite, or an error that says what to do.

    Mend: give such a sample the weight 1 with ``torch.where(torch.isfinite(losses_B), ...)``, so that the training loss
    shows it.
    """
    weighter = _weighter(bench)
    if not weighter.door(weighter.component()).defines("weights"):
        raise NotApplicable("the loss it returns is NaN then, as it would be without weights")
    for count, whose in ((1, "one sample"), (SAMPLES, "all samples")):
        losses_B = weighter.batch.losses_B.clone()
        losses_B[:count] = torch.nan
        ask = partial(_ask_anew, weighter, replace(weighter.batch, losses_B=losses_B))
        weighter.copes(ask, weighter.validate, f"when the loss of {whose} is NaN")


def training_step_learns(bench: Bench) -> None:
    """Its own ``training_step`` leaves a finite gradient and returns a finite, detached loss, in the warm-up too.

    Mend: call ``ctx.accelerator.backward(loss)`` and return ``loss.detach()``.
    """
    weighter = _weighter(bench)
    component = _with_own_step(weighter)
    for use_weighter in (False, True):
        circumstance = f"with use_weighter={use_weighter}"
        try:
            trained = weighter.train(component, use_weighter=use_weighter)
        except Exception as error:
            raise CheckFailed(f"{circumstance}, it raised {type(error).__name__}: {error}") from error
        fault = _fault(trained)
        if fault:
            raise CheckFailed(f"{circumstance}, {fault}")


def warm_up_is_unweighted(bench: Bench) -> None:
    """With ``use_weighter=False``, its own ``training_step`` leaves the gradient that the stock Trainer would.

    Mend: weigh only if ``use_weighter``; divide the mean loss by ``ctx.args.gradient_accumulation_steps``, once.
    """
    weighter = _weighter(bench)
    component = _with_own_step(weighter)
    try:
        trained = weighter.train(component, use_weighter=False)
    except Exception as error:
        raise NotApplicable("it does not train: see training_step_learns") from error
    if _fault(trained):
        raise NotApplicable("it does not train: see training_step_learns")
    stock = weighter.train_unweighted()
    if trained.gradients.keys() != stock.gradients.keys():
        raise CheckFailed("the parameters with a gradient are others than under the stock Trainer")
    ours, expected = (torch.cat([grad.flatten() for grad in each.gradients.values()]) for each in (trained, stock))
    if float((ours - expected).norm()) > _GRADIENT_TOLERANCE * float(expected.norm()):
        raise CheckFailed(
            f"with {ACCUMULATED} micro-batches a step, the gradient it leaves is not the stock Trainer's; it is "
            f"{float(ours.norm() / expected.norm()):.3g} times as long"
        )


def _with_own_step(weighter: WeighterBench) -> Any:
    component = weighter.component()
    if weighter.door(component).defines("weights") or not weighter.door(component).defines("training_step"):
        raise NotApplicable("it has no training_step: the Trainer's own is used")
    return component


def _fault(trained: Trained) -> str:
    """What is wrong with a training step; empty if nothing is."""
    loss = trained.loss
    if not isinstance(loss, torch.Tensor):
        return f"it returned {type(loss).__name__}, not the loss as a tensor"
    if loss.requires_grad:
        return "the loss it returned is not detached, so the step's graph stays in memory"
    if loss.numel() != 1 or not bool(torch.isfinite(loss).all()):
        return f"it returned {loss.tolist()}, not one finite loss"
    if not any(bool(grad.any()) for grad in trained.gradients.values()):
        return "it left no gradient, so that nothing is learnt"
    if not all(bool(torch.isfinite(grad).all()) for grad in trained.gradients.values()):
        return "it left a gradient that is not finite"
    return ""


def _ask_anew(weighter: WeighterBench, batch: MicroBatch) -> Any:
    return weighter.ask(weighter.build(), STEPS[0], batch)


def _refuse_other(expected: Any, found: Any, circumstance: str) -> None:
    if not _close(expected, found):
        raise CheckFailed(f"{circumstance}, the weights {expected.tolist()} become {found.tolist()}")


def _close(expected: Any, found: Any) -> bool:
    return bool(np.allclose(expected, found, rtol=1e-4, atol=1e-6, equal_nan=True))


def _weighter(bench: Bench) -> WeighterBench:
    assert isinstance(bench, WeighterBench)
    return bench


WEIGHTERS = (
    gives_one_weight_per_sample,
    weights_are_finite_and_not_negative,
    loss_has_a_gradient,
    identical_samples_weigh_the_same,
    padding_is_irrelevant,
    order_of_samples_is_irrelevant,
    other_samples_are_irrelevant,
    copes_with_a_single_sample,
    copes_with_losses_that_are_nan,
    training_step_learns,
    warm_up_is_unweighted,
)
