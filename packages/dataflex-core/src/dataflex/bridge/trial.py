"""Asking LlamaFactory's parser what it will refuse, before anything loads, and leaving no trace of having asked."""

from __future__ import annotations

import contextlib
import enum
import logging
import os
import typing
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from dataflex.bridge.rebound import rebound
from dataflex.bridge.refusals import explained
from dataflex.errors import ConfigError
from dataflex.hints import nearest
from dataflex.rng import rng_scope


def refusals(
    parser: ModuleType, arguments: Mapping[str, Any], known: Mapping[str, Any], source: str, *, as_ranks: bool
) -> list[ConfigError]:
    """What the parser refuses, as it will say it itself.

    It stops at the first thing. Words for which there is a list are therefore looked up one by one beforehand; the
    nearest word of the list then takes the place of a wrong one, so that the parser comes to what else is wrong.

    Args:
        parser: LlamaFactory's own, ``llamafactory.hparams.parser``.
        arguments: LlamaFactory's own keys; only those it knows.
        known: The types of all of them.
        source: The run file, for the message.
        as_ranks: Whether torchrun will start the run.
    """
    found, keys = [], dict(arguments)
    for key, words in _lists_of_words(known):
        wrong = None if arguments.get(key) is None else _refused(words, arguments[key], {key: arguments[key]}, source)
        if wrong is None:
            continue
        found.append(wrong)
        meant = nearest(str(arguments[key]), [str(word.value) for word in words])
        if meant is None:
            return found  # without a word of the list, the parser would go no further
        keys[key] = meant
    with _no_trace(), _ranks(parser) if as_ranks else contextlib.nullcontext():
        refused = _refused(parser.get_train_args, keys, arguments, source)
    return found if refused is None else [*found, refused]


def _refused(parse: Any, given: Any, arguments: Mapping[str, Any], source: str) -> ConfigError | None:
    try:
        explained(parse, arguments, source)(given)
    except ConfigError as error:
        return error
    return None


def _lists_of_words(known: Mapping[str, Any]) -> Iterator[tuple[str, type[enum.Enum]]]:
    """The keys that are one of the words of an enumeration, which a text is turned into."""
    for key, annotation in known.items():
        kinds = typing.get_args(annotation) or (annotation,)
        lists = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, enum.Enum)]
        if len(lists) == 1 and set(kinds) <= {str, type(None), lists[0]}:
            yield key, lists[0]


@contextlib.contextmanager
def _no_trace() -> Iterator[None]:
    """Put back the random generators, the environment and the loggers, and let nothing be logged."""
    from transformers.utils import logging as of_transformers

    environ, verbosity = dict(os.environ), of_transformers.get_verbosity()
    silent = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with rng_scope():
            yield
    finally:
        logging.disable(silent)
        of_transformers.set_verbosity(verbosity)
        os.environ.clear()
        os.environ.update(environ)


@contextlib.contextmanager
def _ranks(parser: ModuleType) -> Iterator[None]:
    """Let the parser think that torchrun has started it."""
    with rebound(parser.TrainingArguments, "parallel_mode", property(lambda self: parser.ParallelMode.DISTRIBUTED)):
        yield
