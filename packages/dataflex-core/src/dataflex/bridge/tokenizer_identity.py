"""What tells a tokenizer from any other by what it does: its tokens with their numbers, and how it cuts a few texts.

Not by its files or class: those change with the version of transformers, and rows stay what they were.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

_TEXTS = (
    "The quick brown fox didn't jump over 12,345.67 lazy dogs -- did it?",
    "  two  spaces,\ttabs\nand\r\nlines   ",
    "def f(x):\n    return x ** 2  # naïve, Straße, ÅNGSTRÖM",
    "你好世界。こんにちは 안녕하세요 مرحبا שלום Привет Γειά",
    "🙂👩‍👩‍👧‍👦 e\u0301 ﬁ ½ \u00a0 \u200b",
)


def tokenizer_identity(tokenizer: Any) -> str:
    """A hash of a tokenizer's behaviour.

    Args:
        tokenizer: Of transformers, as LlamaFactory has set it up.
    """
    known = {str(token): int(number) for token, number in tokenizer.get_vocab().items()}
    digest = hashlib.blake2b(json.dumps(sorted(known.items())).encode(), digest_size=16)
    for text in _TEXTS:
        try:
            numbers = list(tokenizer.encode(text, add_special_tokens=False))
        except Exception:  # some know nothing of such letters
            numbers = []
        digest.update(json.dumps(numbers, default=int).encode())
    return digest.hexdigest()
