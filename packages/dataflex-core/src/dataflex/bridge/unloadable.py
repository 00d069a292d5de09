"""What to say when LlamaFactory cannot load data sets: which one, which row, what to do."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from dataflex.bridge.loading import DataSet, Doing, Watch, watching
from dataflex.bridge.rows_at_fault import SEARCH_SECONDS
from dataflex.errors import ConfigError
from dataflex.failures.foreign import is_foreign
from dataflex.failures.saying import is_out_of_memory, root, said

_ROW_TEXT = 200  # characters of a row that a message repeats
_FIX = "Fix it, or leave the data set out."
_LESS_MEMORY = "Lower preprocessing_batch_size, preprocessing_num_workers or max_samples."
_LOST_WORKERS = "Lower preprocessing_num_workers, or give them more memory."


def told(get_dataset: Callable[..., Any], loader: ModuleType, source: str) -> Callable[..., Any]:
    """A ``get_dataset`` that says of an error which data set, and which row, is at fault.

    Args:
        get_dataset: LlamaFactory's, or one that calls it under :class:`~dataflex.failures.foreign.foreign`.
        loader: LlamaFactory's module that loads data sets.
        source: The run file, for messages.

    Returns:
        The function; it raises :class:`~dataflex.errors.ConfigError` for whatever LlamaFactory and its libraries raise.
    """

    @functools.wraps(get_dataset)
    def load(template: Any, model_args: Any, data_args: Any, *args: Any, **kwargs: Any) -> Any:
        watch = Watch()
        try:
            with watching(loader, watch):
                return get_dataset(template, model_args, data_args, *args, **kwargs)
        except Exception as error:
            if not is_foreign(error):
                raise
            try:
                sentence = _sentence(watch, error, data_args, loader, source)
            except Exception:  # a search that fails must not hide what it was about
                every = [*(data_args.dataset or ()), *(data_args.eval_dataset or ())]
                sentence = (
                    f"LlamaFactory cannot load dataset: {', '.join(every)} (from {source}): {said(error)}. {_FIX}"
                )
            raise ConfigError(sentence) from error

    return load


def unlike(columns: Sequence[tuple[str, Any]]) -> tuple[str, str] | None:
    """The data set whose columns are unlike the others', so that they cannot be joined, and in what.

    Args:
        columns: Name and features of each data set.

    Returns:
        Its name and what is unlike, or ``None`` if all are alike. One without a single usable value in a column is
        the one; else the one that differs from most; of two, the second.
    """
    for column in dict.fromkeys(name for _, features in columns for name in features):
        kinds = {name: repr(features.get(column)) for name, features in columns}
        if len(set(kinds.values())) == 1:
            continue
        blank = [name for name, kind in kinds.items() if "null" in kind and not kind.startswith("Value")]
        if blank:
            what = column.strip("_")
            return blank[0], f"not one of its rows has a {what} that LlamaFactory can read (a text, in the right order)"
        if any("null" in kind for kind in kinds.values()):
            continue  # a column without values joins any other
        usual = Counter(kinds.values()).most_common(1)[0][0]
        odd = [name for name, kind in kinds.items() if kind != usual][-1]
        return odd, f"its column {column} is {kinds[odd]}, that of the others {usual}"
    return None


def _sentence(watch: Watch, error: Exception, data_args: Any, loader: ModuleType, source: str) -> str:
    names, where, advice = _at_fault(watch, error, data_args, loader)
    if not names:
        return f"LlamaFactory cannot load {where} (from {source}): {said(error)}. {advice}"
    is_eval = watch.group is not None and (watch.group is not watch.groups[:1][0] or not data_args.dataset)
    key = "eval_dataset" if is_eval else "dataset"
    where = f", {where}" if where else ""
    if watch.doing is Doing.MERGING and where:
        return f"LlamaFactory cannot load {key}: {names} (from {source}){where}. {advice}"
    return f"LlamaFactory cannot load {key}: {names} (from {source}){where}: {said(error)}. {advice}".rstrip()


def _at_fault(watch: Watch, error: Exception, data_args: Any, loader: ModuleType) -> tuple[str, str, str]:
    """Names of the data sets at fault (``""`` if it is none of them), which part of them, and what to do."""
    if watch.doing is Doing.NOTHING:
        if data_args.tokenized_path is not None:
            advice = "Delete that folder, so that it is made anew, or name another one."
            return "", f"tokenized_path: {data_args.tokenized_path}", advice
        return ", ".join([*(data_args.dataset or ()), *(data_args.eval_dataset or ())]) or "(none)", "", _FIX
    assert watch.group is not None
    every = ", ".join(watch.group.names)
    if watch.doing is Doing.LOOKING_UP:
        name = _unknown(watch, data_args, loader)
        return name or every, "", f"Look at its entry in dataset_info.json (dataset_dir: {data_args.dataset_dir})."
    if watch.doing is Doing.READING:
        assert watch.data_set is not None
        return watch.data_set.name, _broken_line(watch.data_set, data_args), _FIX
    if watch.doing is Doing.MERGING:
        odd = unlike([(one.name, one.aligned.features) for one in watch.group.loaded if one.aligned is not None])
        return (odd[0], odd[1], _FIX) if odd else (every, "", f"Give them the same fields. {_FIX}")
    if is_out_of_memory(error):
        return (every if watch.data_set is None else watch.data_set.name), "", _LESS_MEMORY
    found = watch.failing_row()
    if found is not None:
        one, row = found
        return one.name, f"row {row} (counted from 0)", f"{_text(one, row)}{_columns(one, error)}{_FIX}"
    if watch.doing is Doing.CONVERTING:
        assert watch.data_set is not None
        return watch.data_set.name, _no_rows(watch.data_set), f"{_columns(watch.data_set, error)}{_FIX}"
    emptied = watch.emptied(int(getattr(data_args, "preprocessing_batch_size", None) or 1000))
    if emptied:
        rows = sum(len(one.aligned) for one in emptied)
        return ", ".join(one.name for one in emptied), f"of whose {rows} rows none is left", _usable(watch, data_args)
    return every, "", _LOST_WORKERS if "died" in str(error) else ""


def _usable(watch: Watch, data_args: Any) -> str:
    if type(watch.processor).__name__.startswith("Pretrain"):
        return f"Its texts do not fill one block of cutoff_len: {data_args.cutoff_len}. Add text, or lower cutoff_len."
    return "Its turns or answers do not fit its format in dataset_info.json, or the stage. " + _FIX


def _unknown(watch: Watch, data_args: Any, loader: ModuleType) -> str:
    """The data set that LlamaFactory cannot look up, or that does not fit the stage; ``""`` if it is not one alone."""
    assert watch.group is not None
    names, refused = list(watch.group.names), []
    for name in names:
        try:
            loader.get_dataset_list([name], data_args.dataset_dir)
        except Exception:  # as it was raised for all of them
            refused.append(name)
    if refused:
        return refused[0] if len(refused) < len(names) or len(names) == 1 else ""
    done = len(watch.group.loaded)
    return names[done] if done < len(names) else ""


def _broken_line(one: DataSet, data_args: Any) -> str:
    """The line of a JSON file that is not JSON, or that the file is empty; ``""`` if it is neither."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        if one.attributes.load_from != "file":
            return ""
        path = Path(data_args.dataset_dir) / one.attributes.dataset_name
        end = time.monotonic() + SEARCH_SECONDS
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if file.is_file() and file.stat().st_size == 0:
                return f"whose file {file.name} is empty"
            if file.suffix == ".jsonl":
                for number, line in _lines(file, end):
                    if not _is_json(line):
                        text = _cut(line.decode(errors="replace"))
                        return f"line {number} of {file.name}, which is not JSON ({text})"
    return ""


def _lines(file: Path, end: float) -> Iterator[tuple[int, bytes]]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if time.monotonic() > end:
                return
            if line.strip():
                yield number, line.strip()


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _no_rows(one: DataSet) -> str:
    if not hasattr(one.raw, "__len__") or len(one.raw):
        return ""
    drawn = getattr(one.attributes, "num_samples", None)
    return "which has no rows" if drawn is None else f"of which num_samples: {drawn} in dataset_info.json leaves no row"


def _text(one: DataSet, row: int) -> str:
    """The row in its own fields, as far as it fits."""
    try:
        return f"The row is {_cut(json.dumps(one.raw[row], ensure_ascii=False, default=str))}. "
    except Exception:  # it may be the reading that fails: a broken picture
        return ""


def _columns(one: DataSet, error: Exception) -> str:
    """What columns there are, where one was not found."""
    names = getattr(one.raw, "column_names", None)
    if not isinstance(root(error), KeyError) or not names:
        return ""
    return f"Its columns are {', '.join(names)}; `columns` in dataset_info.json says which of them mean what. "


def _cut(text: str) -> str:
    return text if len(text) <= _ROW_TEXT else f"{text[: _ROW_TEXT - 1]}…"
