"""From validation rows to what candidates are compared with: sampled answers, weighted by their rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dataflex import ComponentError, RunContext
from dataflex.components.passes import Subtask
from dataflex.distributed import all_gather, together
from dataflex.gradients.grouped import GroupedSubtask
from dataflex.math.losses import IGNORE_INDEX
from dataflex.scoring.cutting import has_media
from dataflex.scoring.validation import names_of
from dataflex_selectors_nice.judging import Judge
from dataflex_selectors_nice.params import NiceParams
from dataflex_selectors_nice.rewards import advantages
from dataflex_selectors_nice.sampling import Sampling, sample, stop_tokens

Tokens = list[int]


@dataclass(frozen=True)
class Judged:
    """The answers of one validation row.

    Attributes:
        prompt: Its tokens.
        answers: Tokens of each answer.
        rewards: What each is worth.
    """

    prompt: Tokens
    answers: list[Tokens]
    rewards: list[float]


@dataclass(frozen=True)
class Aim:
    """What candidates are compared with.

    Attributes:
        subtasks: By target, one group of answers for each row that has a signal.
        judged: By target, all rows that were answered.
        left_out: Validation rows without an answer of their own or without a prompt.
    """

    subtasks: list[GroupedSubtask]
    judged: list[list[Judged]]
    left_out: int


def split(features: Mapping[str, Any]) -> tuple[Tokens, Tokens]:
    """Prompt and reference of a row: the tokens before its last span of targets, and that span.

    Either is empty where there is none.
    """
    tokens, labels = np.asarray(features["input_ids"]), np.asarray(features["labels"])
    (targets,) = np.nonzero(labels != IGNORE_INDEX)
    if not len(targets):
        return tokens.tolist(), []
    end = int(targets[-1]) + 1
    before = np.flatnonzero(labels[:end] == IGNORE_INDEX)
    start = int(before[-1]) + 1 if len(before) else 0
    return tokens[:start].tolist(), tokens[start:end].tolist()


def aim(
    context: RunContext,
    params: NiceParams,
    judge: Judge,
    model: torch.nn.Module,
    subtasks: Sequence[Subtask],
    step: int,
) -> Aim:
    """Sample answers to the rows of the targets, and have them judged. All ranks call it; each takes a share.

    Raises:
        ComponentError: on every rank, when one fails, rows come with pictures, or no answer of a target was better
            than another.
    """
    names, accelerator = names_of(subtasks), context.accelerator
    wanted = [(target, int(row)) for target, subtask in enumerate(subtasks) for row in subtask.rows]
    mine = list(enumerate(wanted))[context.rank :: context.world_size]
    own: dict[int, Judged] = {}
    with together("sampling answers", accelerator):
        pairs = {}
        for subtask in subtasks:
            if has_media(subtask.dataset):
                raise ComponentError(f"nice samples answers to texts, and the eval set {subtask.name!r} has pictures.")
        for place, (target, row) in mine:
            prompt, reference = split(subtasks[target].dataset[row])
            if prompt and reference:
                pairs[place] = prompt, reference
        streams = [context.rng(step, "answers", names[wanted[place][0]], wanted[place][1]) for place in pairs]
        how = Sampling(
            params.mc_samples,
            params.max_new_tokens,
            params.generation_temperature,
            params.top_p,
            stop_tokens(model, context.tokenizer),
            params.token_budget,
        )
        device = next(model.parameters()).device
        prompts = [prompt for prompt, _ in pairs.values()]
        answers = sample(model, prompts, streams, how, device=device, accelerator=accelerator)
        for (place, (prompt, reference)), tokens in zip(pairs.items(), answers, strict=True):
            texts = [_text(context.tokenizer, each) for each in tokens]
            given = judge.rewards(_text(context.tokenizer, prompt), texts, _text(context.tokenizer, reference))
            own[place] = Judged(prompt, tokens, given)
        judge.free()
    found: dict[int, Judged] = {}
    for part in all_gather(own, accelerator):
        found |= part
    judged: list[list[Judged]] = [[] for _ in subtasks]
    for place in sorted(found):
        judged[wanted[place][0]].append(found[place])
    grouped = [_grouped(name, rows, params) for name, rows in zip(names, judged, strict=True)]
    return Aim(grouped, judged, len(wanted) - len(found))


def signal(rewards: Sequence[float], params: NiceParams) -> npt.NDArray[np.float64]:
    """Weight of each answer of a row: its advantage by the number of answers."""
    return np.asarray(advantages(rewards, params.baseline)) / len(rewards)


def _grouped(name: str, judged: Sequence[Judged], params: NiceParams) -> GroupedSubtask:
    rows: list[dict[str, Tokens]] = []
    groups: list[int] = []
    weights: list[float] = []
    for group, each in enumerate(judged):
        for answer, weight in zip(each.answers, signal(each.rewards, params).tolist(), strict=True):
            if weight:
                tokens = each.prompt + answer
                labels = [IGNORE_INDEX] * len(each.prompt) + answer
                rows.append({"input_ids": tokens, "attention_mask": [1] * len(tokens), "labels": labels})
                groups.append(group)
                weights.append(weight)
    if not rows:
        worth = sorted({reward for each in judged for reward in each.rewards})
        raise ComponentError(
            f"the eval set {name!r} gives no signal: in each of its {len(judged)} rows that have a prompt and an "
            f"answer, all {params.mc_samples} sampled answers got the same reward"
            f"{f' (between {worth[0]:g} and {worth[-1]:g})' if worth else ''}. Raise component_params.mc_samples or "
            "max_validation, use a reward with more steps, or train the model until it sometimes succeeds."
        )
    places = np.arange(len(rows), dtype=np.int64)
    return GroupedSubtask(name, rows, places, np.asarray(groups, np.int64), np.asarray(weights))


def _text(tokenizer: Any, tokens: Sequence[int]) -> str:
    """Without special tokens; without a tokenizer, numbers."""
    decoder = getattr(tokenizer, "tokenizer", tokenizer)
    if not hasattr(decoder, "decode"):
        return " ".join(map(str, tokens))
    return str(decoder.decode(list(tokens), skip_special_tokens=True))
