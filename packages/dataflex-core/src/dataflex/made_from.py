"""What tokenised rows were made from, kept beside them, and what of it differs from what a run asks for now.

A folder of tokenised rows is found by its name, and LlamaFactory then looks at no other key. Whatever DataFlex makes is
therefore described in a file beside it: the keys that tokenising goes by, each data set's entry and files, and the
tokenizer. Of a file, size and time are compared; where the time differs, the content. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dataflex.errors import shown
from dataflex.record import fields as records
from dataflex.record import files

NAME = "dataflex.json"
"""Name of the record in the folder it is about."""

_NOTHING: tuple[Any, ...] = (None, "", [], {})


@dataclass(frozen=True, kw_only=True)
class FileStamp:
    """What tells a file from another, or from what it was.

    Attributes:
        size: Bytes.
        modified: Time of the last change, nanoseconds.
        sha256: Of its content.
    """

    size: int
    modified: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileStamp:
        """Read a file."""
        found = path.stat()
        return cls(size=found.st_size, modified=found.st_mtime_ns, sha256=_sha256(path))

    def fits(self, path: Path) -> bool:
        """Whether a file holds what it held; a file that was copied or touched does."""
        found = path.stat()
        if found.st_size != self.size:
            return False
        return found.st_mtime_ns == self.modified or _sha256(path) == self.sha256


@dataclass(frozen=True, kw_only=True)
class SourceStamp:
    """A data set as it was.

    Attributes:
        entry: What ``dataset_info.json`` said of it, but for where its file lies.
        files: Its files on this machine by name; empty for one of a hub.
    """

    entry: Mapping[str, Any]
    files: Mapping[str, FileStamp]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set as it is.

    Attributes:
        entry: As :attr:`SourceStamp.entry`; ``None`` if its description cannot be read.
        files: Its files by name.
    """

    entry: Mapping[str, Any] | None
    files: Mapping[str, Path]

    def stamp(self) -> SourceStamp:
        """Read its files."""
        return SourceStamp(
            entry=self.entry or {}, files={name: FileStamp.of(path) for name, path in self.files.items()}
        )


@dataclass(frozen=True, kw_only=True)
class MadeFrom:
    """The record: what was tokenised, and how.

    Attributes:
        keys: The keys that tokenising goes by, as they were parsed.
        data_sets: The training sets by name, in order.
        eval_sets: The eval sets, likewise.
        tokenizer: What tells its tokenizer from others.
        schema: Version of the record.
    """

    keys: Mapping[str, Any] = field(default_factory=dict)
    data_sets: Mapping[str, SourceStamp] = field(default_factory=dict)
    eval_sets: Mapping[str, SourceStamp] = field(default_factory=dict)
    tokenizer: str = ""
    schema: int = 1

    def write(self, folder: Path) -> None:
        """Keep it in the folder it is about."""
        files.replace_text(folder / NAME, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> MadeFrom | None:
        """What a folder was made from; ``None`` where nobody has said it.

        Raises:
            ValueError: for a record that is damaged.
        """
        path = folder / NAME
        if not path.is_file():
            return None
        return records.from_fields(cls, json.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a run asks for: the counterpart of :class:`MadeFrom`, of which no file has been read.

    Attributes:
        keys: As there.
        data_sets: Likewise.
        eval_sets: Likewise.
        tokenizer: Likewise.
    """

    keys: Mapping[str, Any]
    data_sets: Mapping[str, Source]
    eval_sets: Mapping[str, Source]
    tokenizer: str

    def stamp(self) -> MadeFrom:
        """What is made of it, for the record. Reads every file."""
        return MadeFrom(
            keys=self.keys,
            data_sets={name: source.stamp() for name, source in self.data_sets.items()},
            eval_sets={name: source.stamp() for name, source in self.eval_sets.items()},
            tokenizer=self.tokenizer,
        )

    def differences(self, record: MadeFrom) -> list[str]:
        """Everything in which a record differs from what is asked for, a phrase each; reads files of another time."""
        found = [*_sets("dataset", record.data_sets, self.data_sets)]
        found += _sets("eval_dataset", record.eval_sets, self.eval_sets)
        found += key_differences(record.keys, self.keys)
        if record.tokenizer != self.tokenizer:
            found.append("the tokenizer (of model_name_or_path, with its special tokens) is another one")
        return found

    @property
    def unread(self) -> list[str]:
        """Names of data sets whose description or files are not to be found, so that they cannot be compared."""
        every = {**self.data_sets, **self.eval_sets}
        return [name for name, source in every.items() if source.entry is None]


@dataclass(frozen=True, kw_only=True)
class RowsOf:
    """What is known of the rows that something was found on or trained with, a run's record or a file of weights.

    Attributes:
        names: Names of the data sets or domains, in the order of the rows; empty if that is not known.
        keys: LlamaFactory's keys that they were tokenised under; empty likewise.
        pool: The pool's fingerprint (:func:`dataflex.data.fingerprint.fingerprint`); ``""`` likewise.
    """

    names: Sequence[str] = ()
    keys: Mapping[str, Any] = field(default_factory=dict)
    pool: str = ""

    def differences(self, now: RowsOf) -> list[str]:
        """In what the rows of ``now`` differ from these, a phrase each; what one of them does not know is passed over.

        The order of the names is no difference: what is found for domains goes by their names.
        """
        found = []
        if self.names and now.names and set(self.names) != set(now.names):
            found.append(f"the data sets were {', '.join(self.names)} and are now {', '.join(now.names)}")
        found += key_differences(self.keys, now.keys)
        same_order = list(self.names) == list(now.names)
        if not found and same_order and self.pool and now.pool and self.pool != now.pool:
            found.append("the rows are others: their files, or the tokenizer")
        return found

    def made_otherwise(self, keys: Mapping[str, Any], but: Collection[str] = ()) -> list[str]:
        """In what rows that were tokenised under ``keys`` differ from these, a phrase each.

        Args:
            keys: Of other rows.
            but: Keys that are not compared, such as those that say which rows they are.
        """
        return key_differences({name: value for name, value in self.keys.items() if name not in but}, keys)


def key_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The keys that two have in common and in which they differ, a phrase each: ``cutoff_len was 96 and is now 64``.

    A key of one of the two alone is of another version of LlamaFactory and is not compared.
    """
    return [
        f"{name} was {shown(then[name])} and is now {shown(now[name])}"
        for name in sorted(then.keys() & now.keys())
        if _meaning(then[name]) != _meaning(now[name])
    ]


def _meaning(value: Any) -> Any:
    return None if any(value == nothing and type(value) is type(nothing) for nothing in _NOTHING) else value


def _sets(key: str, then: Mapping[str, SourceStamp], now: Mapping[str, Source]) -> Iterator[str]:
    if list(then) != list(now):
        yield f"{key} was {_listed(list(then))} and is now {_listed(list(now))}"
    for name in then.keys() & now.keys():
        before, source = then[name], now[name]
        if source.entry is None:
            continue
        if changed := key_differences(before.entry, source.entry):
            yield f"the entry of {name} in dataset_info.json has changed ({', '.join(changed)})"
        if source.files and not _same_files(before.files, source.files):
            yield f"the rows of {name} ({', '.join(sorted(source.files))}) have changed since"


def _same_files(then: Mapping[str, FileStamp], now: Mapping[str, Path]) -> bool:
    if len(then) == len(now) == 1:  # whatever it is called
        return next(iter(then.values())).fits(next(iter(now.values())))
    return then.keys() == now.keys() and all(stamp.fits(now[name]) for name, stamp in then.items())


def _listed(names: Sequence[str]) -> str:
    return repr(",".join(names)) if names else "none"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
