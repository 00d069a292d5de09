"""Rows from distributions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dataflex.demo import packages
from dataflex.demo.row import LONGEST_ANSWER, Domain, clip


@given(st.text(), st.integers(1, 60))
def test_a_clipped_text_is_a_beginning_of_it_within_the_limit(text, limit):
    assert len(clip(text, limit)) <= limit
    assert text.strip().startswith(clip(text, limit))


def test_a_text_is_cut_between_words():
    assert clip("one two three", 8) == "one two"
    assert clip("one two three", 7) == "one two"
    assert clip("unbreakable", 4) == "unbr"


def test_parts_keep_every_word_of_prose_in_order_and_within_the_limit():
    words = [f"word{chr(97 + index % 26)}" for index in range(400)]
    text = "\n\n".join(" ".join(words[start : start + 110]) for start in range(0, 400, 110))
    pieces = packages.parts(text)
    assert all(len(piece) <= LONGEST_ANSWER for piece in pieces)
    assert " ".join(pieces).split() == words


def test_badges_tables_and_markup_fall_away():
    text = "[![build](https://x/y.svg)](https://x)\n<p align=center>\n| a | b |\n\nPlain words about the package.\n"
    assert packages.parts(text) == ["Plain words about the package."]


def test_figures_are_no_prose():
    assert packages.parts("0.12 0.55 1.23 9.91 | 44.1 55.2") == []


def test_this_environment_has_descriptions_and_licences():
    domains = {row.domain for row in packages.package_rows()}
    assert domains == {Domain.PACKAGES, Domain.LICENCES}
