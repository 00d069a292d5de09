"""What a weighter is shown beside the losses: the hidden states of the training forward, and what it notes of samples.

    begin_step    ── the step's micro-batches ──> begin_step(model, step, batches, rows)
    compute_loss  ── what enters the head ──────> hidden_BTH of the context, for a spec with Need.HIDDEN_STATES
    weights       ── context.note(scores_B) ────> a column of the step's table, WeightedStep.noted

Shapes: B rows, T tokens, U samples of a micro-batch, N samples of a step.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dataflex.components.asking import Asking
from dataflex.errors import ComponentError
from dataflex.math.segments import unit_of_tokens
from dataflex.rng import key_seed, rng_scope
from dataflex.scoring.hidden_states import HeadInput
from dataflex.scoring.pooling import real_tokens
from dataflex.trainers.host import Host
from dataflex.trainers.losses.shaper import Batches, Rows


class WeigherSight:
    """Shows a weighter what it asked for.

    Args:
        host: The Trainer.
        asking: The weighter.
        sees_hidden: Whether it is shown hidden states.
    """

    def __init__(self, host: Host, asking: Asking, *, sees_hidden: bool) -> None:
        self._host, self._asking, self.sees_hidden = host, asking, sees_hidden
        self._head: HeadInput | None = None
        self._notes: deque[torch.Tensor] = deque()

    def begin_step(self, batches: Batches, rows: Sequence[Rows]) -> None:
        """Let the weighter prepare for a step that it will weigh. Called on every rank."""
        self._notes.clear()
        if not batches or not self._asking.defines("begin_step"):
            return
        host, step = self._host, int(self._host.state.global_step)
        told = {
            "model": host.accelerator.unwrap_model(host.model_wrapped),
            "step": step,
            "batches": tuple(batches),
            "rows": tuple(rows),
        }
        with rng_scope(key_seed(host.args.seed, "begin_step", step), devices=True):
            self._asking.tell("begin_step", step, told, lambda: None)

    @contextlib.contextmanager
    def forward(self, model: Any) -> Iterator[None]:
        """Look at the forward of a micro-batch in this block."""
        if not self.sees_hidden:
            yield
            return
        try:
            with HeadInput(self._host.accelerator.unwrap_model(model)) as self._head:
                yield
        finally:
            self._head = None

    def shown(
        self, inputs: Mapping[str, Any], labels_BT: torch.Tensor, segments_BT: torch.Tensor | None, used_U: torch.Tensor
    ) -> torch.Tensor:
        """Which sample each token is of, for a weighter that sees hidden states; -1 for none."""
        samples_BT = unit_of_tokens(segments_BT, used_U, labels_BT)
        real_BT = real_tokens({"input_ids": labels_BT, **inputs}).to(samples_BT.device)
        return samples_BT.masked_fill(~real_BT, -1)

    def hidden(self, samples_BT: torch.Tensor | None) -> torch.Tensor | None:
        """The hidden states of the micro-batch whose forward was looked at last.

        Raises:
            ComponentError: when they did not come by.
        """
        if self._head is None or samples_BT is None:
            return None
        return self._head.take(samples_BT.shape[1])

    @contextlib.contextmanager
    def noting(self, losses_U: torch.Tensor) -> Iterator[Callable[[torch.Tensor], None]]:
        """Take what the weighter notes of some samples in this block.

        Raises:
            ComponentError: for something else than a finite number of each.
        """
        noted: list[torch.Tensor] = []

        def note(scores_B: torch.Tensor) -> None:
            if not isinstance(scores_B, torch.Tensor) or scores_B.shape != losses_U.shape:
                found = list(scores_B.shape) if isinstance(scores_B, torch.Tensor) else type(scores_B).__name__
                raise ComponentError(f"note() was given {found} for losses of shape {list(losses_U.shape)}")
            if not bool(torch.isfinite(scores_B).all()):
                raise ComponentError(f"note() was given {scores_B.tolist()}; a note is a finite number")
            noted[:] = [scores_B.detach().to(losses_U)]

        yield note
        self._notes.append(noted[0] if noted else torch.full_like(losses_U, torch.nan))

    def notes(self, losses_U: torch.Tensor) -> torch.Tensor:
        """What was noted of the next micro-batch that has samples; NaN for nothing."""
        return self._notes.popleft() if self._notes else torch.full_like(losses_U, torch.nan)


def noted_of_step(noted_N: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """The notes of a step, if there is one of each sample."""
    return noted_N if len(noted_N) and not np.isnan(noted_N).any() else None
