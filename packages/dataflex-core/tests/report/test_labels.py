"""Names and numbers in plots."""

from __future__ import annotations

import pytest

from dataflex.report.labels import MOST_LETTERS, short_labels, short_number, visible


def test_short_names_stay_as_they_are():
    assert short_labels(["web-a", "web-b"]) == ["web-a", "web-b"]


def test_of_long_names_the_words_that_all_share_are_left_out():
    names = [f"runs/qwen2.5-0.5b_lora_seed{seed}_lr1e-4_focus-high/out" for seed in (0, 1, 10)]
    assert short_labels(names) == ["…seed0…", "…seed1…", "…seed10…"]


def test_a_name_that_is_still_too_long_is_cut_in_its_middle():
    (label,) = short_labels(["a $name$ <of> more than thirty characters"])
    assert label == "a $name$ <of> …ty characters" and len(label) == MOST_LETTERS


def test_names_that_a_cut_would_make_alike_are_not_cut():
    names = ["a" * 20 + middle + "b" * 20 for middle in "xy"]
    assert short_labels(names) == names


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (999, "999"), (12_345, "12.3k"), (999_900, "1M"), (1_200_000, "1.2M")]
)
def test_counts_are_short(value, shown):
    assert short_number(value) == shown


def test_letters_that_hide_or_turn_round_others_are_written_out():
    assert visible("abc\u202edef\x1b[31m\x00") == "abc\\u202edef\\u001b[31m\\u0000"
    assert visible("two\nlines\tمريب 👩‍👩‍👧") == "two\nlines\tمريب 👩‍👩‍👧"
