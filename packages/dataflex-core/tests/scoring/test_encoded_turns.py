"""Rows in another model's tokens: prompt and answer stay what they were."""

from __future__ import annotations

from typing import Any

import pytest

from dataflex import ComponentError
from dataflex.scoring.encoded_turns import EncodedTurns, PaddedTurns, first_token

ROWS = [
    {"input_ids": [0, 7, 8, 9, 1], "labels": [-100, -100, -100, 9, 1]},
    {"input_ids": [5, 6, 7, 8], "labels": [-100, 6, -100, 8]},
    {"input_ids": [5, 6], "labels": [5, 6]},
]


class Letters:
    """The rows' tokenizer: a letter a token; 0 and 1 are special."""

    def decode(self, ids: Any, skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return "".join(chr(ord("a") + token) for token in ids if token > 1)


class Doubled:
    """Two tokens for each letter; ``begin`` before every text if it has one."""

    pad_token_id = 0

    def __init__(self, begin: int | None = None) -> None:
        self.bos_token_id = begin

    def __call__(self, texts: Any, add_special_tokens: bool = True) -> dict[str, Any]:
        begin = [self.bos_token_id] if add_special_tokens and self.bos_token_id is not None else []
        if isinstance(texts, str):
            return {"input_ids": [*begin, *self._ids(texts)]}
        return {"input_ids": [[*begin, *self._ids(text)] for text in texts]}

    def _ids(self, text: str) -> list[int]:
        return [token for letter in text for token in (ord(letter), 100)]


def test_each_part_is_encoded_by_itself_and_special_tokens_are_left_out() -> None:
    rows = EncodedTurns(ROWS, Letters(), Doubled(), None)
    h, i, j, f, g = (ord(letter) for letter in "hijfg")
    assert len(rows) == 3
    assert rows[0] == {"input_ids": [h, 100, i, 100, j, 100], "labels": [-100] * 4 + [j, 100]}
    assert rows[1] == {
        "input_ids": [f, 100, g, 100, h, 100, i, 100],
        "labels": [-100, -100, g, 100, -100, -100, i, 100],
    }
    assert rows[2]["labels"] == rows[2]["input_ids"]


def test_what_begins_a_text_begins_each_row_and_long_rows_are_cut() -> None:
    rows = EncodedTurns(ROWS, Letters(), Doubled(2), 6)
    assert rows[0] == {"input_ids": [2, ord("h"), 100, ord("i"), 100, ord("j")], "labels": [-100] * 5 + [ord("j")]}
    assert first_token(Doubled(2)) == [2]
    assert first_token(Doubled()) == []
    batch = PaddedTurns(Doubled())([rows[0], {"input_ids": [9], "labels": [9]}])
    assert batch["labels"][1].tolist() == [9, -100, -100, -100, -100, -100]
    assert batch["attention_mask"][1].tolist() == [1, 0, 0, 0, 0, 0]


def test_rows_without_labels_have_no_loss() -> None:
    with pytest.raises(ComponentError, match="a loss needs labels"):
        EncodedTurns([{"input_ids": [5]}], Letters(), Doubled(), None)
