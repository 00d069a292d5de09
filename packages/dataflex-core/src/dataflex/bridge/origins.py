"""Following rows through LlamaFactory's merging, splitting and tokenising, so that each row's source is known.

    load ──> align: a mark on each row ──> merge, split ──> tokenise: marks taken off, kept beside ──> pool

LlamaFactory drops extra columns when it aligns and when it tokenises, but not in between. Tokenising keeps the order of
rows and at most leaves some out, unless it packs several into one: then nothing is known.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.bridge.rebound import rebound
from dataflex.data.origins import Origins

MARK = "_dataflex_origin"
_BITS = 40  # of a row's number in a mark; above them, the data set's

_ENTRY = ("formatting", "ranking")
_COLUMNS = (
    *("prompt", "query", "response", "history", "messages", "system", "tools"),
    *("images", "videos", "audios", "chosen", "rejected", "kto_tag"),
)
_TAGS = (
    *("role_tag", "content_tag", "user_tag", "assistant_tag"),
    *("observation_tag", "function_tag", "system_tag"),
)
_PLACES = {
    "file": "file_name",
    "script": "script_url",
    "cloud_file": "cloud_file_name",
    "hf_hub": "hf_hub_url",
    "ms_hub": "ms_hub_url",
    "om_hub": "om_hub_url",
}
_PARTS = ("subset", "split", "folder", "num_samples")


@dataclass(frozen=True)
class Source:
    """One data set as LlamaFactory loaded it.

    Attributes:
        name: Its name in the run file.
        raw: Its rows in their original fields, ``max_samples`` applied.
        entry: What ``dataset_info.json`` says of its format, without where it lies.
        place: Where it lies, as ``dataset_info.json`` would say, paths absolute.
    """

    name: str
    raw: Any
    entry: Mapping[str, Any]
    place: Mapping[str, Any]


@dataclass
class Tracer:
    """Marks rows and reads the marks, as wrappers of LlamaFactory's functions.

    Attributes:
        names: The training data sets, in the order in which they are loaded.
        eval_names: The eval sets, which are loaded after them.
        sources: What was loaded, in that order.
    """

    names: tuple[str, ...]
    eval_names: tuple[str, ...] = ()
    sources: list[Source] = field(default_factory=list)
    _marks: npt.NDArray[np.int64] | None = None
    _processor: Any = None

    @property
    def origins(self) -> Origins | None:
        """Where the rows of the pool come from; ``None`` if that is not known."""
        if self._marks is None:
            return None
        return Origins(self.names, self._marks >> _BITS, self._marks & ((1 << _BITS) - 1))

    def aligning(self, align: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap ``align_dataset``: mark the rows of training data sets."""

        def marked(dataset: Any, attributes: Any, data_args: Any, *args: Any, **kwargs: Any) -> Any:
            index, every = len(self.sources), (*self.names, *self.eval_names)
            aligned = align(dataset, attributes, data_args, *args, **kwargs)
            if index >= len(every):
                return aligned
            place = _place(attributes, str(data_args.dataset_dir))
            self.sources.append(Source(every[index], dataset, _entry(attributes), place))
            if index >= len(self.names):
                return aligned
            return aligned.add_column(MARK, np.arange(len(aligned), dtype=np.int64) | (index << _BITS))

        return marked

    def choosing(self, choose: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap ``_get_dataset_processor``: remember who tokenises."""

        def chosen(*args: Any, **kwargs: Any) -> Any:
            self._processor = choose(*args, **kwargs)
            return self._processor

        return chosen

    def tokenising(self, tokenise: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap ``_get_preprocessed_dataset``: take the marks off, and keep those of the pool's rows."""

        def unmarked(dataset: Any, data_args: Any, *args: Any, **kwargs: Any) -> Any:
            if dataset is None or MARK not in dataset.column_names:
                return tokenise(dataset, data_args, *args, **kwargs)
            marks = dataset.with_format("arrow", columns=[MARK])[:][MARK].to_numpy().astype(np.int64)
            bare = dataset.remove_columns(MARK)
            tokenised = tokenise(bare, data_args, *args, **kwargs)
            if not kwargs.get("is_eval") and not data_args.packing:
                self._marks = self._of_rows(marks, bare, len(tokenised))
            return tokenised

        return unmarked

    def _of_rows(self, marks: npt.NDArray[np.int64], aligned: Any, left: int) -> npt.NDArray[np.int64] | None:
        """Marks of the rows that tokenising has left; asks row by row if some are missing."""
        if left == len(marks):
            return marks
        kept = np.array([self._keeps(aligned[row : row + 1]) for row in range(len(marks))], bool)
        return marks[kept] if int(kept.sum()) == left else None

    def _keeps(self, example: Any) -> bool:
        columns = self._processor.preprocess_dataset(example)
        return any(len(values) for values in columns.values())


def _entry(attributes: Any) -> dict[str, Any]:
    columns = {name: getattr(attributes, name, None) for name in _COLUMNS}
    tags = {name: getattr(attributes, name, None) for name in _TAGS}
    entry = {name: getattr(attributes, name) for name in _ENTRY}
    entry["columns"] = {name: value for name, value in columns.items() if value is not None}
    if entry["formatting"] != "alpaca":
        entry["tags"] = {name: value for name, value in tags.items() if value is not None}
    return entry


def _place(attributes: Any, folder: str) -> dict[str, Any]:
    name = attributes.dataset_name
    if attributes.load_from in ("file", "script"):
        name = str((Path(folder) / name).absolute())
    parts = {part: getattr(attributes, part, None) for part in _PARTS}
    return {_PLACES[attributes.load_from]: name, **{part: value for part, value in parts.items() if value is not None}}


@contextlib.contextmanager
def following(loader: ModuleType, tracer: Tracer) -> Iterator[None]:
    """Let a tracer see every row while LlamaFactory's ``loader`` loads its data sets."""
    with (
        rebound(loader, "align_dataset", tracer.aligning(loader.align_dataset)),
        rebound(loader, "_get_dataset_processor", tracer.choosing(loader._get_dataset_processor)),
        rebound(loader, "_get_preprocessed_dataset", tracer.tokenising(loader._get_preprocessed_dataset)),
    ):
        yield
