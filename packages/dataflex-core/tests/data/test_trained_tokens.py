"""Counting the tokens that are trained on."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset, concatenate_datasets

from dataflex.data.trained_tokens import trained_tokens
from dataflex.mixing.domains import Domains

LABELS = [[-100, -100, 7, 8], [5, 6], [-100], [], [9, -100, -100, 4, 3]]
COUNTED = [2, 1, 0, 0, 2]  # the first label has nothing before it that could predict it


def rows(**columns):
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


@pytest.mark.parametrize("as_arrow", [True, False])
def test_labels_count_where_they_are_targets(as_arrow):
    columns = {"input_ids": [[1] * len(labels) for labels in LABELS], "labels": LABELS}
    pool = Dataset.from_dict(columns) if as_arrow else rows(**columns)
    assert trained_tokens(pool).tolist() == COUNTED


def test_a_pool_of_parts_and_chosen_rows_is_read_in_its_order():
    part = Dataset.from_dict({"labels": LABELS})
    pool = concatenate_datasets([part, part]).select([4, 0, 9, 3])
    assert trained_tokens(pool).tolist() == [2, 2, 2, 0]


@pytest.mark.parametrize("as_arrow", [True, False])
def test_without_labels_all_tokens_but_the_first_count(as_arrow):
    ids = [[1, 2, 3], [4], []]
    assert trained_tokens(Dataset.from_dict({"input_ids": ids}) if as_arrow else rows(input_ids=ids)).tolist() == [
        2,
        0,
        0,
    ]


def test_pairs_count_both_answers():
    pool = Dataset.from_dict({"chosen_input_ids": [[1, 2, 3], [4]], "rejected_input_ids": [[1, 2], [4, 5, 6, 7]]})
    assert trained_tokens(pool).tolist() == [3, 3]


def test_a_transformed_pool_is_decoded():
    pool = Dataset.from_dict({"text": ["abc", "a"]})
    pool.set_transform(lambda batch: {"input_ids": [torch.zeros(len(text)) for text in batch["text"]]})
    assert trained_tokens(pool).tolist() == [2, 0]


def test_domains_add_up_their_rows():
    domains = Domains(("a", "b"), (2, 3), trained_tokens(Dataset.from_dict({"labels": LABELS})))
    assert domains.tokens.tolist() == [3, 2]
