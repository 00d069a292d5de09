"""Whether the loss that is scored is the one the model would be trained with.

Scores are of the mean next-token loss of a row, taken from the logits: label ``t + 1`` is what position ``t`` predicts.
Some models compute another loss in their forward, and scores of the one would say nothing of the other.

Shapes: B samples of a batch, T tokens.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dataflex.data.scoring_loader import ScoringLoader
from dataflex.errors import ComponentError
from dataflex.lockstep import lockstep
from dataflex.math.losses import IGNORE_INDEX, output_logits, sample_losses
from dataflex.scoring.inputs import batch_labels, call_arguments, model_inputs, trimmed
from dataflex.scoring.quiet import evaluating
from dataflex.spread import is_spread

_ROUNDING = 1e-3  # of a loss: both are of the same logits, but a model may take its own in half precision
_TRIED = 64  # rows among which one has two target tokens, or else nothing can be compared
_ROUTER = "output_router_logits"


def refuse_own_loss(
    model: nn.Module,
    dataset: Any,
    collator: Callable[[Sequence[Any]], Mapping[str, Any]],
    rows: npt.NDArray[np.int64],
    device: torch.device,
    accelerator: Any = None,
) -> None:
    """Refuse a model whose own loss is not the next-token loss.

    Only a model of transformers is asked, and of those one whose forward does not call the common loss function: by the
    loss it gives one row, the first of some that has two target tokens. Terms beside that loss, which are left out (see
    :func:`left_out`), do not count. All ranks must call it, with the same rows.

    Args:
        model: The unwrapped model; with an adapter or without.
        dataset: The pool.
        collator: A list of rows to one batch.
        rows: The rows that will be scored.
        device: Where the model is.
        accelerator: The run's accelerator, whose autocast is used; or ``None``.

    Raises:
        ComponentError: naming the model's class and both losses.
    """
    if _without_adapter(model) is None or "labels" not in call_arguments(model) or _has_the_common_loss(_base(model)):
        return
    for row in rows[:_TRIED].tolist():
        loader = ScoringLoader(dataset, collator, [row], device=device)
        batch = trimmed(next(iter(loader))[1])
        labels_1T = batch_labels(batch)
        refuse_first_targets(model, labels_1T)
        if int(labels_1T[:, 1:].ne(IGNORE_INDEX).sum()) > 1:
            _compare(model, batch, labels_1T, accelerator)
            return


def objective_of(model: nn.Module) -> str:
    """A name for models whose own loss is the same function: one check of it is enough."""
    return f"{type(model).__qualname__} of {type(_base(model)).__qualname__}"


def _compare(model: nn.Module, batch: Mapping[str, Any], labels_1T: torch.Tensor, accelerator: Any) -> None:
    # Of a spread model the whole is called, never a part of it.
    bare, accepted = model if is_spread(model) else _without_adapter(model), call_arguments(model)
    inputs = model_inputs(model, batch)
    if _ROUTER in accepted:
        inputs[_ROUTER] = False
    with (
        evaluating(model),
        lockstep(model, accelerator),
        accelerator.autocast() if accelerator is not None else contextlib.nullcontext(),
    ):
        outputs = bare(**inputs, labels=labels_1T)
        own = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
        if not isinstance(own, torch.Tensor) or own.numel() != 1:
            return
        expected = sample_losses(output_logits(outputs, labels_1T, model), labels_1T).means
    ours, theirs = float(expected), float(own)
    if abs(ours - theirs) > _ROUNDING * max(abs(ours), abs(theirs)):
        raise ComponentError(
            f"{type(_base(model)).__name__} computes a loss of its own: {theirs:.4f} for a row whose next-token loss "
            f"is {ours:.4f}. Components that score the next-token loss would score something else than this model is "
            "trained with; use component_name: random, or a model that is trained with the next-token loss."
        )


def refuse_first_targets(model: nn.Module, labels_BT: torch.Tensor) -> None:
    """Refuse rows whose first token is a target under prompt tuning, where the virtual tokens before it predict it.

    Raises:
        ComponentError: naming the kind of adapter.
    """
    kind = virtual_tokens(model)
    if kind and bool(labels_BT[:, 0].ne(IGNORE_INDEX).any()):
        raise ComponentError(
            f"under {kind} the first token of a row is predicted by virtual tokens, and here it is a target, as in "
            "stage: pt or with train_on_prompt: true. Components that score the next-token loss leave it out, so they "
            "would score something else than the model is trained with. Use stage: sft, another adapter, or "
            "component_name: random."
        )


def virtual_tokens(model: nn.Module) -> str:
    """Kind of an adapter that puts virtual tokens before the text (``PROMPT_TUNING``, ``P_TUNING``), else ``""``."""
    config = getattr(model, "active_peft_config", None)
    if config is None or not getattr(config, "is_prompt_learning", False):
        return ""
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    return "" if kind == "PREFIX_TUNING" else kind


def left_out(model: nn.Module) -> list[str]:
    """Terms that the model adds to its loss in training and that scores leave out, as a reader would call them."""
    return [*_router_losses(model), *_adapter_terms(model)]


def _router_losses(model: nn.Module) -> Iterator[str]:
    config = getattr(model, "config", None)
    for part in (config, getattr(config, "text_config", None)):
        weight = getattr(part, "router_aux_loss_coef", 0)
        if getattr(part, _ROUTER, False) and weight:
            yield f"the router's loss (router_aux_loss_coef: {weight:g})"
            return


def _adapter_terms(model: nn.Module) -> Iterator[str]:
    configs = getattr(model, "peft_config", None)
    for config in configs.values() if isinstance(configs, Mapping) else ():
        weight = getattr(config, "orth_reg_weight", 0)
        if weight:
            yield f"AdaLoRA's orthogonality term (orth_reg_weight: {weight:g})"
            return


def _without_adapter(model: nn.Module) -> Any:
    """What computes the bare loss: an adapter's own class may add to it. ``None`` if transformers did not make it."""
    base = _base(model)
    if not any(each.__name__ == "PreTrainedModel" for each in type(base).__mro__):
        return None
    return model if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False) else base


def _has_the_common_loss(base: Any) -> bool:
    """Whether a forward hands logits and unshifted labels to transformers' next-token loss."""
    try:
        source = inspect.getsource(type(base).forward)
    except (OSError, TypeError):
        return False
    common = getattr(getattr(base, "loss_function", None), "__name__", "") == "ForCausalLMLoss"
    return common and "loss_function(" in source and "shift_labels" not in source


def _base(model: nn.Module) -> Any:
    below_adapter = getattr(model, "get_base_model", None)
    return below_adapter() if callable(below_adapter) else model
