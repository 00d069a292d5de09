"""What LlamaFactory's templates put right before an answer, without what ends the user's turn."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dataflex.bridge.answer_header import answer_header
from dataflex.testing.tiny import write_tokenizer


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("qwen", "<|im_start|>assistant\n"),
        ("llama3", "<|start_header_id|>assistant<|end_header_id|>\n\n"),
        ("alpaca", "\n\n### Response:\n"),
        ("llama2", " [/INST]"),
        ("gemma", "<start_of_turn>model\n"),
        ("empty", ""),
    ],
)
def test_the_header_of_a_template(name: str, header: str, tmp_path: Path) -> None:
    from llamafactory.data.template import TEMPLATES

    tokenizer = write_tokenizer(tmp_path)
    assert tokenizer.decode(answer_header(TEMPLATES[name], tokenizer)) == header


def test_a_template_that_cannot_be_asked_has_none() -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    assert answer_header(SimpleNamespace(encode_oneturn=refuse, encode_multiturn=refuse), None) == ()
