"""Methods that classes written for PyPI dataflex 1.1.0 call on their base class ``Weighter``.

DataFlex itself calls neither: a class without a ``training_step`` of its own is weighed inside the Trainer's step.

Shapes: B samples, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


class OldWeighterMethods:
    """The mean loss of each sample, and a whole micro-batch with the weighted loss, as in 1.1.0."""

    get_weighted_loss: Callable[..., torch.Tensor]  # of the class itself

    def _per_sample_loss_from_logits(
        self, logits: torch.Tensor, labels: torch.Tensor, ignore_index: int = -100
    ) -> torch.Tensor:
        """Mean loss per target token of each row, with gradient.

        Args:
            logits: Of every position, ``[B, T, V]``.
            labels: Of every position, ``[B, T]``; those equal to ``ignore_index`` are no targets.
            ignore_index: Which label is none.

        Returns:
            Losses, ``[B]``; 0 for a row without targets.
        """
        from torch.nn import functional

        predicted_BVT = logits[..., :-1, :].transpose(1, 2)
        targets_BT = labels[..., 1:].long()
        losses_BT = functional.cross_entropy(predicted_BVT, targets_BT, reduction="none", ignore_index=ignore_index)
        counts_B = (targets_BT != ignore_index).sum(dim=1).clamp(min=1)
        return losses_BT.sum(dim=1) / counts_B

    def training_step(
        self,
        ctx: Any,
        model: nn.Module,
        inputs: Mapping[str, Any],
        num_items_in_batch: Any = None,
        use_weighter: bool = False,
    ) -> torch.Tensor:
        """Train on a micro-batch: for ``super().training_step(...)`` in a class with one of its own.

        Args:
            ctx: The Trainer.
            model: The model, as the Trainer wraps it.
            inputs: The micro-batch.
            num_items_in_batch: What the stock loss is divided by; ``None`` for a mean.
            use_weighter: Whether ``get_weighted_loss`` acts; otherwise, and for outputs without logits, it is the
                stock loss.

        Returns:
            The detached loss.
        """
        model.train()
        if callable(getattr(ctx.optimizer, "train", None)):
            ctx.optimizer.train()
        batch = ctx._prepare_inputs(inputs)
        labels = batch.get("labels")  # stock code may pop them
        with ctx.compute_loss_context_manager():
            loss, outputs = ctx.compute_loss(model, batch, num_items_in_batch=num_items_in_batch, return_outputs=True)
            losses_B = self._losses_of_samples(loss, outputs, labels) if use_weighter else None
        weighted = losses_B is not None
        if losses_B is not None:
            loss = self.get_weighted_loss(losses_B, ctx=ctx, model=model, inputs=batch)
        if weighted or num_items_in_batch is None:  # otherwise the stock loss is a share of the step already
            loss = loss / getattr(ctx, "current_gradient_accumulation_steps", ctx.args.gradient_accumulation_steps)
        deepspeed = str(getattr(ctx.accelerator.distributed_type, "value", "")) == "DEEPSPEED"
        ctx.accelerator.backward(loss, **({"scale_wrt_gas": False} if deepspeed else {}))
        detached: torch.Tensor = loss.detach()
        return detached

    def _losses_of_samples(self, loss: torch.Tensor, outputs: Any, labels: Any) -> torch.Tensor | None:
        if loss.dim() == 1:
            return loss
        logits = getattr(outputs, "logits", None)
        return None if logits is None or labels is None else self._per_sample_loss_from_logits(logits, labels)
