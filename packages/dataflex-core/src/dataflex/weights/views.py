"""A model's tensors under the names and shapes that they have in files.

transformers 5 keeps some models otherwise in memory than in files (experts fused, ``visual.`` below ``model.``); 4.52
began it with vision models. A view asks transformers what it would write now, so it is right wherever saving is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

Tensors = dict[str, torch.Tensor]
Identity = tuple[object, ...]


@dataclass(frozen=True)
class View:
    """What a model would write.

    Attributes:
        tensors: By the name in the file; tied tensors under each of their names. On the meta device where this rank
            does not hold the whole tensor (ZeRO-3, FSDP), and then of the whole tensor's shape.
        unsaved: Names in memory of trainable tensors that are not among them.
        optional: :func:`identity` of tensors that a file may lack: nothing trains them, transformers computes them.
        converts: Whether the model's tensors have other names or shapes in memory, so that the Trainer's own
            ``load_state_dict`` cannot load such a file.
    """

    tensors: Mapping[str, torch.Tensor]
    unsaved: tuple[str, ...] = ()
    optional: frozenset[Identity] = frozenset()
    converts: bool = False


def identity(tensor: torch.Tensor) -> Identity:
    """The same for two tensors exactly if they are one: tied weights are."""
    place = 0 if tensor.is_meta else tensor.data_ptr()
    return (place, tuple(tensor.shape), tensor.stride()) if place else (id(tensor),)


def identities(tensors: Iterable[torch.Tensor]) -> frozenset[Identity]:
    """:func:`identity` of each."""
    return frozenset(map(identity, tensors))


def model_views(model: nn.Module) -> list[View]:
    """How a whole model may lie in a file: as transformers would save it, and as it is in memory.

    The second is another one only for models that transformers converts; files in that format exist, too
    (``save_original_format=False``).
    """
    memory = in_memory(model)
    ignored = set(getattr(model, "_keys_to_ignore_on_save", None) or ())
    kept = {name: tensor for name, tensor in memory.items() if name not in ignored}
    unsaved, trainable = _unsaved(model, memory, kept.values()), _trainable(model)
    may_lack = _matching(kept, getattr(model, "_keys_to_ignore_on_load_missing", None))
    optional = identities(kept[name] for name in may_lack if name not in trainable)
    stock, converted = View(kept, unsaved, optional), _as_saved(model, kept)
    same = converted.keys() == kept.keys() and all(identity(converted[n]) == identity(kept[n]) for n in kept)
    return [stock] if same else [View(converted, unsaved, optional, converts=True), stock]


def adapter_view(model: Any, adapter: str) -> View:
    """What PEFT would write of one adapter, with the modules that are saved beside it."""
    from peft.utils import get_peft_model_state_dict

    memory = in_memory(model)
    tensors = get_peft_model_state_dict(model, state_dict=memory, adapter_name=adapter)
    tensors = {name: tensor.detach() for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}
    # What is saved may be computed from what is trained; then a trained tensor cannot be told from a forgotten one.
    computed = bool(identities(tensors.values()) - identities(memory.values()))
    return View(tensors, () if computed or len(model.peft_config) > 1 else _unsaved(model, memory, tensors.values()))


def in_memory(model: nn.Module) -> Tensors:
    """The tensors of a model's state under their names in memory, not copied; tied ones are one object."""
    detached: dict[int, torch.Tensor] = {}
    tensors: Tensors = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if isinstance(tensor, torch.Tensor):  # a quantised or fused module may keep other things there
            tensors[name] = detached.setdefault(id(tensor), _whole(tensor))
    return tensors


def on_meta(view: View) -> View:
    """The same names and shapes, without the numbers: what stays known of a model that will be sharded."""
    twins: dict[Identity, torch.Tensor] = {}
    tensors = {
        name: twins.setdefault(identity(t), torch.empty_like(t, device="meta")) for name, t in view.tensors.items()
    }
    optional = frozenset(identity(twins[key]) for key in view.optional if key in twins)
    return View(tensors, view.unsaved, optional, view.converts)


def whole_here(model: nn.Module) -> bool:
    """Whether this rank holds every tensor in full, so that values can be compared."""
    return not any(hasattr(tensor, "ds_shape") or _is_distributed(tensor) for tensor in model.parameters())


def tolerated(model: nn.Module, names: Iterable[str]) -> set[str]:
    """Those names of a file's tensors that transformers passes over on purpose, such as buffers of older releases."""
    patterns = list(getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ())
    buffers = [name for name, _ in model.named_buffers()]
    if any(name.endswith("rotary_emb.inv_freq") for name in buffers):
        patterns.append(r"rotary_emb\.inv_freq")
    if any(name.endswith("position_ids") for name in buffers):
        patterns.append(r"(^|\.)position_ids$")
    return set(_matching(names, patterns))


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    if hasattr(tensor, "ds_shape"):  # DeepSpeed's ZeRO-3: this rank holds a part
        return torch.empty(tuple(tensor.ds_shape), dtype=tensor.dtype, device="meta")
    if _is_distributed(tensor):  # FSDP2: its shape is the whole tensor's
        return torch.empty(tuple(tensor.shape), dtype=tensor.dtype, device="meta")
    return tensor.detach()


def _is_distributed(tensor: torch.Tensor) -> bool:
    return hasattr(tensor, "placements")


def _as_saved(model: nn.Module, tensors: Tensors) -> Tensors:
    try:
        from transformers.core_model_loading import revert_weight_conversion
    except ImportError:  # transformers 4
        return _renamed(tensors, getattr(model, "_checkpoint_conversion_mapping", None) or {})
    if not hasattr(model, "config"):
        return tensors
    converted: Any = model
    with torch.no_grad():
        return dict(revert_weight_conversion(converted, dict(tensors)))


def _renamed(tensors: Tensors, mapping: Mapping[str, str]) -> Tensors:
    """What ``save_pretrained`` of transformers 4.52 to 4.57 does for a vision model: patterns the other way round."""
    backward = [(pattern, re.sub(r"\(.*\)", "", name.lstrip("^"))) for name, pattern in mapping.items()]

    def saved(name: str) -> str:
        for pattern, replacement in backward:
            name, replaced = re.subn(pattern, replacement, name)
            if replaced:
                break
        return name

    return {saved(name): tensor for name, tensor in tensors.items()}


def _trainable(model: nn.Module) -> set[str]:
    return {name for name, tensor in model.named_parameters(remove_duplicate=False) if tensor.requires_grad}


def _unsaved(model: nn.Module, memory: Tensors, saved: Iterable[torch.Tensor]) -> tuple[str, ...]:
    there = identities(saved)
    return tuple(name for name in sorted(_trainable(model) & memory.keys()) if identity(memory[name]) not in there)


def _matching(names: Iterable[str], patterns: Iterable[str] | None) -> Iterator[str]:
    if patterns:
        compiled = [re.compile(pattern) for pattern in patterns]
        yield from (name for name in names if any(pattern.search(name) for pattern in compiled))
