"""How a mixture of experts routes the tokens of some rows.

Shapes: B rows of a batch, T tokens, L layers, E experts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dataflex import ComponentError, ConfigError
from dataflex.scoring.inputs import call_arguments, model_inputs
from dataflex.scoring.pooling import real_tokens
from dataflex.scoring.quiet import evaluating

Floats = npt.NDArray[np.float64]
_SWITCH = "output_router_logits"
_HOOKED = "_output_capturing_hooks_installed"  # by which transformers knows that it has added its hooks


@contextlib.contextmanager
def without_new_hooks(model: nn.Module) -> Iterator[None]:
    """Take away the hooks that this block leaves on a model.

    transformers 5 records router logits by hooks, which it adds at the first forward that asks for them and keeps.
    """
    kept = [(module, set(module._forward_hooks), _HOOKED in vars(module)) for module in model.modules()]
    try:
        yield
    finally:
        for module, hooks, hooked in kept:
            for number in set(module._forward_hooks) - hooks:
                del module._forward_hooks[number]
            if not hooked:
                vars(module).pop(_HOOKED, None)


def routing(model: nn.Module, batch: Mapping[str, Any]) -> Sequence[torch.Tensor]:
    """Router logits of each layer that has experts, shape [B * T, E].

    Raises:
        ConfigError: when the model gives none.
    """
    found = None
    if _SWITCH in call_arguments(model):
        found = getattr(model(**{**model_inputs(model, batch), _SWITCH: True}), "router_logits", None)
    layers = [logits for logits in found or () if isinstance(logits, torch.Tensor)]
    if not layers:
        below_adapter = getattr(model, "get_base_model", None)  # PEFT
        base = below_adapter() if callable(below_adapter) else model
        raise ConfigError(
            f"mixer 'dynamic_moe' counts the tokens that experts are sent, and {type(base).__name__} returns no "
            "router_logits. Use a mixture of experts of transformers that does (Mixtral, Qwen-MoE, OLMoE), or another "
            "mixer."
        )
    return layers


def experts_of(model: nn.Module, batch: Mapping[str, Any]) -> tuple[int, int]:
    """L and E, by a forward pass of one batch."""
    with evaluating(model):
        layers = routing(model, batch)
    return len(layers), int(layers[-1].shape[-1])


def chosen_experts(model: nn.Module) -> int:
    """How many experts each token is sent to.

    Raises:
        ConfigError: when the configuration does not say.
    """
    config: Any = getattr(model, "config", None)
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    for name in ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k"):
        if isinstance(found := getattr(config, name, None), int):
            return found
    raise ConfigError(
        f"the configuration of {type(model).__name__} does not say how many experts a token is sent to (it has no "
        "num_experts_per_tok), so mixer 'dynamic_moe' cannot count them. Use another mixer."
    )


def counting(layers: slice, top: int) -> Callable[[nn.Module, Mapping[str, Any]], torch.Tensor]:
    """A function for ``context.score``: tokens of each row that each expert of each layer is sent, shape [B, L * E].

    Padding is not counted. NaN stands for a row whose routing is not finite.
    """

    def counts(model: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        real_BT = real_tokens(batch)
        found = []
        for logits in routing(model, batch)[layers]:
            logits_BTE = logits.float().reshape(*real_BT.shape, -1)
            real_BT1 = real_BT.to(logits_BTE.device).unsqueeze(-1)
            sent_BTE = torch.zeros_like(logits_BTE).scatter_(2, logits_BTE.topk(top, dim=-1).indices, 1.0) * real_BT1
            broken_B = (~torch.isfinite(logits_BTE) & real_BT1).flatten(1).any(dim=1)
            found.append(sent_BTE.sum(dim=1).masked_fill(broken_B.unsqueeze(1), torch.nan))
        return torch.cat(found, dim=1)

    return counts


def differences(loads_KE: Floats) -> Floats:
    """``mean_j |O_d - O_j|``, itself included, O being each domain's loads over their sum; shape [K].

    Raises:
        ComponentError: when a domain has no load.
    """
    totals_K1 = loads_KE.sum(axis=1, keepdims=True)
    if not (totals_K1 > 0).all():  # NaN included
        raise ComponentError("a domain sends no token to any expert, or its routing is not finite. Look at the loss.")
    shares_KE = loads_KE / totals_K1
    apart_KK = np.linalg.norm(shares_KE[:, None] - shares_KE[None], axis=2)
    mean: Floats = apart_KK.mean(axis=1)
    return mean


def reweighted(proportions_K: Floats, differences_K: Floats, *, eta: float, smoothing: float) -> Floats:
    """``(1 - c) softmax(ln w + eta Delta) + c / K``; a domain of share 0 gets its part of ``c`` alone."""
    weights_K = proportions_K * np.exp(eta * (differences_K - differences_K.max()))
    moved: Floats = (1 - smoothing) * weights_K / weights_K.sum() + smoothing / len(weights_K)
    moved /= moved.sum()
    return moved
