"""Watching LlamaFactory load its data sets, so that an error names the one at fault, and the row where one is.

    _get_merged_dataset ──> _load_single_dataset ──> align_dataset ──> merge ──> _get_preprocessed_dataset
       which sets             which one now            raw, aligned                 who tokenises

LlamaFactory's functions are called as they were: rows, files and caches stay the same, so ``static`` is watched too.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from types import ModuleType
from typing import Any

from dataflex.bridge.rebound import rebound
from dataflex.bridge.rows_at_fault import TimeIsUp, first_failing, is_emptied, rows_left
from dataflex.failures.foreign import foreign

logger = logging.getLogger("dataflex")

_CHOOSE = "get_dataset_converter"
_COUNTING_SECONDS = 20.0  # for a warning; an error is worth more


class Doing(Enum):
    """What LlamaFactory was doing."""

    NOTHING = auto()
    LOOKING_UP = auto()
    READING = auto()
    CONVERTING = auto()
    MERGING = auto()
    TOKENISING = auto()


@dataclass
class DataSet:
    """One data set on its way.

    Attributes:
        name: Its name in the run file.
        attributes: What ``dataset_info.json`` says of it, as LlamaFactory has read it.
        raw: Its rows in their own fields; ``None`` until they are read.
        aligned: Its rows in LlamaFactory's fields; ``None`` until they are converted.
    """

    name: str
    attributes: Any = None
    raw: Any = None
    aligned: Any = None


@dataclass
class Group:
    """Data sets that are loaded together: those of ``dataset`` or of ``eval_dataset``.

    Attributes:
        names: In order.
        loaded: Those that were begun, in that order.
    """

    names: Sequence[str]
    loaded: list[DataSet] = field(default_factory=list)


@dataclass
class Watch:
    """What was loaded so far, and where it stopped.

    Attributes:
        groups: Training sets, then eval sets, as far as they were begun.
        doing: What failed, set by the innermost function that did.
        group: The group that it was about.
        data_set: The one that was being loaded.
        processor: LlamaFactory's, for the rows that are tokenised.
        converter: LlamaFactory's, from a raw row to an aligned one.
    """

    groups: list[Group] = field(default_factory=list)
    doing: Doing = Doing.NOTHING
    group: Group | None = None
    data_set: DataSet | None = None
    processor: Any = None
    converter: Callable[[Any], Any] | None = None

    @contextlib.contextmanager
    def _at(self, doing: Doing, group: Group | None = None, data_set: DataSet | None = None) -> Iterator[None]:
        try:
            yield
        except Exception:
            if self.doing is Doing.NOTHING:
                self.doing, self.group, self.data_set = doing, group, data_set
            raise

    def merging(self, merge: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap ``_get_merged_dataset``: note which data sets are loaded."""

        @functools.wraps(merge)
        def merged(dataset_names: Any, *args: Any, **kwargs: Any) -> Any:
            group = Group(list(dataset_names or ()))
            if group.names:
                self.groups.append(group)
            try:
                with foreign():
                    return merge(dataset_names, *args, **kwargs)
            except Exception:
                if self.doing is Doing.NOTHING:
                    aligned = [one for one in group.loaded if one.aligned is not None]
                    whole = len(aligned) == len(group.names)
                    self.doing, self.group = (Doing.MERGING if whole else Doing.LOOKING_UP), group
                raise

        return merged

    def reading(self, read: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap ``_load_single_dataset``: note which data set is read."""

        @functools.wraps(read)
        def loaded(attributes: Any, *args: Any, **kwargs: Any) -> Any:
            group = self.groups[-1] if self.groups else Group([str(attributes)])
            place = len(group.loaded)
            one = DataSet(group.names[place] if place < len(group.names) else str(attributes), attributes)
            group.loaded.append(one)
            with self._at(Doing.READING, group, one), foreign():
                return read(attributes, *args, **kwargs)

        return loaded

    def aligning(self, align: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap ``align_dataset``: keep the rows from before and after."""

        @functools.wraps(align)
        def aligned(dataset: Any, attributes: Any, *args: Any, **kwargs: Any) -> Any:
            group = self.groups[-1] if self.groups else Group([str(attributes)])
            one = group.loaded[-1] if group.loaded else DataSet(str(attributes), attributes)
            one.raw, self.converter = dataset, None
            with self._at(Doing.CONVERTING, group, one), foreign():
                one.aligned = align(dataset, attributes, *args, **kwargs)
            return one.aligned

        return aligned

    def remembering(self, name: str, choose: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap ``get_dataset_converter`` or ``_get_dataset_processor``: keep what it chooses as attribute ``name``."""

        @functools.wraps(choose)
        def chosen(*args: Any, **kwargs: Any) -> Any:
            with foreign():
                choice = choose(*args, **kwargs)
            setattr(self, name, choice)
            return choice

        return chosen

    def tokenising(self, tokenise: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap ``_get_preprocessed_dataset``: count the rows that are left out."""

        @functools.wraps(tokenise)
        def tokenised(dataset: Any, data_args: Any, training_args: Any, *args: Any, **kwargs: Any) -> Any:
            if dataset is None:
                return tokenise(dataset, data_args, training_args, *args, **kwargs)
            is_eval = bool(kwargs.get("is_eval"))
            group = self.groups[-1 if is_eval else 0] if self.groups else None
            self.processor = None
            with self._at(Doing.TOKENISING, group), foreign():
                rows = tokenise(dataset, data_args, training_args, *args, **kwargs)
            if group is not None and getattr(training_args, "process_index", 0) == 0:
                self._warn_of_dropped(group, dataset, rows, data_args)
            return rows

        return tokenised

    def _warn_of_dropped(self, group: Group, before: Any, after: Any, data_args: Any) -> None:
        """Say how many rows of each data set were left out, where a sample is a row."""
        try:
            dropped = len(before) - len(after)
        except TypeError:  # streamed
            return
        if dropped <= 0 or data_args.packing or type(self.processor).__name__.startswith("Pretrain"):
            return
        alone = [one for one in group.loaded if one.aligned is before]  # eval sets that are kept apart
        for name, left, rows in self._left(Group(group.names, alone) if alone else group, len(before), len(after)):
            if left < rows:
                logger.warning(
                    "LlamaFactory dropped %s of the %d rows of %s: their turns or answers do not fit the data set's "
                    "format and the stage. `Dropped invalid example` in its log shows them.",
                    "all" if left == 0 else f"{rows - left}",
                    rows,
                    name,
                )

    def _left(self, group: Group, before: int, after: int) -> list[tuple[str, int, int]]:
        """Name, rows left and rows of each data set; of all together where that takes too long to find out."""
        if len(group.loaded) == 1:
            return [(group.loaded[0].name, after, before)]
        with contextlib.suppress(TimeIsUp), _quiet():
            end = time.monotonic() + _COUNTING_SECONDS
            counted = [
                (one.name, rows_left(one.aligned, self.processor, seconds=end - time.monotonic()), len(one.aligned))
                for one in group.loaded
            ]
            if sum(rows for _, _, rows in counted) == before and sum(left for _, left, _ in counted) == after:
                return counted
        return [(", ".join(group.names), after, before)]

    def failing_row(self) -> tuple[DataSet, int] | None:
        """The data set and its row, counted from 0, that fails when it is converted or tokenised alone.

        Looks for :data:`~dataflex.bridge.rows_at_fault.SEARCH_SECONDS` in each data set at most; not in streamed ones.
        """
        with contextlib.suppress(TimeIsUp), _quiet():
            for one, rows, attempt in self._attempts():
                row = first_failing(len(rows), attempt) if hasattr(rows, "__len__") else None
                if row is not None:
                    return one, row
        return None

    def _attempts(self) -> Iterator[tuple[DataSet, Any, Callable[[int, int], object]]]:
        """Data sets with their rows as they stood before what failed, and a function that does it again."""
        if self.doing is Doing.CONVERTING and self.data_set is not None and self.converter is not None:
            raw, convert = self.data_set.raw, self.converter
            yield self.data_set, raw, lambda first, end: [convert(raw[row]) for row in range(first, end)]
        if self.doing is Doing.TOKENISING and self.group is not None and self.processor is not None:
            for one in self.group.loaded:
                yield one, one.aligned, functools.partial(_tokenise, self.processor, one.aligned)

    def emptied(self, batch: int) -> list[DataSet]:
        """Data sets of which tokenising, in batches of that many rows, leaves nothing."""
        if self.group is None or self.processor is None:
            return []
        sized = [one for one in self.group.loaded if hasattr(one.aligned, "__len__")]
        with contextlib.suppress(TimeIsUp), _quiet():
            return [one for one in sized if is_emptied(one.aligned, self.processor, batch)]
        return []


@contextlib.contextmanager
def watching(loader: ModuleType, watch: Watch) -> Iterator[None]:
    """Let a watch see LlamaFactory's ``loader`` at work; a function that has moved is not watched."""
    wrappers: dict[str, Callable[..., Any]] = {
        "_get_merged_dataset": watch.merging,
        "_load_single_dataset": watch.reading,
        "align_dataset": watch.aligning,
        "_get_dataset_processor": functools.partial(watch.remembering, "processor"),
        "_get_preprocessed_dataset": watch.tokenising,
    }
    converters = sys.modules.get(getattr(getattr(loader, "align_dataset", None), "__module__", ""))
    with contextlib.ExitStack() as stack:
        if converters is not None and hasattr(converters, _CHOOSE):
            stack.enter_context(
                rebound(converters, _CHOOSE, watch.remembering("converter", getattr(converters, _CHOOSE)))
            )
        for name, wrap in wrappers.items():
            if hasattr(loader, name):
                stack.enter_context(rebound(loader, name, wrap(getattr(loader, name))))
        yield


def _tokenise(processor: Any, aligned: Any, first: int, end: int) -> object:
    return processor.preprocess_dataset(aligned[first:end])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide what LlamaFactory logs of each row: it has said so already."""
    theirs = logging.getLogger("llamafactory")
    level = theirs.level
    theirs.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        theirs.setLevel(level)
