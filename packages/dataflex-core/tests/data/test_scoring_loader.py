from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from dataflex.data.scoring_loader import ScoringLoader, row_lengths
from dataflex.errors import ComponentError


class PadCollator:
    """Pads to the longest row, or to a multiple; takes the features apart as real collators do."""

    def __init__(self, pad_to_multiple_of: int | None = None) -> None:
        self.pad_to_multiple_of = pad_to_multiple_of

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        rows = [list(feature.pop("input_ids")) for feature in features]
        multiple = self.pad_to_multiple_of or 1
        width = -(-max(map(len, rows)) // multiple) * multiple
        return {"input_ids": torch.tensor([row + [0] * (width - len(row)) for row in rows])}


def pool(lengths: Sequence[int]) -> list[dict[str, list[int]]]:
    return [{"input_ids": [row] * length} for row, length in enumerate(lengths)]


LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=60)


@given(LENGTHS, st.integers(1, 200), st.integers(1, 20), st.integers(1, 4), st.sampled_from([None, 8]))
def test_every_row_is_served_once_and_no_batch_exceeds_the_budget(
    lengths: list[int], budget: int, max_batch: int, world_size: int, multiple: int | None
) -> None:
    seen: list[int] = []
    for rank in range(world_size):
        loader = ScoringLoader(
            pool(lengths),
            PadCollator(multiple),
            np.arange(len(lengths)),
            token_budget=budget,
            max_batch=max_batch,
            rank=rank,
            world_size=world_size,
        )
        mine = 0
        for rows, batch in loader:
            assert batch["input_ids"].numel() <= budget or len(batch["input_ids"]) == 1
            assert len(batch["input_ids"]) <= max_batch
            if len(rows):  # otherwise a batch of another rank, repeated
                assert batch["input_ids"][:, 0].tolist() == rows.tolist()
            seen += rows.tolist()
            mine += len(rows)
        assert loader.num_rows == mine
    assert sorted(seen) == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 200), st.integers(2, 4))
def test_ranks_share_the_batches_that_one_process_has(lengths: list[int], budget: int, world_size: int) -> None:
    def batches(rank: int, size: int) -> list[tuple[int, ...]]:
        loader = ScoringLoader(
            pool(lengths), PadCollator(), np.arange(len(lengths)), token_budget=budget, rank=rank, world_size=size
        )
        return [tuple(rows.tolist()) for rows, _ in loader]

    alone = batches(0, 1)
    shared = [batches(rank, world_size) for rank in range(world_size)]
    assert len({len(mine) for mine in shared}) == 1  # a forward pass of sharded parameters is collective
    assert sorted(rows for mine in shared for rows in mine if rows) == sorted(alone)


def test_the_longest_rows_come_first() -> None:
    loader = ScoringLoader(pool([3, 9, 1, 9, 5]), PadCollator(), np.arange(5), token_budget=12)
    # 12 tokens: one row of 9, one of 9, two padded to 5, one of 1
    assert [rows.tolist() for rows, _ in loader] == [[1], [3], [4, 0], [2]]


def test_only_the_rows_asked_for_are_served() -> None:
    loader = ScoringLoader(pool([3, 9, 1, 9, 5]), PadCollator(), [4, 2], token_budget=100)
    assert [rows.tolist() for rows, _ in loader] == [[4, 2]]


def test_no_rows_give_no_batches() -> None:
    assert list(ScoringLoader(pool([3]), PadCollator(), [], token_budget=100)) == []


def test_packed_rows_are_collated_one_at_a_time() -> None:
    collator = PadCollator()
    collator.neat_packing = True  # type: ignore[attr-defined]
    loader = ScoringLoader(pool([4, 4, 4]), collator, np.arange(3), token_budget=100)
    assert [rows.tolist() for rows, _ in loader] == [[0], [1], [2]]


def test_a_pool_of_dicts_is_unharmed_by_a_collator_that_pops() -> None:
    rows = pool([2, 3])
    loader = ScoringLoader(rows, PadCollator(), np.arange(2), token_budget=100)
    for _ in range(2):
        list(loader)
    assert rows == pool([2, 3])


class Broken(list[dict[str, list[int]]]):
    """Rows of which one cannot be read."""

    broken: int | None = 7

    def __getitem__(self, row: Any) -> Any:
        if row == self.broken:
            raise OSError("shard-00003.arrow")
        return super().__getitem__(row)


def test_a_row_that_cannot_be_read_is_named_wherever_that_shows() -> None:
    rows = Broken(pool([3] * 20))
    told = r"^row 7 of the pool could not be read: OSError: shard-00003\.arrow$"
    with pytest.raises(ComponentError, match=told):  # while lengths are looked at
        ScoringLoader(rows, PadCollator(), np.arange(20))
    rows.broken = None
    loader = ScoringLoader(rows, PadCollator(), np.arange(20), max_batch=4)
    rows.broken = 7
    with pytest.raises(ComponentError, match=told):  # while a batch is made
        list(loader)


def test_batches_are_moved_to_the_device() -> None:
    loader = ScoringLoader(pool([2, 3]), PadCollator(), np.arange(2), token_budget=100, device=torch.device("meta"))
    assert [batch["input_ids"].device.type for _, batch in loader] == ["meta"]


@pytest.mark.parametrize("view", ["plain", "torch", "shuffled", "chunked", "large"])
def test_lengths_of_a_hugging_face_dataset_are_those_of_its_rows(view: str) -> None:
    lengths = [5, 1, 0, 7, 7, 2]
    data = Dataset.from_list([{"input_ids": [row] * length, "text": "x"} for row, length in enumerate(lengths)])
    if view == "torch":
        data = data.with_format("torch")
    elif view == "shuffled":
        data, lengths = data.select([5, 0, 3]), [2, 5, 7]
    elif view == "chunked":
        from datasets import concatenate_datasets

        data, lengths = concatenate_datasets([data, data.select([1, 3])]), [*lengths, 1, 7]
    elif view == "large":
        from datasets import Features, LargeList, Value

        data = data.cast(Features({"input_ids": LargeList(Value("int64")), "text": Value("string")}))
    assert row_lengths(data, np.arange(len(lengths))).tolist() == lengths
    assert row_lengths(data, [2, 0]).tolist() == [lengths[2], lengths[0]]


def test_lengths_of_a_hugging_face_dataset_are_found_without_decoding_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets.formatting.formatting import PythonFormatter

    data = Dataset.from_list(pool([4, 2, 6]))

    def decode(*_: Any) -> None:
        raise AssertionError("a row was decoded")

    for name in ("format_row", "format_column", "format_batch"):
        monkeypatch.setattr(PythonFormatter, name, decode)
    assert row_lengths(data, np.arange(3)).tolist() == [4, 2, 6]


def test_lengths_follow_a_transform_that_tokenises_on_the_fly() -> None:
    data = Dataset.from_dict({"text": ["a b c", "a"]})
    data.set_transform(lambda batch: {"input_ids": [list(range(len(text.split()))) for text in batch["text"]]})
    assert row_lengths(data, [0, 1]).tolist() == [3, 1]


@pytest.mark.parametrize("make", [list, Dataset.from_list])
def test_a_pair_counts_twice_its_longest_answer_to_which_both_are_padded(make: Any) -> None:
    rows = [{"chosen_input_ids": [1] * 3, "rejected_input_ids": [1] * 4, "chosen_labels": [1] * 9}]
    rows.append({"chosen_input_ids": [1] * 5, "rejected_input_ids": [1], "chosen_labels": [1]})
    assert row_lengths(make(rows), [0, 1]).tolist() == [8, 10]
    assert row_lengths(make(rows), [1]).tolist() == [10]


@pytest.mark.parametrize("make", [list, Dataset.from_list])
def test_a_long_mismatched_answer_makes_a_row_as_long(make: Any) -> None:
    rows = [{"input_ids": [1] * 3, "kl_input_ids": [1] * 40}, {"input_ids": [1] * 7, "kl_input_ids": [1]}]
    assert row_lengths(make(rows), [0, 1]).tolist() == [40, 7]


@pytest.mark.parametrize("make", [list, Dataset.from_list])
def test_a_pool_without_tokens_is_refused_by_the_names_it_has(make: Any) -> None:
    with pytest.raises(ComponentError, match=r"no input_ids \(they have: text\)"):
        row_lengths(make([{"text": "hello"}]), [0])


def test_a_llamafactory_batch_is_what_its_collator_makes_of_the_same_rows(tmp_path: Path) -> None:
    from llamafactory.data.collator import SFTDataCollatorWith4DAttentionMask
    from llamafactory.data.template import TEMPLATES
    from transformers import AutoTokenizer

    from dataflex.testing.tiny import write_model

    tokenizer = AutoTokenizer.from_pretrained(write_model(tmp_path / "model"))
    collator = SFTDataCollatorWith4DAttentionMask(
        tokenizer=tokenizer, template=TEMPLATES["qwen3_nothink"], pad_to_multiple_of=8, label_pad_token_id=-100
    )
    media = {"images": None, "videos": None, "audios": None}
    rows = [
        {"input_ids": [row + 1] * n, "attention_mask": [1] * n, "labels": [-100] + [row + 1] * (n - 1), **media}
        for row, n in enumerate([3, 17, 9, 8, 2])
    ]
    data = Dataset.from_list(rows)
    loader = ScoringLoader(data, collator, np.arange(5), token_budget=32)
    served = {}
    for numbers, batch in loader:
        assert batch["input_ids"].shape[1] % 8 == 0
        assert batch["input_ids"].numel() <= 32
        for place, row in enumerate(numbers.tolist()):
            kept = batch["attention_mask"][place].bool()
            served[row] = (batch["input_ids"][place][kept].tolist(), batch["labels"][place][kept].tolist())
    assert served == {row: (features["input_ids"], features["labels"]) for row, features in enumerate(rows)}


@pytest.mark.parametrize("world_size", [1, 2])
def test_batches_that_are_done_are_left_out_and_the_others_stay_as_they_were(world_size):
    dataset = [{"input_ids": [0] * length} for length in (9, 8, 7, 6, 5, 4, 3, 2)]

    def batches(skipped=()):
        found = []
        for rank in range(world_size):
            loader = ScoringLoader(
                dataset, PadCollator(), range(8), token_budget=18, rank=rank, world_size=world_size, skipped=skipped
            )
            found += [rows.tolist() for rows, _ in loader if len(rows)]
        return found

    with_all = batches()
    first = with_all[0]
    assert sorted(batches(first)) == sorted(with_all[1:])
    assert sorted(batches(first[:1])) == sorted(with_all)  # a batch that is partly done is done again
    assert batches(range(8)) == []


@pytest.mark.parametrize(
    ("device", "batches"),
    [(None, 16), ("cpu", 16), (torch.device("cpu", 0), 16), (torch.device("meta"), 2)],
)
def test_batches_are_small_on_a_cpu_and_large_elsewhere_unless_the_user_says(device: Any, batches: int) -> None:
    rows = pool([128] * 256)

    assert len(ScoringLoader(rows, PadCollator(), np.arange(256), device=device)) == batches
    assert len(ScoringLoader(rows, PadCollator(), np.arange(256), device=device, token_budget=1280)) == 26
