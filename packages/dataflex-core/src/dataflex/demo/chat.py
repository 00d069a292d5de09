"""The text a row becomes under LlamaFactory's template ``qwen3_nothink``, and how it is made to fit the cutoff."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dataflex.demo.row import Row, clip

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TEMPLATE = "qwen3_nothink"
"""Plain ``qwen`` puts a system prompt in front of each row, which takes a third of the cutoff."""

END, START, STOP = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = (END, START, STOP)


def prompt(row: Row) -> str:
    """The part that is not trained on."""
    return f"{START}user\n{row.question}{STOP}\n{START}assistant\n"


def reply(row: Row) -> str:
    """The part that is."""
    return f"{row.answer}{STOP}\n"


def token_ids(row: Row, tokenizer: Tokenizer) -> list[int]:
    """Tokens of a row, prompt and reply encoded apart as LlamaFactory does."""
    return [*tokenizer.encode(prompt(row)).ids, *tokenizer.encode(reply(row)).ids]


def fit(row: Row, tokenizer: Tokenizer, cutoff: int) -> Row:
    """Shorten the answer until the row has at most ``cutoff`` tokens, so that LlamaFactory cuts nothing.

    Raises:
        ValueError: if the prompt alone leaves no room.
    """
    while len(token_ids(row, tokenizer)) > cutoff:
        excess = len(token_ids(row, tokenizer)) - cutoff
        offsets = tokenizer.encode(row.answer).offsets
        if excess >= len(offsets):
            raise ValueError(f"{row.question!r} does not fit {cutoff} tokens")
        row = replace(row, answer=clip(row.answer, offsets[-excess][0]))
    return row
