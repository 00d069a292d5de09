"""Batches made outside the Trainer's loaders, as its loaders would make them.

A stock Trainer drops columns that the model does not know, and it does so where it makes a loader: in a Hugging Face
data set before the collator sees a row, elsewhere in a wrapper of the collator. Components make batches themselves, of
``context.dataset``, ``context.data_collator`` and ``context.eval_datasets``, so what is handed out does the same:

    columns are dropped as in transformers   the data set as it is (every column can be read), a collator that drops
    a Trainer's own _remove_unused_columns   what that returned
    a Trainer's own loader                   its collator, and for an eval set its data set
    remove_unused_columns: false             data set and collator as they are

Nothing is copied. What the Trainer keeps is asked at the first batch, and an eval set when it is first used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import Trainer
from transformers.trainer_utils import RemoveColumnsCollator

from dataflex.data.collator_settings import collator_settings
from dataflex.rng import rng_scope
from dataflex.trainers.host import DynamicHost, Host

Collator = Callable[[Sequence[Any]], Any]

_LIBRARIES = ("transformers", "trl", "llamafactory", "dataflex")  # their Trainers make loaders as transformers does
_LOADERS = ("get_train_dataloader", "get_eval_dataloader", "_get_dataloader")
_REMOVERS = ("_remove_unused_columns", "_get_collator_with_removed_columns")


@dataclass(frozen=True, eq=False)
class BatchSource:
    """What a loader of the Trainer reads, and what it makes batches with.

    Attributes:
        dataset: The rows.
        collator: Returns what makes a list of rows one batch.
        key: Equal for sources whose collators do the same.
    """

    dataset: Any
    collator: Callable[[], Collator]
    key: tuple[str, int]


@dataclass(frozen=True, eq=False)
class Handed:
    """What components get of a Trainer.

    Attributes:
        dataset: The training pool.
        collator: Makes batches of its rows and of those of the eval sets.
        eval_datasets: The eval sets by name.
    """

    dataset: Any
    collator: Collator
    eval_datasets: Mapping[str, Any]


def handed_out(trainer: DynamicHost) -> Handed:
    """Data sets and collator for components, which make their batches as the Trainer makes its own."""
    evals = trainer.eval_dataset
    named = evals if isinstance(evals, dict) else ({"eval": evals} if evals is not None else {})
    if not getattr(trainer.args, "remove_unused_columns", False) and not any(
        _own(trainer, name) for name in (*_LOADERS, *_REMOVERS)
    ):
        return Handed(trainer.train_dataset, trainer.data_collator, named)
    source = _training_source(trainer)
    collator = HandedCollator(source.collator, trainer.data_collator)
    return Handed(source.dataset, collator, EvalSets(trainer, named, source.key))


class HandedCollator:
    """Collates a row as the Trainer's loader of its data set would. Everything else is the Trainer's own collator's.

    Args:
        make: Returns the collator of the training pool, asked at the first batch.
        shown: The Trainer's own, whose attributes can be read here.
    """

    def __init__(self, make: Callable[[], Collator], shown: Collator) -> None:
        self._make, self.shown = make, shown
        self._made: Collator | None = None

    def __call__(self, rows: Sequence[Any]) -> Any:
        """Collate ``rows``, all of one data set."""
        if rows and isinstance(rows[0], OwnRow):
            return rows[0].collator(rows)
        if self._made is None:
            self._made = self._make()
        return self._made(rows)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_make", "shown", "_made"):
            raise AttributeError(name)
        return getattr(self.shown, name)

    def settings(self) -> str:
        """What it does, for a fingerprint."""
        kept = getattr(self._made, "signature_columns", None)
        used = self.shown if isinstance(self._made, RemoveColumnsCollator) else self._made
        return f"{collator_settings(used)} {collator_settings(kept)}"


class EvalSets(Mapping[str, Any]):
    """Eval sets, each made ready when it is first asked for.

    Args:
        trainer: The Trainer.
        named: Its eval sets.
        key: Of the training source: rows of a set that is collated in another way bring their collator along.
    """

    def __init__(self, trainer: Host, named: Mapping[str, Any], key: tuple[str, int]) -> None:
        self._trainer, self._named, self._key = trainer, dict(named), key
        self._ready: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._ready:
            source = _evaluation_source(self._trainer, self._named[name])
            alike = source.key == self._key
            self._ready[name] = source.dataset if alike else OwnRows(source.dataset, source.collator())
        return self._ready[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)


class OwnRow(dict[str, Any]):
    """A row that brings the collator along which its data set needs."""

    def __init__(self, values: Mapping[str, Any], collator: Collator) -> None:
        super().__init__(values)
        self.collator = collator

    def __copy__(self) -> OwnRow:
        return OwnRow(self, self.collator)

    copy = __copy__


class OwnRows:
    """A data set of rows that bring their collator along: a component knows one collator for all data sets.

    Args:
        dataset: Map-style data set.
        collator: Of its rows.
    """

    def __init__(self, dataset: Any, collator: Collator) -> None:
        self._dataset, self._collator = dataset, collator

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, row: Any) -> Any:
        return self._bring(self._dataset[row])

    def __getitems__(self, rows: Sequence[int]) -> list[Any]:
        """Several rows, read in one call where the data set can."""
        fetch = getattr(self._dataset, "__getitems__", None)
        found = fetch(rows) if fetch is not None else [self._dataset[row] for row in rows]
        return [self._bring(row) for row in found]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_dataset", "_collator"):
            raise AttributeError(name)
        return getattr(self._dataset, name)

    def _bring(self, row: Any) -> Any:
        return OwnRow(row, self._collator) if isinstance(row, dict) else row


def _training_source(trainer: DynamicHost) -> BatchSource:
    if _own(trainer, "get_train_dataloader") or _own(trainer, "_get_dataloader"):
        return BatchSource(
            trainer.train_dataset, lambda: _loader(trainer.stock_train_dataloader).collate_fn, ("own", 0)
        )
    return _of_dataset(trainer, trainer.train_dataset, "Training")


def _evaluation_source(trainer: Host, dataset: Any) -> BatchSource:
    if _own(trainer, "get_eval_dataloader") or _own(trainer, "_get_dataloader"):
        loader = _loader(lambda: trainer.get_eval_dataloader(dataset))
        return BatchSource(loader.dataset, lambda: loader.collate_fn, ("own", 1))
    return _of_dataset(trainer, dataset, "Evaluation")


def _loader(make: Callable[[], Any]) -> Any:
    with rng_scope():  # a sampler may draw its seed
        return make()


def _of_dataset(trainer: Host, dataset: Any, description: str) -> BatchSource:
    """As ``Trainer._get_dataloader`` does; ``description`` is its word in a message about dropped columns."""
    collator = trainer.data_collator
    if _is_hugging_face(dataset):
        transformed = dataset.format["type"] == "custom"  # made on the spot of the columns that are left
        if transformed or _own(trainer, "_remove_unused_columns"):
            kept = trainer._remove_unused_columns(dataset, description=description)
            return BatchSource(kept, lambda: collator, ("plain", id(collator)))
        wrap: Callable[..., Any] = Trainer._get_collator_with_removed_columns
        key = "removing"
    else:
        wrap = type(trainer)._get_collator_with_removed_columns
        key = "removing" if not _own(trainer, "_get_collator_with_removed_columns") else "own removing"
    return BatchSource(dataset, lambda: wrap(trainer, collator, description=description), (key, id(collator)))


def _is_hugging_face(dataset: Any) -> bool:
    from datasets import Dataset

    return isinstance(dataset, Dataset)


def _own(trainer: Host, method: str) -> bool:
    """Whether the Trainer class that a run was given defines a method itself, in place of transformers'."""
    homes = [cls.__module__.partition(".")[0] for cls in type(trainer).__mro__ if method in vars(cls)]
    return any(home not in _LIBRARIES for home in homes)
