"""The Chinese README has the same sections, code, tables and links as the English one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))


def sections(page: str) -> list[str]:
    """The text of each section, headings left out; a comment in code is no heading."""
    return re.split(r"^#+ .*$", re.sub(r"^# (?=\w+\.py$)", "@", page, flags=re.MULTILINE), flags=re.MULTILINE)[1:]


def code(section: str) -> list[str]:
    """Blocks to copy, without what is said in comments."""
    blocks = re.findall(r"^```(?!text)\w+\n.*?^```$", section, re.MULTILINE | re.DOTALL)
    return [re.sub(r" *# .*", "", block) for block in blocks]


def test_the_headings_are_of_the_same_levels() -> None:
    def levels(page: str) -> list[str]:
        return re.findall(r"^(#+) ", re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)

    assert levels(CHINESE) == levels(ENGLISH)
    assert len(levels(ENGLISH)) > 5


def links(section: str) -> set[str]:
    return set(re.findall(r"\]\(([^)]+)\)", section)) - {"README.md", "README.zh-CN.md"}


def first_cells(section: str) -> list[str]:
    """First cells of a table's rows, without its headings."""
    return re.findall(r"^\| (.*?) \|", section, re.MULTILINE)[1:]


@pytest.mark.parametrize("number", range(len(sections(ENGLISH))))
def test_a_section_has_the_same_code_links_and_tables(number: int) -> None:
    english, chinese = sections(ENGLISH)[number], sections(CHINESE)[number]
    assert code(chinese) == code(english)
    assert chinese.count("<!-- runnable -->") == english.count("<!-- runnable -->")
    assert links(chinese) == links(english)
    assert first_cells(chinese) == first_cells(english)
