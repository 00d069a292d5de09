"""Runs batches so that a sink receives the gradient of each sample's mean token loss, or of their weighted sum.

Shapes: B samples of a batch, T tokens.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from dataflex.errors import ComponentError
from dataflex.gradients.check import LIMITS, Beside, Sketch, difference, precision
from dataflex.gradients.coverage import Coverage
from dataflex.gradients.linear import InseparableError, Recorder
from dataflex.gradients.losing import Losing, Reduction
from dataflex.gradients.sink import GradientSink
from dataflex.gradients.sinks import UnheardSink
from dataflex.lockstep import Interrupted, call_off, collective, is_collective, lockstep
from dataflex.math.losses import IGNORE_INDEX, SampleLosses, output_logits, sample_losses
from dataflex.scoring.inputs import batch_labels, model_inputs, trimmed
from dataflex.scoring.objective import refuse_first_targets
from dataflex.scoring.quiet import quiet
from dataflex.scoring.rope import length_scaling
from dataflex.spread import LocalGradients

logger = logging.getLogger("dataflex")

Result = TypeVar("Result")
MakeBatch = Callable[[], Mapping[str, Any]]

_HEADROOM = 65536.0
"""A run's fp16 loss scale is at the edge for a mean over the tokens of a whole step; here each sample counts whole."""


class GradientEngine:
    """Per-sample gradients: batched where the model allows it, else exactly as one sample at a time gives them.

    Example:
        >>> def body():
        ...     loader = ScoringLoader(pool, collator, rows, max_batch=engine.max_batch or MAX_BATCH, uneven_first=True)
        ...     for rows, batch in loader:
        ...         engine.feed(batch, sink, loader.alone(rows))
        >>> engine.attempt(body)

    Args:
        model: The unwrapped model.
        coverage: What to measure.
        accelerator: The run's accelerator, whose autocast and loss scale are used; or ``None``.
        quiet_log: Say nothing of a fallback, as on all ranks but one.
    """

    def __init__(
        self, model: nn.Module, coverage: Coverage, accelerator: Any = None, *, quiet_log: bool = False
    ) -> None:
        self.model, self.coverage, self.accelerator = model, coverage, accelerator
        self.reason, self._log = "", not quiet_log
        self._scaling, self._precision = length_scaling(model), precision(model, accelerator)
        self._recorder = Recorder(coverage.layers, frozenset(coverage.parameters))
        self._trainable = [value for value in model.parameters() if value.requires_grad]
        self._gradients, self._collective = LocalGradients(model), is_collective(model, accelerator)
        if coverage.reason:
            self._fall_back(coverage.reason)

    @property
    def max_batch(self) -> int | None:
        """Most samples of a batch: 1 in the loop, no limit otherwise."""
        return 1 if self.reason else None

    def attempt(self, body: Callable[[], Result]) -> Result:
        """Run a pass over batches; once more, one sample at a time, where they turn out to be inseparable.

        All ranks must call it, equally often: where a batch of one rank is inseparable, every rank runs its pass again.
        Otherwise ranks would deal out rows by different batches (:attr:`max_batch`), and some would be nobody's.

        Args:
            body: Builds its loader with :attr:`max_batch`, feeds batches and returns the result. It starts from
                nothing each time it is called, and reaches no other rank.

        Raises:
            ComponentError: when memory runs out, or the model returns no logits.
        """
        result = self.attempt_once(body)
        if result is None:
            with self._prepared():
                return body()
        return result

    def attempt_once(self, body: Callable[[], Result]) -> Result | None:
        """As :meth:`attempt`, but leaves it to the caller to start again: what it compares with has to be made anew.

        Returns:
            What ``body`` returned, which must not be ``None``; ``None`` on every rank after falling back.
        """
        found = ""
        try:
            with self._prepared():
                result = body()
        except InseparableError as error:
            if self.reason:
                raise ComponentError(str(error)) from error
            found = str(error)
        except Interrupted as error:  # another rank found out
            self._fall_back(str(error))
            return None
        reason = call_off(found, self.accelerator)
        if not reason:
            return result
        self._fall_back(reason)
        return None

    def probe(self, batch: Mapping[str, Any]) -> None:
        """Where a forward is an exchange: find out, on one and the same batch on all ranks, what a forward shows.

        A rank that finds out alone, halfway through a forward, could not tell the others. All ranks call it.
        """
        if self.reason or not self._collective:
            return
        try:
            with self._prepared(alike=InseparableError):
                self.feed(batch, UnheardSink())
        except InseparableError as error:
            self._fall_back(str(error))

    def feed(
        self,
        batch: Mapping[str, Any],
        sink: GradientSink,
        alone: Mapping[int, MakeBatch] | None = None,
        *,
        beside: int = 0,
        weights_B: torch.Tensor | None = None,
        reduction: Reduction = "mean",
    ) -> SampleLosses:
        """Hand the gradients of a batch to a sink. Only inside :meth:`attempt`.

        A sample without target tokens has no loss. It is given a zero gradient, or none at all.

        Args:
            batch: As the collator made it.
            sink: Receives the gradients.
            alone: Samples whose gradients are compared with those they have alone, by their place in the batch: each
                with a function that makes the batch of that sample.
            beside: How many samples other ranks compare with their batch at this place, at most. Where a forward is an
                exchange, this rank runs as many.
            weights_B: Of either sign, what each sample's gradient is multiplied by; ``None`` for 1.
            reduction: Of a sample's token losses, whose gradient is handed out: their mean, or their sum.

        Returns:
            The samples' losses, detached; weights and reduction have no part in them.

        Raises:
            ComponentError: when memory runs out, the model returns no logits, or its own loss has targets that have
                none here.
        """
        if self.reason:
            batch = trimmed(batch)
        labels_BT = batch_labels(batch)
        try:
            sink.begin(len(labels_BT), labels_BT.device)
            if not self._collective and not bool(labels_BT[:, 1:].ne(IGNORE_INDEX).any()):
                nothing = torch.zeros(len(labels_BT), device=labels_BT.device)
                return SampleLosses(nothing, nothing.long())
            refuse_first_targets(self.model, labels_BT)
            losing = Losing(reduction, weights_B)
            if self.reason:
                losses = self._one_by_one(batch, labels_BT, sink, losing)
            else:
                singles = (alone or {}) if len(labels_BT) > 1 else {}
                losses = self._batched(batch, labels_BT, sink, singles, losing)
                self._keep_up(batch, beside - len(singles))
            sink.finish()
            return losses
        except torch.cuda.OutOfMemoryError as error:
            rows, tokens = labels_BT.shape
            raise ComponentError(
                f"gradients ran out of memory on a batch of {rows} x {tokens} tokens. Lower "
                "component_params.token_budget (a single long row may exceed it: lower cutoff_len then)."
            ) from error

    def _batched(
        self,
        batch: Mapping[str, Any],
        labels_BT: torch.Tensor,
        sink: GradientSink,
        alone: Mapping[int, MakeBatch],
        losing: Losing,
    ) -> SampleLosses:
        scaling = self._scaling
        if scaling is not None and labels_BT.shape[1] > scaling.above:
            raise InseparableError(
                f"RoPE of type {scaling.kind} scales all rows of a batch by the longest where that is above "
                f"{scaling.above} positions"
            )
        scale, sketch = self._loss_scale(), None
        if alone:
            sketch = Sketch(sorted(alone))
            sink = Beside(sink, sketch)
            sink.begin(len(labels_BT), labels_BT.device)
        self._recorder.begin(len(labels_BT), sink, scale)
        losses = self._backward(batch, labels_BT, scale, losing)
        self._recorder.finish()
        used = [name for name in self._recorder.names if self._gradients.of(self.coverage.parameters[name]) is not None]
        if used:
            raise InseparableError(f"the model uses {min(used)} outside its layer's forward")
        if sketch is not None:
            self._compare(sketch, [(alone[place](), losing.of(place)) for place in sorted(alone)])
        return losses

    def _keep_up(self, batch: Mapping[str, Any], forwards: int) -> None:
        """Run as many passes as the ranks that have more samples to compare, and drop what they give."""
        for _ in range(forwards if self._collective else 0):
            labels_BT = batch_labels(batch)
            self._recorder.begin(len(labels_BT), UnheardSink())
            self._backward(batch, labels_BT, 1.0, Losing())

    def _compare(self, batched: Sketch, singles: Sequence[tuple[Mapping[str, Any], Losing]]) -> None:
        """Refuse batches whose gradients are not those of their samples."""
        alone = []
        with self._recorder.detached():
            for whole, losing in singles:
                single = trimmed(whole)
                labels_1T = batch_labels(single)
                alone.append(Sketch([0]))
                alone[-1].begin(1, labels_1T.device)
                if self._collective or bool(labels_1T[:, 1:].ne(IGNORE_INDEX).any()):
                    self._one_by_one(single, labels_1T, alone[-1], losing)
        found, limit = difference(batched, alone), LIMITS[self._precision]
        if found > limit:
            raise InseparableError(
                f"a batch gives its rows other gradients than they have alone (a difference of {found:.1e} of their "
                f"length, {limit:g} is allowed in {self._precision})"
            )

    def _one_by_one(
        self, batch: Mapping[str, Any], labels_BT: torch.Tensor, sink: GradientSink, losing: Losing
    ) -> SampleLosses:
        if len(labels_BT) != 1:
            raise ValueError(f"a batch of {len(labels_BT)} samples where one was asked for (max_batch)")
        scale = self._loss_scale()
        losses = self._backward(batch, labels_BT, scale, losing)
        for name, parameter in self.coverage.parameters.items():
            grad = self._gradients.of(parameter)
            grads_1n = torch.zeros(1, parameter.numel(), device=parameter.device)
            if grad is not None:
                grads_1n += grad.detach().reshape(1, -1).float() / scale
            sink.take(name, slice(0, 1), grads_1n)
        return losses

    def _backward(
        self, batch: Mapping[str, Any], labels_BT: torch.Tensor, scale: float, losing: Losing
    ) -> SampleLosses:
        self._gradients.clear()
        with self.accelerator.autocast() if self.accelerator is not None else contextlib.nullcontext():
            outputs = self.model(**model_inputs(self.model, batch))
            losses = sample_losses(output_logits(outputs, labels_BT, self.model), labels_BT)
        # Not the engine's or accelerator's backward: those scale, reduce and count accumulation steps.
        with collective(self.model, self.accelerator) if self._collective else contextlib.nullcontext():
            losing.total(losses).mul(scale).backward()
        return SampleLosses(losses.sums_B.detach(), losses.counts_B)

    def _loss_scale(self) -> float:
        scaler = getattr(self.accelerator, "scaler", None)
        if scaler is not None:
            return max(1.0, float(scaler.get_scale()) / _HEADROOM)
        deepspeed = getattr(self.accelerator, "deepspeed_engine_wrapped", None)
        if deepspeed is not None:  # which scales fp16 losses itself
            return max(1.0, float(getattr(deepspeed.engine.optimizer, "loss_scale", 1.0)) / _HEADROOM)
        return 1.0

    @contextlib.contextmanager
    def _prepared(self, alike: type[Exception] | tuple[type[Exception], ...] = ()) -> Iterator[None]:
        recording = contextlib.nullcontext() if self.reason else self._recorder.attached()
        with (
            self._gradients.apart(),
            quiet(self.model, keep_checkpointing=True),
            _without_gradient_hooks(self._trainable),
            recording,
            lockstep(self.model, self.accelerator, alike=alike),
            torch.enable_grad(),
        ):
            yield

    def _fall_back(self, reason: str) -> None:
        self.reason = reason
        if self._log:
            logger.warning(
                "gradients are measured one sample at a time, which is exact but several times slower: %s.%s",
                reason,
                " component_params.parameters: linear leaves those out." if reason == self.coverage.reason else "",
            )


@contextlib.contextmanager
def _without_gradient_hooks(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Nothing runs when a gradient has been accumulated: not ZeRO's reduction, nor a layerwise optimizer's step.

    The hooks are taken out of the parameters' own dictionaries, since handles that remove them refer to those.
    """
    owned = [getattr(parameter, "_post_accumulate_grad_hooks", None) or {} for parameter in parameters]
    kept = [dict(hooks) for hooks in owned]
    try:
        for hooks in owned:
            hooks.clear()
        yield
    finally:
        for hooks, before in zip(owned, kept, strict=True):
            hooks.update(before)
