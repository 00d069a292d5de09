"""What can be known from tokenised rows of which nobody has written down what they were made from.

Their columns, how many there are, how long they are, and whether their tokens are the tokenizer's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.made_from import Asked, Source

_LOOKED_AT = 100_000  # rows, evenly spread
_LARGEST_JSON = 256 << 20  # bytes that are read to count the rows of one list
_SLACK = 2  # tokens that LlamaFactory may add to a row that it cuts
_TRAINING = "training"
_IDS = "input_ids"
_PAIR = ("input_ids", "attention_mask", "labels")
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "pt": _PAIR[:2],
    "sft": _PAIR,
    "rm": tuple(f"{side}_{name}" for side in ("chosen", "rejected") for name in _PAIR),
    "kto": (*_PAIR, *(f"kl_{name}" for name in _PAIR), "kto_tags"),
}
_ANYWHERE = ("images", "videos", "audios", "position_ids", "packing_params", "token_type_ids")


def contradictions(module: Mapping[str, Any], call: Mapping[str, Any], asked: Asked) -> Iterator[str]:
    """What of the rows cannot be what a run asks for, a phrase each.

    Args:
        module: As LlamaFactory's ``get_dataset`` returns it.
        call: The arguments it was called with, by name.
        asked: What the run asks for.
    """
    data_args, stage = call["data_args"], str(call["stage"])
    parts = dict(_parts(module))
    wanted = _COLUMNS.get(stage)
    for name, rows in parts.items():
        if wanted is None or not hasattr(rows, "column_names"):
            continue
        held = set(rows.column_names)
        if set(wanted) - held or held - {*wanted, *_ANYWHERE}:
            yield f"the columns of its {name} rows are {', '.join(sorted(held))}, not those of this stage"
    yield from _too_many(parts, data_args, stage, asked)
    size = max([len(call["tokenizer"]), *(number + 1 for number in call["tokenizer"].get_vocab().values())])
    longest, largest = 0, -1
    for rows in parts.values():
        for ids in _columns_of_ids(rows):
            longest = max(longest, int(ids[0].max(initial=0)))
            largest = max(largest, int(ids[1].max(initial=-1)))
    if largest >= size:
        yield f"its rows hold the token {largest}, and the tokenizer of model_name_or_path has {size}"
    if longest > data_args.cutoff_len + _SLACK:
        yield f"a row has {longest} tokens, and cutoff_len is {data_args.cutoff_len}"


def _parts(module: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if module.get("train_dataset") is not None:
        yield _TRAINING, module["train_dataset"]
    evals = module.get("eval_dataset")
    if isinstance(evals, Mapping):
        for name, rows in evals.items():
            yield f"eval ({name})", rows
    elif evals is not None:
        yield "eval", evals


def _too_many(parts: Mapping[str, Any], data_args: Any, stage: str, asked: Asked) -> Iterator[str]:
    """Rows that no data set has. Texts of stage pt are cut into blocks, and rows that repeat are without number."""
    if stage == "pt" or str(data_args.mix_strategy) not in ("concat", "interleave_under", "interleave_once"):
        return
    lengths = {name: len(part) for name, part in parts.items() if hasattr(part, "__len__")}
    training = lengths.pop(_TRAINING, 0)
    if data_args.val_size > 0:  # then the eval rows are of the same sets
        training += sum(lengths.values())
    for key, sets, rows in (
        ("dataset", asked.data_sets, training),
        ("eval_dataset", asked.eval_sets, sum(lengths.values())),
    ):
        sizes = [_most(source, data_args.max_samples) for source in sets.values()]
        most = sum(size or 0 for size in sizes)
        if sizes and None not in sizes and rows > most:
            limit = "" if data_args.max_samples is None else f", max_samples: {data_args.max_samples}"
            yield f"it holds {rows} rows, and {key}: {','.join(sets)} has {most} at most (dataset_dir{limit})"


def _most(source: Source, max_samples: int | None) -> int | None:
    """The most rows that a data set may give; ``None`` if that is not known."""
    named = (source.entry or {}).get("num_samples")
    counts = [_count(path) for path in source.files.values()]
    there = sum(count or 0 for count in counts) if counts and None not in counts else None
    rows = there if named is None else int(named)
    return rows if max_samples is None else min(max_samples, rows) if rows is not None else max_samples


def _count(path: Path) -> int | None:
    """Rows of a file; ``None`` for one that would have to be read by a library."""
    try:
        if path.suffix in (".jsonl", ".json"):
            with path.open("rb") as file:
                if path.suffix == ".jsonl" or file.read(1) != b"[":
                    file.seek(0)
                    return sum(1 for line in file if line.strip())
            return len(json.loads(path.read_bytes())) if path.stat().st_size <= _LARGEST_JSON else None
        if path.suffix == ".parquet":
            from pyarrow.parquet import ParquetFile

            return int(ParquetFile(path).metadata.num_rows)
    except Exception:  # whoever reads the rows says what is wrong with the file
        return None
    return None


def _columns_of_ids(rows: Any) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """For each column of tokens: the lengths of the rows looked at, and all their tokens."""
    if not hasattr(rows, "with_format") or not hasattr(rows, "column_names"):
        return
    size = len(rows)
    chosen = np.unique(np.linspace(0, max(size - 1, 0), num=min(size, _LOOKED_AT), dtype=np.int64))
    columns = [name for name in rows.column_names if name.endswith(_IDS)]
    if not columns or not len(chosen):
        return
    table = rows.with_format("arrow", columns=columns)[chosen.tolist() if len(chosen) < size else slice(None)]
    for name in columns:
        for chunk in table[name].chunks:
            yield np.diff(chunk.offsets.to_numpy()), chunk.flatten().to_numpy(zero_copy_only=False)
