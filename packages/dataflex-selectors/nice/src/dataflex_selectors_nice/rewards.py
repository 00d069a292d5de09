"""Rewards of answers, and what they become: standard library only.

Shapes: M answers of one row.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

Reward = Callable[[Sequence[str], Sequence[str], Sequence[str]], Sequence[float]]
"""From prompts, answers and references to one number for each; of one answer, whatever stands beside it, always the
same."""

_TOKEN = re.compile(r"\w+|[^\w\s]")


def overlap(prompts: Sequence[str], answers: Sequence[str], references: Sequence[str]) -> list[float]:
    """F1 of the tokens of answer and reference: words and punctuation marks, in any order and case.

    For tests and first tries. Two texts without tokens have 1, of which only one has none 0.
    """
    return [_f1(answer, reference) for answer, reference in zip(answers, references, strict=True)]


def exact_match(prompts: Sequence[str], answers: Sequence[str], references: Sequence[str]) -> list[float]:
    """1 where answer and reference are the same text but for white space around it, else 0."""
    return [float(answer.strip() == reference.strip()) for answer, reference in zip(answers, references, strict=True)]


def advantages(rewards_M: Sequence[float], baseline: Literal["loo", "none"]) -> list[float]:
    """What each answer's gradient counts for.

    ``loo`` takes off the mean reward of the other answers, ``M/(M-1) (r - mean r)``: the expected gradient stays what
    it is and its variance falls (Kool et al. 2019, "Buy 4 REINFORCE Samples, Get a Baseline for Free!").

    Args:
        rewards_M: Of all answers of one row, at least two for ``loo``.
        baseline: ``none`` for the rewards themselves.
    """
    if baseline == "none":
        return list(rewards_M)
    if min(rewards_M) == max(rewards_M):  # exactly nothing, whatever a mean is rounded to
        return [0.0] * len(rewards_M)
    count, mean = len(rewards_M), sum(rewards_M) / len(rewards_M)
    return [count / (count - 1) * (reward - mean) for reward in rewards_M]


def _f1(answer: str, reference: str) -> float:
    given, wanted = (Counter(_TOKEN.findall(text.lower())) for text in (answer, reference))
    sizes = given.total() + wanted.total()
    return 2 * (given & wanted).total() / sizes if sizes else 1.0
