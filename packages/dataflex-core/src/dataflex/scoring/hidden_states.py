"""Hidden states of some layers of a model, without its head and without the layers above the deepest one needed.

Layers are numbered as transformers numbers ``hidden_states``: 0 is what enters the first block, k what leaves block k,
and the last one is what leaves the final norm. The model is called as a whole, so that parameters which are spread over
ranks are gathered; what is not needed is passed over by giving its modules another forward meanwhile.

Shapes: B rows of a batch, T tokens, h numbers of a token.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from dataflex.errors import ComponentError
from dataflex.scoring.inputs import call_arguments, model_inputs

Site = Literal["block", "attention"]
_SPREAD = 6
_ATTENTION = re.compile(r"^(self_|linear_)?(attn|attention)$|^mixer$")
_OTHER_TOWERS = re.compile(r"vis|image|audio|speech", re.IGNORECASE)


@dataclass(frozen=True)
class Decoder:
    """Where a model keeps what its hidden states pass through.

    Attributes:
        stack: The module that runs the blocks and, where there is one, the final norm.
        blocks: The blocks, in order.
        head: The module that makes logits; ``None`` if there is none.
    """

    stack: nn.Module
    blocks: nn.ModuleList
    head: nn.Module | None

    def layer(self, number: int) -> int:
        """A layer counted from the front, 0 to the number of blocks.

        Raises:
            ComponentError: when the model has no such layer.
        """
        last = len(self.blocks)
        found = number + last + 1 if number < 0 else number
        if not 0 <= found <= last:
            raise ComponentError(
                f"layer {number} was asked for; the model has layers 0 (what enters the first block) to {last}, or "
                f"-{last + 1} to -1. Correct component_params.embedding_layers."
            )
        return found

    def layers(self, numbers: Sequence[int]) -> list[int]:
        """Layers counted from the front; of no numbers five that are spread over the depth, fewer in a shallow model.

        Raises:
            ComponentError: when the model has no such layer.
        """
        depth = len(self.blocks)
        spread = sorted({max(1, math.floor(m * depth / _SPREAD + 0.5)) for m in range(1, _SPREAD)})
        return [self.layer(number) for number in numbers] or spread


def decoder_of(model: nn.Module) -> Decoder:
    """Find the blocks of a transformer.

    Raises:
        ComponentError: when it is an encoder with a decoder, or no list of blocks is found in it.
    """
    below_adapter = getattr(model, "get_base_model", None)  # PEFT
    base: Any = below_adapter() if callable(below_adapter) else model
    config: Any = getattr(base, "config", None)
    if getattr(config, "is_encoder_decoder", False):
        raise ComponentError(
            f"{type(base).__name__} is an encoder with a decoder; a row's embedding is made of one stack of layers. "
            "Name another model in component_params.embedding_model."
        )
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    depth = getattr(text, "num_hidden_layers", None)
    found = [
        (module, child)
        for name, module in base.named_modules()
        if not _OTHER_TOWERS.search(name)
        for part, child in module.named_children()
        if isinstance(child, nn.ModuleList) and len(child) and not _OTHER_TOWERS.search(part)
        if depth is None or len(child) == depth
    ]
    if not found:
        raise ComponentError(
            f"no list of {depth or 'any'} blocks was found in {type(base).__name__}: its hidden states cannot be read. "
            "Name another model in component_params.embedding_model."
        )
    known = base.get_decoder() if hasattr(base, "get_decoder") else None
    stack, blocks = next((each for each in found if each[0] is known), None) or max(found, key=_size)
    head = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    return Decoder(stack, blocks, head)


class HiddenStates:
    """Reads layers of a model; a context manager, within which the model is changed.

    Args:
        model: The model, in evaluation mode (:func:`dataflex.scoring.quiet.evaluating`).
        layers: Numbers of layers, each counted from the front or, if negative, from the end; none for a spread.
        site: ``block``: what leaves a block. ``attention``: what leaves the attention of block k, after its output
            projection.

    Raises:
        ComponentError: when the model has no such layer, or blocks of another kind.
    """

    def __init__(self, model: nn.Module, layers: Sequence[int], site: Site = "block") -> None:
        self._model, self._site = model, site
        self._decoder = decoder_of(model)
        self._layers = self._decoder.layers(layers)
        if site == "attention" and 0 in self._layers:
            raise ComponentError("layer 0 is what enters the first block: it has no attention. Take layers from 1 on.")
        self._seen: dict[int, torch.Tensor] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> HiddenStates:
        blocks, deepest = self._decoder.blocks, max(self._layers)
        with contextlib.ExitStack() as stack:
            for layer in set(self._layers):
                stack.callback(self._watch(layer).remove)
            shape = _Shape()
            if 0 < deepest < len(blocks):
                stack.callback(blocks[deepest - 1].register_forward_hook(shape.learn).remove)
            for block in blocks[deepest:]:
                stack.enter_context(_forward(block, shape.passing(block)))
            if self._decoder.head is not None:
                stack.enter_context(_forward(self._decoder.head, lambda hidden, *_, **__: hidden))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        self._seen.clear()
        self._stack.close()

    def of(self, batch: Mapping[str, Any]) -> list[torch.Tensor]:
        """The layers' hidden states of a batch, each of shape [B, T, h].

        Raises:
            ComponentError: when the model did not pass through a layer.
        """
        self._seen.clear()
        inputs = model_inputs(self._model, batch)
        if "output_router_logits" in call_arguments(self._model):
            inputs["output_router_logits"] = False  # of blocks that are passed over there are none
        self._model(**inputs)
        missing = [layer for layer in self._layers if layer not in self._seen]
        if missing:
            raise ComponentError(
                f"{type(self._model).__name__} did not pass through layer {missing[0]}, so it cannot be read. Name "
                "another layer in component_params.embedding_layers."
            )
        length = batch["input_ids"].shape[1]
        return [self._seen[layer][:, -length:] for layer in self._layers]  # virtual tokens of an adapter stand in front

    def _watch(self, layer: int) -> Any:
        decoder = self._decoder

        def entering(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._seen[layer] = args[0] if args else kwargs["hidden_states"]

        def leaving(_: nn.Module, __: Any, output: Any) -> None:
            self._seen[layer] = _first(output)

        if layer == 0:
            return decoder.blocks[0].register_forward_pre_hook(entering, with_kwargs=True)
        if self._site == "attention":
            return _attention(decoder.blocks[layer - 1]).register_forward_hook(leaving)
        if layer == len(decoder.blocks):
            return decoder.stack.register_forward_hook(leaving)
        return decoder.blocks[layer - 1].register_forward_hook(leaving)


class HeadInput:
    """The last hidden states of whatever forward runs meanwhile: what enters the model's head. A context manager.

    Nothing else of the forward changes, so it may be a training forward.

    Args:
        model: The unwrapped model.
        skip_head: Pass over the head, whose logits nobody needs.

    Raises:
        ComponentError: when the model has no head to look at.
    """

    def __init__(self, model: nn.Module, *, skip_head: bool = False) -> None:
        self._head, self._skip = _head_of(model), skip_head
        self._seen: torch.Tensor | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> HeadInput:
        with contextlib.ExitStack() as stack:
            stack.callback(self._head.register_forward_pre_hook(self._see, with_kwargs=True).remove)
            if self._skip:
                stack.enter_context(_forward(self._head, lambda hidden, *_, **__: hidden))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        self._seen = None
        self._stack.close()

    def take(self, length: int) -> torch.Tensor:
        """Those of the latest forward, detached, shape [B, T, h]; let go of here.

        Args:
            length: T, the tokens of a row in the batch; virtual tokens of an adapter stand in front.

        Raises:
            ComponentError: when the head was not called, or not for every token.
        """
        seen, self._seen = self._seen, None
        if seen is None or seen.ndim != 3 or seen.shape[1] < length:
            found = "was not called" if seen is None else f"was given {list(seen.shape)} for rows of {length} tokens"
            raise ComponentError(
                f"the model's output embeddings ({type(self._head).__name__}) {found}, so the hidden states of its "
                "tokens cannot be read. Use a component that needs none."
            )
        return seen[:, -length:]

    def _see(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        entering = args[0] if args else next(iter(kwargs.values()), None)
        self._seen = entering.detach() if isinstance(entering, torch.Tensor) else None


def _head_of(model: nn.Module) -> nn.Module:
    below_adapter = getattr(model, "get_base_model", None)  # PEFT
    base: Any = below_adapter() if callable(below_adapter) else model
    head = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    if not isinstance(head, nn.Module):
        raise ComponentError(
            f"{type(base).__name__} has no output embeddings, before which its hidden states could be read. Use a "
            "component that needs none."
        )
    return head


class _Shape:
    """What a block returns: a tensor, or a tuple that begins with it."""

    def __init__(self) -> None:
        self._known = False
        self._rest: tuple[Any, ...] | None = None

    def learn(self, _: nn.Module, __: Any, output: Any) -> None:
        """See what a block returned."""
        self._known, self._rest = True, tuple(output[1:]) if isinstance(output, tuple) else None

    def passing(self, block: nn.Module) -> Callable[..., Any]:
        """A forward that hands on what it is given.

        Without a block before it, a block that may return a tuple runs once, to see whether it does.
        """
        forward = block.forward
        said = str(inspect.signature(type(block).forward).return_annotation).lower()
        plain = "tensor" in said and "tuple" not in said

        def passed_through(*args: Any, **kwargs: Any) -> Any:
            if not self._known and not plain:
                output = forward(*args, **kwargs)
                self.learn(block, args, output)
                return output
            hidden = args[0] if args else kwargs["hidden_states"]
            return hidden if self._rest is None else (hidden, *self._rest)

        return passed_through


def _first(output: Any) -> torch.Tensor:
    found = getattr(output, "last_hidden_state", None)
    if found is None:
        found = output[0] if isinstance(output, (tuple, list)) else output
    if not isinstance(found, torch.Tensor):
        raise ComponentError(f"a layer returned {type(found).__name__}, not hidden states, so it cannot be read.")
    return found


def _attention(block: nn.Module) -> nn.Module:
    found = [child for name, child in block.named_children() if _ATTENTION.match(name)]
    if not found:
        raise ComponentError(
            f"no attention was found in {type(block).__name__} (it holds: "
            f"{', '.join(name for name, _ in block.named_children())}). Read blocks instead of attention."
        )
    return found[0]


@contextlib.contextmanager
def _forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    own = module.__dict__.get("forward")
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        if own is None:
            module.__dict__.pop("forward", None)
        else:
            module.__dict__["forward"] = own


def _size(found: tuple[nn.Module, nn.ModuleList]) -> int:
    return sum(parameter.numel() for parameter in found[1].parameters())
