"""One question with its answer, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

LONGEST_QUESTION = 80
LONGEST_ANSWER = 420
SHORTEST_ANSWER = 40


class Domain(StrEnum):
    """Where a row's text comes from. The target of the demo is ``DOCSTRINGS``; the rest are the other domains."""

    DOCSTRINGS = "docstrings"
    SOURCE = "source"
    PACKAGES = "packages"
    LICENCES = "licences"


SHARES = {Domain.DOCSTRINGS: 0.15, Domain.SOURCE: 0.35, Domain.PACKAGES: 0.30, Domain.LICENCES: 0.20}
"""Share of each domain in the pool."""

OTHERS = (Domain.SOURCE, Domain.PACKAGES, Domain.LICENCES)


@dataclass(frozen=True)
class Row:
    """A row of the data set.

    Attributes:
        domain: Its domain.
        origin: The module or package it is from: rows of one origin never fall on both sides of a split.
        question: The prompt.
        answer: The text to learn.
    """

    domain: Domain
    origin: str
    question: str
    answer: str

    @property
    def usable(self) -> bool:
        """Whether the row is long enough to teach something and short enough to fit."""
        return 0 < len(self.question) <= LONGEST_QUESTION and SHORTEST_ANSWER <= len(self.answer) <= LONGEST_ANSWER


def clip(text: str, limit: int = LONGEST_ANSWER) -> str:
    """The beginning of a text, at most ``limit`` characters, cut between words where there is a blank."""
    text = text.strip()
    if len(text) <= limit:
        return text
    head = text[: limit + 1]
    blank = max(head.rfind(" "), head.rfind("\n"))
    return (head[:blank] if blank > 0 else text[:limit]).rstrip()
