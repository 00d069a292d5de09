"""Rows from Python sources."""

from __future__ import annotations

from dataflex.demo import stdlib
from dataflex.demo.row import Domain

SOURCE = b'''
raise RuntimeError("this module was imported")


class Shop:
    """Sells things."""

    def price(self, name):
        """Look up the price of a thing.

        Slow.
        """
        # in cents
        found = self.prices[name]
        return found

    def _secret(self):
        """Nobody reads this."""
        return 1


def bare():
    """Only a docstring."""


async def fetch(url):
    return await get(url)
'''


def test_docstrings_and_functions_become_rows_without_importing_the_module():
    rows = {(row.domain, row.question): row.answer for row in stdlib.rows_of_source("shop", SOURCE)}
    assert rows[Domain.DOCSTRINGS, "What is shop.Shop?"] == "Sells things."
    assert rows[Domain.DOCSTRINGS, "What does shop.Shop.price do?"] == "Look up the price of a thing.\n\nSlow."
    assert rows[Domain.SOURCE, "Write the function shop.Shop.price."] == (
        "def price(self, name):\n    # in cents\n    found = self.prices[name]\n    return found"
    )
    assert rows[Domain.SOURCE, "Write the function shop.fetch."] == "async def fetch(url):\n    return await get(url)"


def test_private_names_have_no_rows():
    assert not any("_secret" in row.question for row in stdlib.rows_of_source("shop", SOURCE))


def test_a_function_that_is_only_a_docstring_is_no_usable_row():
    (row,) = (row for row in stdlib.rows_of_source("shop", SOURCE) if row.question == "Write the function shop.bare.")
    assert not row.usable


def test_lines_are_counted_as_the_parser_counts_them():
    source = b'note = "a\x0cb"\r\n\r\ndef f():\r\n    """Doc."""\r\n    return note\r\n'
    functions = [row.answer for row in stdlib.rows_of_source("m", source) if row.domain is Domain.SOURCE]
    assert functions == ["def f():\n    return note"]


def test_a_file_that_is_not_python_or_not_utf8_has_no_rows():
    assert list(stdlib.rows_of_source("broken", b"def f(:")) == []
    assert list(stdlib.rows_of_source("latin", b"# -*- coding: latin-1 -*-\nx = '\xe9'\n")) == []


def test_the_standard_library_is_found_without_its_tests():
    names = [path.name for path in stdlib.modules()]
    assert "textwrap.py" in names
    assert not any("test" in path.parts for path in stdlib.modules())
