"""Answers of the model in training: sampled from what it predicts now, with a private stream for each row.

    prompts --by length--> batches without padding --token after token, with a cache--> answers

A token is the inverse of the cumulative probabilities at a number drawn from the row's own stream, so neither the batch
nor the rank that a row is sampled in has a part in its answers, but for rounding.

Shapes: B sequences of a batch, T tokens, V vocabulary.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dataflex import ComponentError
from dataflex.data.scoring_loader import default_token_budget
from dataflex.scoring.inputs import call_arguments
from dataflex.scoring.quiet import evaluating

Tokens = list[int]


@dataclass(frozen=True)
class Sampling:
    """How answers are sampled.

    Attributes:
        count: Answers of each prompt.
        most: Tokens of an answer at most.
        temperature: Logits are divided by it.
        top_p: Share of the probability that is sampled from.
        stop: Tokens that end an answer, and are its last.
        token_budget: Tokens of one batch, those to be sampled included; ``None`` for what suits the device.
    """

    count: int
    most: int
    temperature: float = 1.0
    top_p: float = 1.0
    stop: frozenset[int] = frozenset()
    token_budget: int | None = None


def sample(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    streams: Sequence[np.random.Generator],
    how: Sampling,
    *,
    device: torch.device,
    accelerator: Any = None,
    done: Callable[[int], None] = lambda rows: None,
) -> list[list[Tokens]]:
    """Sample answers, the model quiet meanwhile and without gradient.

    Args:
        model: The unwrapped model.
        prompts: Tokens, at least one each.
        streams: Of each prompt, where its numbers come from.
        how: How.
        device: Where the model is.
        accelerator: The run's accelerator, whose autocast is used; or ``None``.
        done: Told how many prompts have been answered, batch by batch.

    Returns:
        By prompt, its answers.

    Raises:
        ComponentError: when memory runs out or the model returns no logits.
    """
    answers: list[list[Tokens]] = [[] for _ in prompts]
    drawn = [stream.random((how.count, how.most)) for stream in streams]
    with evaluating(model), accelerator.autocast() if accelerator is not None else contextlib.nullcontext():
        for places in _batches(prompts, how, device):
            numbers = np.concatenate([drawn[place] for place in places])
            repeated = [list(prompts[place]) for place in places for _ in range(how.count)]
            try:
                found = _continue(model, torch.tensor(repeated, device=device), numbers, how)
            except torch.cuda.OutOfMemoryError as error:
                raise ComponentError(
                    f"sampling ran out of memory on {len(repeated)} answers of up to {len(repeated[0]) + how.most} "
                    "tokens. Lower component_params.token_budget, mc_samples or max_new_tokens."
                ) from error
            for number, place in enumerate(places):
                answers[place] = found[number * how.count : (number + 1) * how.count]
            done(len(places))
    return answers


def choose(logits_BV: torch.Tensor, numbers_B: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """The tokens at which the cumulative probabilities pass numbers between 0 and 1, shape [B].

    Args:
        logits_BV: Logits.
        numbers_B: fp64.
        temperature: Logits are divided by it.
        top_p: The likeliest tokens that hold this share of the probability are sampled from, at least one.
    """
    probabilities_BV = (logits_BV.double() / temperature).softmax(dim=-1)
    if top_p < 1:
        sorted_BV, order_BV = probabilities_BV.sort(dim=-1, descending=True, stable=True)
        before_BV = sorted_BV.cumsum(dim=-1) - sorted_BV
        kept_BV = sorted_BV.masked_fill(before_BV >= top_p, 0.0)
        probabilities_BV = torch.zeros_like(kept_BV).scatter(-1, order_BV, kept_BV)
    cumulative_BV = probabilities_BV.cumsum(dim=-1)
    wanted_B1 = numbers_B[:, None] * cumulative_BV[:, -1:]
    places_B1 = torch.searchsorted(cumulative_BV, wanted_B1, right=True)
    return places_B1[:, 0].clamp(max=logits_BV.shape[-1] - 1)


def stop_tokens(model: nn.Module, tokenizer: Any) -> frozenset[int]:
    """What ends an answer, by the tokenizer and the model's own settings; empty where neither says."""
    found: set[int] = set()
    own = getattr(tokenizer, "tokenizer", tokenizer)
    for owner in (own, getattr(model, "generation_config", None)):
        given = getattr(owner, "eos_token_id", None)
        found |= {int(token) for token in (given if isinstance(given, (list, tuple)) else [given]) if token is not None}
    return frozenset(found)


def _batches(prompts: Sequence[Sequence[int]], how: Sampling, device: torch.device) -> list[list[int]]:
    """Places of prompts of one length each, longest first, so that running out of memory shows at once."""
    budget = how.token_budget or default_token_budget(device)
    by_length: dict[int, list[int]] = {}
    for place, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(place)
    found = []
    for length in sorted(by_length, reverse=True):
        size = max(1, budget // ((length + how.most) * how.count))
        places = by_length[length]
        found += [places[start : start + size] for start in range(0, len(places), size)]
    return found


def _continue(
    model: nn.Module, tokens_BT: torch.Tensor, numbers: npt.NDArray[np.float64], how: Sampling
) -> list[Tokens]:
    device, accepted = tokens_BT.device, call_arguments(model)
    numbers_BL = torch.as_tensor(numbers, device=device)
    stop = torch.tensor(sorted(how.stop), dtype=torch.long, device=device)
    ended_B = torch.zeros(len(tokens_BT), dtype=torch.bool, device=device)
    # The virtual tokens of prompt learning stand in front of every call, so each has to be of the whole text.
    virtual = bool(getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False))
    options: dict[str, Any] = {"use_cache": not virtual} if "use_cache" in accepted else {}
    if "logits_to_keep" in accepted:
        options["logits_to_keep"] = 1
    inputs, cache, sampled = tokens_BT, None, []
    for place in range(how.most):
        if cache is not None:
            options["past_key_values"] = cache
        outputs = model(input_ids=inputs, attention_mask=torch.ones_like(tokens_BT), **options)
        logits = getattr(outputs, "logits", None)
        if logits is None:
            raise ComponentError(f"{type(model).__name__} returned no logits, so no answer can be sampled from it.")
        token_B = choose(logits[:, -1], numbers_BL[:, place], how.temperature, how.top_p)
        sampled.append(token_B)
        ended_B = ended_B | torch.isin(token_B, stop)
        if bool(ended_B.all()):
            break
        cache = None if virtual else getattr(outputs, "past_key_values", None)
        tokens_BT = torch.cat([tokens_BT, token_B[:, None]], dim=1)
        inputs = tokens_BT if cache is None else token_B[:, None]
    return [_until(row, how.stop) for row in torch.stack(sampled, dim=1).tolist()]


def _until(tokens: Tokens, stop: frozenset[int]) -> Tokens:
    end = next((place for place, token in enumerate(tokens) if token in stop), len(tokens) - 1)
    return tokens[: end + 1]
