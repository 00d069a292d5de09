"""Rows from the installed distributions: their descriptions and the texts of their licences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from dataflex.demo.row import LONGEST_ANSWER, Domain, Row, clip

_MOST_PARTS = 12
_LICENCE_FILE = re.compile(r"(licen[cs]e|copying|notice)[^/]*(?<!\.py)(?<!\.pyc)$", re.IGNORECASE)
_MARKUP = re.compile(r"^\s*(<|\[?!\[|\.\. |:\w+:|\[!\[|\||[=~^*#+-]{4,}\s*$)")
_PROSE = 0.75


def package_rows() -> Iterator[Row]:
    """Descriptions and licences of every distribution, in a fixed order; texts several of them share come once."""
    seen: set[str] = set()
    for name, dist in sorted(_by_name().items()):
        texts = [(Domain.PACKAGES, "Describe the package", _description(dist))]
        texts += [(Domain.LICENCES, "Quote the licence of", text) for text in _licences(dist)]
        for domain, question, text in texts:
            if text in seen:
                continue
            seen.add(text)
            for part, answer in enumerate(parts(text)[:_MOST_PARTS], start=1):
                yield Row(domain, name, f"{question} {name}, part {part}.", answer)


def parts(text: str) -> list[str]:
    """Cut a text into pieces of at most 420 characters, at paragraphs where possible; markup and tables fall away."""
    lines = [re.sub(r"\s+", " ", line).strip() for line in text.splitlines() if not _MARKUP.match(line)]
    paragraphs = re.split(r"\n{2,}", "\n".join(lines).strip())
    pieces: list[str] = []
    for paragraph in paragraphs:
        if pieces and len(pieces[-1]) + 2 + len(paragraph) <= LONGEST_ANSWER:
            pieces[-1] = f"{pieces[-1]}\n\n{paragraph}"
            continue
        while paragraph:
            piece = clip(paragraph)
            pieces.append(piece)
            paragraph = paragraph[len(piece) :].lstrip()
    return [piece for piece in pieces if _is_prose(piece)]


def _is_prose(text: str) -> bool:
    letters = sum(character.isalpha() or character == " " for character in text)
    return letters >= _PROSE * len(text)


def _by_name() -> dict[str, Distribution]:
    found: dict[str, Distribution] = {}
    for dist in distributions():
        name = dist.metadata["Name"]
        if name:
            found.setdefault(name, dist)
    return found


def _description(dist: Distribution) -> str:
    # A header of old metadata files; the body of a message, which the type does not promise, since version 2.1.
    if "Description" in dist.metadata:
        return str(dist.metadata["Description"])
    return str(getattr(dist.metadata, "get_payload", str)())


def _licences(dist: Distribution) -> Iterator[str]:
    for file in dist.files or []:
        if not _LICENCE_FILE.match(file.name):
            continue
        try:
            yield Path(str(file.locate())).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
