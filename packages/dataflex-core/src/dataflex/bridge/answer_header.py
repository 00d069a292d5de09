r"""What a template of LlamaFactory puts right before an answer: its header, without what ends the user's turn.

<|im_start|>user\n ... <|im_end|>\n<|im_start|>assistant\n ANSWER <|im_end|>\n      ->  <|im_start|>assistant\n
### Instruction:\n ... \n\n### Response:\n ANSWER <|endoftext|>                     ->  \n\n### Response:\n
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_TEXTS = ("0", "x", "Why?")
"""Contents of turns; what follows all of them is the template's own."""


def answer_header(template: Any, tokenizer: Any) -> tuple[int, ...]:
    """Tokens between the user's text and the answer, less those that end a turn, where the template begins with these.

    Args:
        template: LlamaFactory's ``Template``.
        tokenizer: The run's tokenizer.

    Returns:
        Token ids; none for a template that cannot be asked.
    """
    try:
        turns = [template.encode_oneturn(tokenizer, _talk(text)) for text in _TEXTS]
        between = _common_end([list(prompt) for prompt, _ in turns])
        # The answer of an earlier turn is ended as a turn of the user is.
        whole = [template.encode_multiturn(tokenizer, [*_talk(text), *_talk(text)])[0][1] for text in _TEXTS]
        ends = _common_end([list(answer) for answer in whole])
    except Exception:  # templates of models and of plugins are asked for a nicety, and may want more than a text
        return ()
    return tuple(between[len(ends) :] if ends and between[: len(ends)] == ends else between)


def _talk(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}, {"role": "assistant", "content": text}]


def _common_end(sequences: Sequence[list[int]]) -> list[int]:
    length = 0
    while all(len(each) > length for each in sequences) and len({each[-1 - length] for each in sequences}) == 1:
        length += 1
    return sequences[0][len(sequences[0]) - length :]
