from __future__ import annotations

import torch

from dataflex.scoring.inputs import trimmed

TOKENS = torch.tensor([[5, 6, 7, 0, 0], [5, 6, 0, 0, 0]])
MASK = TOKENS.ne(0).long()


def test_padding_in_every_row_is_cut_off() -> None:
    cut = trimmed(
        {"input_ids": TOKENS, "attention_mask": MASK, "labels": TOKENS, "position_ids": TOKENS.expand(4, 2, 5)}
    )
    assert {name: list(value.shape) for name, value in cut.items()} == {
        "input_ids": [2, 3],
        "attention_mask": [2, 3],
        "labels": [2, 3],
        "position_ids": [4, 2, 3],
    }


def test_a_batch_with_a_picture_is_left_whole() -> None:
    """LlamaFactory's blank picture of a row of text: its tokens (9) are masked as padding is, and have to stay."""
    tokens = torch.tensor([[5, 6, 9, 9, 0]])
    mask = torch.tensor([[1, 1, 0, 0, 0]])
    batch = {"input_ids": tokens, "attention_mask": mask, "pixel_values": torch.zeros(2, 3)}
    assert trimmed(batch)["input_ids"].tolist() == tokens.tolist()


def test_a_tensor_that_is_not_known_to_go_by_position_leaves_the_batch_whole() -> None:
    batch = {"input_ids": TOKENS, "attention_mask": MASK, "other": TOKENS}
    assert trimmed(batch)["input_ids"].shape == TOKENS.shape
