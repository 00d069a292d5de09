"""The bench for weighters.

Shapes: B samples of a micro-batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dataflex.components.weight_context import StepLosses, WeightContext, WeightedStep
from dataflex.math.losses import output_logits, sample_losses
from dataflex.rng import rng_scope
from dataflex.scoring.hidden_states import HeadInput
from dataflex.scoring.inputs import model_inputs
from dataflex.scoring.pooling import real_tokens
from dataflex.scoring.quiet import evaluating
from dataflex.spec import Need
from dataflex.testing.bench import SEED, STEPS, Bench
from dataflex.testing.check import NotApplicable
from dataflex.testing.trainee import Row
from dataflex.trainers.losses.checked_weights import valid_weights
from dataflex.trainers.losses.weight_seam import sees_whole_steps

SAMPLES = 6
ACCUMULATED = 2
"""Micro-batches of an optimizer step, where a whole training step is tried."""
_WATCHED = 2  # optimizer steps shown to on_step before a decision
_OF_A_STEP = 12  # samples of each
_OF_PADDING = 7.0  # what stands in hidden states where there is no token: it must not count


@dataclass(frozen=True)
class MicroBatch:
    """Samples to weigh.

    Attributes:
        losses_B: Mean loss per target token.
        tokens_B: Target tokens.
        inputs: The batch, labels included.
        hidden_BTH: What enters the model's head.
        segments_BT: Which sample each token is of, -1 for padding.
        rows_B: Rows of the pool.
    """

    losses_B: torch.Tensor
    tokens_B: torch.Tensor
    inputs: Mapping[str, Any]
    hidden_BTH: torch.Tensor
    segments_BT: torch.Tensor
    rows_B: npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Progress:
    """A ``TrainerState``, as far as a weighter in the style of the note reads it."""

    global_step: int


@dataclass(frozen=True)
class _Midway:
    """A Trainer in the middle of a run, likewise."""

    state: _Progress
    accelerator: Any


@dataclass(frozen=True)
class Trained:
    """What a training step came to.

    Attributes:
        loss: What it returned.
        gradients: By parameter, of those that have one.
    """

    loss: Any
    gradients: Mapping[str, torch.Tensor]


class WeighterBench(Bench):
    """Shows the samples of a few steps, then asks for the weights of a micro-batch."""

    @cached_property
    def batch(self) -> MicroBatch:
        """An ordinary micro-batch, with the losses the model has on it."""
        return self.micro_batch(self.rows()[:SAMPLES])

    def micro_batch(self, rows: list[Row], padding: int = 0) -> MicroBatch:
        """Collate rows, ``padding`` columns longer than need be, and compute their losses."""
        trainee, pool = self.trainee, self.rows()
        inputs = trainee.collator([dict(row) for row in rows])
        with evaluating(trainee.model), HeadInput(trainee.model) as head:
            logits = output_logits(
                trainee.model(**model_inputs(trainee.model, inputs)), inputs["labels"], trainee.model
            )
            losses = sample_losses(logits, inputs["labels"])
            hidden_BTH = head.take(inputs["input_ids"].shape[1])
        fill = {"input_ids": 0, "attention_mask": 0, "labels": -100}
        padded = {
            name: torch.nn.functional.pad(value_BT, (0, padding), value=fill.get(name, 0))
            for name, value_BT in inputs.items()
        }
        return MicroBatch(
            losses.means.detach().float(),
            losses.counts_B,
            padded,
            torch.nn.functional.pad(hidden_BTH, (0, 0, 0, padding), value=_OF_PADDING),
            torch.where(real_tokens(padded), torch.arange(len(rows)).unsqueeze(1), -1),
            np.array([pool.index(row) for row in rows], np.int64),
        )

    def ask(self, component: Any, step: int, batch: MicroBatch | None = None) -> Any:
        """Ask for weights after steps with losses that are a function of the step.

        Of a class with ``get_weighted_loss``, the weights are the gradient of its scalar, times the number of samples.
        """
        batch = batch or self.batch
        door = self.door(component)
        if door.defines("weights"):
            for before in range(step - _WATCHED, step):
                door.call("on_step", stats=_observed(before + 1))
            batches, rows = (dict(batch.inputs),), (batch.rows_B,)
            door.call("begin_step", model=self.trainee.model, step=step, batches=batches, rows=rows)
            if sees_whole_steps(door):
                door.call("on_losses", losses=_whole_step(step, batch))
            sees_hidden = Need.HIDDEN_STATES in self.entry.spec.needs
            context = WeightContext(
                step=step,
                tokens_B=batch.tokens_B,
                model=self.trainee.model,
                inputs=dict(batch.inputs),
                rows_B=batch.rows_B,
                hidden_BTH=batch.hidden_BTH if sees_hidden else None,
                segments_BT=batch.segments_BT if sees_hidden else None,
            )
            return door.call("weights", losses_B=batch.losses_B.clone(), context=context)
        losses_B, loss = self.reduce(component, step, batch)
        if not loss.requires_grad:
            return torch.zeros_like(losses_B)
        return torch.autograd.grad(loss, losses_B)[0] * len(losses_B)

    def reduce(self, component: Any, step: int, batch: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """The losses, with gradient, and the scalar that ``get_weighted_loss`` makes of them."""
        door = self.door(component)
        if not door.defines("get_weighted_loss"):
            raise NotApplicable("its training_step does everything itself")
        losses_B = batch.losses_B.clone().requires_grad_()
        trainer = _Midway(_Progress(step), self.accelerator)
        loss = door.call(
            "get_weighted_loss", losses=losses_B, ctx=trainer, model=self.trainee.model, inputs=dict(batch.inputs)
        )
        return losses_B, loss

    @cached_property
    def trainer(self) -> Any:
        """A stock Trainer of the model, in the middle of a run: what ``training_step`` gets as ``ctx``."""
        from transformers import Trainer, TrainingArguments

        trainee = self.trainee
        arguments = TrainingArguments(
            output_dir=str(self.folder / "trainer"),
            use_cpu=True,
            report_to="none",
            gradient_accumulation_steps=ACCUMULATED,
            per_device_train_batch_size=SAMPLES,
        )
        trainer = Trainer(
            trainee.model,
            arguments,
            data_collator=trainee.collator,
            processing_class=trainee.tokenizer,
            optimizers=(trainee.optimizer, trainee.scheduler),
        )
        trainer.state.global_step = STEPS[0]
        trainer.current_gradient_accumulation_steps = ACCUMULATED  # as its loop does
        return trainer

    def train(self, component: Any, *, use_weighter: bool) -> Trained:
        """Let a component's own ``training_step`` do a micro-batch, as the Weight Trainer does.

        Raises:
            Exception: whatever the component raises.
        """
        available = {
            "ctx": self.trainer,
            "model": self.trainee.model,
            "num_items_in_batch": None,
            "use_weighter": use_weighter,
        }
        door = self.door(component)
        return self._trained(lambda inputs: door.call("training_step", **available, inputs=inputs))

    def train_unweighted(self) -> Trained:
        """Let the stock Trainer do that micro-batch."""
        return self._trained(lambda inputs: self.trainer.training_step(self.trainee.model, inputs, None))

    def _trained(self, step: Callable[[dict[str, Any]], Any]) -> Trained:
        model = self.trainee.model
        with rng_scope(SEED):  # the same dropout each time
            loss = step(dict(self.batch.inputs))
        gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
        model.zero_grad(set_to_none=True)
        return Trained(loss, gradients)

    def weights(self, component: Any, batch: MicroBatch) -> Any:
        """Weights of a micro-batch as an array, shape ``[B]``, for a check of something else than the decision."""
        try:
            weights = self.flat(self.ask(component, 10, batch))
        except NotApplicable:
            raise
        except Exception as error:
            raise NotApplicable("it does not decide: see decides") from error
        if weights.shape != tuple(batch.losses_B.shape):
            raise NotApplicable("it does not give one weight for each: see gives_one_weight_per_sample")
        return weights

    def flat(self, answer: Any) -> Any:
        """The weights, in order."""
        return answer.detach().cpu().numpy() if hasattr(answer, "detach") else np.asarray(answer)

    def validate(self, answer: Any, samples: int = SAMPLES) -> None:
        """Type, shape and values, as the Weight Trainer checks them."""
        valid_weights(answer, torch.zeros(samples))


def _whole_step(step: int, batch: MicroBatch) -> StepLosses:
    """The micro-batch as a step of its own."""
    losses, tokens = (values_B.double().cpu().numpy() for values_B in (batch.losses_B, batch.tokens_B))
    return StepLosses(step=step, losses=losses, tokens=tokens)


def _observed(step: int) -> WeightedStep:
    rng = np.random.default_rng([7, step])
    return WeightedStep(
        step=step,
        losses=rng.uniform(1.0, 6.0, _OF_A_STEP),
        tokens=rng.integers(2, 20, _OF_A_STEP).astype(np.float64),
        weights=np.ones(_OF_A_STEP),
    )
