"""Folders of tokenised rows (``tokenized_path``): compared with what the keys ask for before they are trained on.

LlamaFactory takes a folder that is there for what the run file describes and looks at no other key. Here a record is
kept in each folder that is made (:mod:`dataflex.made_from`), and a folder with one is held to it. Of a folder without
one, which LlamaFactory made, what can be known from its rows is (:mod:`dataflex.bridge.unrecorded`), and one warning
names the keys that could not be compared.
"""

from __future__ import annotations

import functools
import inspect
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from dataflex.bridge.tokenizer_identity import tokenizer_identity
from dataflex.bridge.unrecorded import contradictions
from dataflex.checkpoint_keys.held import DATA, MEDIA
from dataflex.checkpoint_keys.keys import group_of
from dataflex.errors import ConfigError
from dataflex.failures.saying import said
from dataflex.made_from import NAME, Asked, MadeFrom, Source
from dataflex.paths import user_path

logger = logging.getLogger("dataflex")

GetDataset = Callable[..., dict[str, Any]]
Look = Callable[[list[str], Any], Any]

_FOLDER = "dataset_dir"
_COMPARED_OTHERWISE = frozenset({"dataset", _FOLDER, "media_dir", "tokenized_path", "use_fast_tokenizer"})
_MIXED = ("mix_strategy", "interleave_probs")  # of several data sets
_PLACED = ("images", "videos", "audios")  # columns whose rows name files below media_dir
_ADVICE = "Put them back, name another folder, or delete this one so that it is made anew."


class TokenisedFolders:
    """Watches a run's calls of LlamaFactory's ``get_dataset`` for the folders they read and make.

    Args:
        source: The run file, for messages.
        given: LlamaFactory's keys as the user wrote them.
        look: LlamaFactory's function that looks data sets up by name.
        refuse: Whether a folder that is not what was asked for is refused; otherwise one warning says it.

    Attributes:
        unchecked: Keys that could not be compared with the rows that were read, with what was asked for.
    """

    def __init__(self, source: str, given: Mapping[str, Any], look: Look, *, refuse: bool) -> None:
        self.unchecked: dict[str, Any] = {}
        self._source, self._given, self._look, self._refuse = source, given, look, refuse
        self._compared: set[str] = set()
        self._tokenizers: dict[int, str] = {}
        self._says, self._why = True, ""

    def guarding(self, get_dataset: GetDataset) -> GetDataset:
        """A ``get_dataset`` that compares a folder before it reads it, and describes one that it makes.

        Raises:
            ConfigError: for a folder that was made under other keys, with all of them.
        """
        signature = inspect.signature(get_dataset)

        @functools.wraps(get_dataset)
        def load(*args: Any, **kwargs: Any) -> dict[str, Any]:
            call = signature.bind(*args, **kwargs).arguments
            data_args, training_args = call["data_args"], call["training_args"]
            self._says = getattr(training_args, "process_index", 0) == 0
            if data_args.tokenized_path is None:
                return get_dataset(*args, **kwargs)
            folder = user_path(str(data_args.tokenized_path))
            was_there = _holds_something(folder)
            self.compare([data_args], call)
            module = get_dataset(*args, **kwargs)
            if was_there and not (folder / NAME).is_file():
                self._look_into(folder, module, call)
            elif not was_there and getattr(training_args, "should_save", False) and folder.is_dir():
                self._describe(folder, self._asked(data_args, call))
            if not self._refuse:
                self.warn()
            return module

        return load

    def compare(self, parts: Iterable[Any], call: Mapping[str, Any]) -> None:
        """Compare the folders that some calls will read with their records, all of them before the first is read.

        Args:
            parts: LlamaFactory's arguments of the data, one for each call.
            call: The other arguments by name.

        Raises:
            ConfigError: with everything that differs.
        """
        paths, found = [], []
        for part in parts:
            folder = user_path(str(part.tokenized_path))
            if str(folder) in self._compared or not _holds_something(folder):
                continue
            self._compared.add(str(folder))
            if changed := self._changes(folder, self._asked(part, call)):
                paths.append(str(folder))
                found += changed
        if found:
            named = paths[0] if len(paths) == 1 else f"{paths[0]} (and {len(paths) - 1} more)"
            self._tell(
                f"tokenized_path: {named} (from {self._source}) was made under other keys, and LlamaFactory looks at "
                f"none of them: {'; '.join(dict.fromkeys(found))}."
            )

    def warn(self) -> None:
        """Say once, on rank 0, what could not be compared."""
        if self.unchecked and self._says:
            logger.warning(
                "tokenized_path: %s (from %s): %s, so it cannot be checked whether it was made under %s. It is trained "
                "on as it is; delete it, or name another folder, to have it made anew.",
                *(self._given.get("tokenized_path"), self._source, self._why, ", ".join(self.unchecked)),
            )

    def _changes(self, folder: Path, asked: Asked) -> list[str]:
        try:
            record = MadeFrom.read(folder)
        except ValueError as error:
            raise ConfigError(
                f"tokenized_path: {folder / NAME} (from {self._source}) is damaged ({error}). Delete the folder."
            ) from error
        if record is None:
            return []
        if asked.unread:
            self._uncheck([_FOLDER], f"the files of {', '.join(asked.unread)} are not to be found")
        return asked.differences(record)

    def _look_into(self, folder: Path, module: Mapping[str, Any], call: Mapping[str, Any]) -> None:
        asked = self._asked(call["data_args"], call)
        found = list(contradictions(module, call, asked))
        if found:
            self._tell(
                f"tokenized_path: {folder} (from {self._source}) cannot have been made under these keys: "
                f"{'; '.join(found)}."
            )
        keys = ["dataset", "eval_dataset", _FOLDER, *(key for key in asked.keys if key != "stage")]
        self._uncheck(keys, "nobody has written down what its rows were made from, nor with which tokenizer")

    def _uncheck(self, keys: Iterable[str], why: str) -> None:
        given = {_FOLDER: "data", **self._given}  # LlamaFactory's own default
        self._why = why
        self.unchecked |= {key: given[key] for key in keys if given.get(key) is not None}

    def _describe(self, folder: Path, asked: Asked) -> None:
        try:
            asked.stamp().write(folder)
        except OSError as error:
            logger.warning("what %s was made from could not be written beside it: %s.", folder, said(error))

    def _tell(self, message: str) -> None:
        if self._refuse:
            raise ConfigError(f"{message} {_ADVICE}")
        if self._says:
            logger.warning("%s This static run trains on it as it is.", message)

    def _asked(self, data_args: Any, call: Mapping[str, Any]) -> Asked:
        data_sets, eval_sets = (
            {name: self._describe_set(name, data_args) for name in names or ()}
            for names in (data_args.dataset, data_args.eval_dataset)
        )
        entries = [source.entry or {} for source in (*data_sets.values(), *eval_sets.values())]
        keys = dict(_tokenising_keys(data_args, call["model_args"]))
        keys["stage"] = call["stage"]
        if len(data_sets) < 2 and len(eval_sets) < 2:
            keys = {name: value for name, value in keys.items() if name not in _MIXED}
        if any(entry.get(column) for entry in entries for column in _PLACED):
            keys["media_dir"] = data_args.media_dir
        if data_args.packing or call["stage"] == "pt":
            keys["preprocessing_batch_size"] = data_args.preprocessing_batch_size  # each batch is packed by itself
        if data_args.packing and call["stage"] != "pt":
            keys["cutoff_len"] = data_args.cutoff_len + 1  # LlamaFactory has taken one off
        if eval_sets:
            keys["eval_on_each_dataset"] = data_args.eval_on_each_dataset
            keys["predict_with_generate"] = getattr(call["training_args"], "predict_with_generate", False)
        drawn = data_args.val_size > 0 or keys.get("mix_strategy", "concat") != "concat"
        if drawn or any(entry.get("num_samples") for entry in entries):
            keys["seed"] = call["training_args"].seed
        return Asked(keys=_plain(keys), data_sets=data_sets, eval_sets=eval_sets, tokenizer=self._identity(call))

    def _describe_set(self, name: str, data_args: Any) -> Source:
        try:
            (attributes,) = self._look([name], data_args.dataset_dir)
        except Exception:  # the folder alone may have come to this machine; LlamaFactory does not ask for the rest
            return Source(entry=None, files={})
        entry = {key: value for key, value in vars(attributes).items() if value is not None}
        if attributes.load_from not in ("file", "script"):
            return Source(entry=_plain(entry), files={})
        del entry["dataset_name"]
        files = dict(_files(Path(str(data_args.dataset_dir)) / attributes.dataset_name))
        return Source(entry=_plain(entry) if files else None, files=files)

    def _identity(self, call: Mapping[str, Any]) -> str:
        tokenizer = call["tokenizer"]
        if id(tokenizer) not in self._tokenizers:
            self._tokenizers[id(tokenizer)] = tokenizer_identity(tokenizer)
        return self._tokenizers[id(tokenizer)]


def _tokenising_keys(*arguments: Any) -> Iterator[tuple[str, Any]]:
    """The keys that tokenising goes by, of LlamaFactory's dataclasses of arguments."""
    for item in arguments:
        for name in [field.name for field in fields(item)] if is_dataclass(item) else ():
            if name not in _COMPARED_OTHERWISE and group_of(name) in (DATA, MEDIA) and hasattr(item, name):
                yield name, getattr(item, name)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return dict(json.loads(json.dumps(values, default=str)))


def _holds_something(folder: Path) -> bool:
    """As LlamaFactory asks whether a folder was tokenised before."""
    return folder.is_dir() and bool(os.listdir(folder))


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """A data set's file, or all of its folder, by name."""
    if path.is_file():
        yield path.name, path
    elif path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file():
                yield str(file.relative_to(path)), file
