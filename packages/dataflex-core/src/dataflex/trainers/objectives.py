"""Stages of preferences as LlamaFactory's Trainers compute them, row by row.

The Trainer is asked, not copied: its own forward gives the log probabilities (or rewards) of a batch, and its own loss
is then asked about one pair at a time, with the numbers of that pair in place of a forward. So whatever it adds to the
loss (``pref_ftx``, ``dpo_label_smoothing``, ``simpo_gamma``) is in the score.

stage   asked of the Trainer for a batch                          and for the loss
dpo     concatenated_forward, compute_reference_log_probs         get_batch_loss_metrics of each pair
rm      compute_loss                                              compute_loss of each pair
kto     concatenated_forward, compute_reference_log_probs         kto_loss of all rows at once

Shapes: B rows of a batch, N rows of a pass, T tokens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from types import MethodType
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from dataflex.components.passes import Floats, Objective
from dataflex.failures.foreign import foreign

_SETTINGS = (
    *("beta", "loss_type", "ftx_gamma", "label_smoothing", "simpo_gamma", "ld_alpha"),
    *("desirable_weight", "undesirable_weight"),
)
_MARGIN = "rewards/margins"


class StageTrainer(Protocol):
    """A Trainer of preferences, as far as it is asked; each stage's has part of this."""

    accelerator: Any
    concatenated_forward: Callable[..., Any]
    compute_reference_log_probs: Callable[..., Any]
    get_batch_loss_metrics: Callable[..., Any]
    kto_loss: Callable[..., Any]


def objective_of(trainer: object, stage: str) -> Objective | None:
    """The objective of a stage of preferences; ``None`` for a stage of single answers.

    Args:
        trainer: The Trainer of that stage.
        stage: LlamaFactory's.
    """
    kinds: Mapping[str, Callable[[Any], Objective]] = {"dpo": PairLoss, "rm": RewardLoss, "kto": KtoLoss}
    return kinds[stage](trainer) if stage in kinds else None


class _OfTrainer:
    """What objectives have in common.

    Args:
        trainer: The stage's Trainer.
    """

    width = 2  # loss and margin

    def __init__(self, trainer: StageTrainer) -> None:
        self._trainer = trainer
        given = {name: getattr(trainer, name, None) for name in _SETTINGS}
        self.settings: Mapping[str, Any] = {
            name: value for name, value in given.items() if isinstance(value, (str, int, float))
        }
        self.reference: nn.Module | None = getattr(trainer, "ref_model", None)

    def scores(self, numbers_NW: Floats) -> tuple[Floats, Floats]:
        """Loss and margin are in the numbers already."""
        return numbers_NW[:, 0], numbers_NW[:, 1]


class PairLoss(_OfTrainer):
    """``stage: dpo``. The margin is that of the rewards that the Trainer logs."""

    def numbers(self, model: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        """Loss and margin of each pair, shape [B, 2]."""
        trainer = self._trainer
        with foreign("the stage's own loss failed"):
            policy = trainer.concatenated_forward(model, dict(batch))  # which may take the labels out
            reference = trainer.compute_reference_log_probs(model, dict(batch))
            pairs = len(batch["input_ids"]) // 2
            return torch.tensor(
                [self._pair(model, batch, _row(policy, place), _row(reference, place)) for place in range(pairs)],
                dtype=torch.float64,
            ).reshape(pairs, self.width)

    def _pair(self, model: nn.Module, batch: Mapping[str, Any], policy: Any, reference: Any) -> list[float]:
        answers = {"concatenated_forward": policy, "compute_reference_log_probs": reference}
        with _answering(self._trainer, answers):
            loss, metrics = self._trainer.get_batch_loss_metrics(model, dict(batch))
        return [float(loss), float(metrics[_MARGIN])]


class RewardLoss(_OfTrainer):
    """``stage: rm``."""

    def numbers(self, model: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        """Loss and margin of each pair, shape [B, 2]."""
        compute_loss, seen = _stock(self._trainer, "compute_loss"), []

        def watched(**inputs: Any) -> Any:
            seen.append(model(**inputs))
            return seen[-1]

        with foreign("the stage's own loss failed"):
            compute_loss(watched, dict(batch))
            values = seen[-1][-1]
            pairs = len(batch["input_ids"]) // 2
            found = []
            for place in range(pairs):
                both = [place, pairs + place]
                of_pair = {name: batch[name][both] for name in ("input_ids", "attention_mask")}
                answer = (None, None, values[both])
                loss, (_, chosen, rejected) = compute_loss(lambda answer=answer, **_: answer, of_pair, True)
                found.append([float(loss), float(chosen.float() - rejected.float())])
        return torch.tensor(found, dtype=torch.float64).reshape(pairs, self.width)


class KtoLoss(_OfTrainer):
    """``stage: kto``: the KL term is one for all rows of a pass, the mean over their mismatched rows, at least 0."""

    width = 5  # mark; log probabilities of policy and reference; those of the mismatched answer

    def numbers(self, model: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        """The mark and four sums of log probabilities of each row, shape [B, 5]."""
        trainer, good = self._trainer, batch["kto_tags"]
        with foreign("the stage's own loss failed"):
            chosen, rejected, _, _, mismatched, *_ = trainer.concatenated_forward(model, dict(batch))
            ref_chosen, ref_rejected, ref_mismatched = trainer.compute_reference_log_probs(model, dict(batch))
        both = ((chosen, rejected), (ref_chosen, ref_rejected))
        policy, reference = (mismatched.new_empty(len(good)) for _ in both)
        for placed, (of_good, of_bad) in zip((policy, reference), both, strict=True):
            placed[good], placed[~good] = of_good, of_bad
        columns = (good, policy, reference, mismatched, ref_mismatched)
        return torch.stack([column.detach().double() for column in columns], dim=1)

    def scores(self, numbers_NW: Floats) -> tuple[Floats, Floats]:
        """The loss of each row; there are no margins."""
        losses, finite = np.full(len(numbers_NW), np.nan), np.isfinite(numbers_NW).all(axis=1)
        rows = np.flatnonzero(finite)
        if len(rows):
            columns = torch.from_numpy(numbers_NW[rows]).float().to(self._trainer.accelerator.device)
            mark, policy, reference, mismatched, ref_mismatched = columns.T
            good = mark > 0
            with foreign("the stage's own loss failed"):
                found, *_ = self._trainer.kto_loss(
                    *(policy[good], policy[~good], mismatched),
                    *(reference[good], reference[~good], ref_mismatched),
                )
            order = np.concatenate([rows[good.cpu().numpy()], rows[~good.cpu().numpy()]])
            losses[order] = found.double().cpu().numpy()
        return losses, np.full(len(numbers_NW), np.nan)


@contextlib.contextmanager
def _answering(trainer: StageTrainer, answers: Mapping[str, Any]) -> Iterator[None]:
    """A Trainer whose methods answer what is given, while the body runs."""
    own = vars(trainer)
    before = {name: own[name] for name in answers if name in own}
    for name, answer in answers.items():
        own[name] = lambda *_, answer=answer, **__: answer
    try:
        yield
    finally:
        for name in answers:
            del own[name]
        own.update(before)


def _row(value: Any, place: int) -> Any:
    """What is known of one pair: its entry of each vector, and nothing of the logits, which are only for the log."""
    if isinstance(value, Mapping):
        return {name: _row(each, place) for name, each in value.items()}
    if isinstance(value, tuple):
        return tuple(_row(each, place) for each in value)
    if isinstance(value, torch.Tensor):
        return value[place : place + 1] if value.ndim == 1 else value.new_zeros(1)
    return value


def _stock(trainer: StageTrainer, method: str) -> Callable[..., Any]:
    """A method of a Trainer as it is without our mixins."""
    ours = __name__.partition(".")[0]
    owner = next(cls for cls in type(trainer).__mro__ if method in vars(cls) and cls.__module__.split(".")[0] != ours)
    return MethodType(vars(owner)[method], trainer)
