"""``dataflex cache``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from dataflex.console import print_json, print_table, stdout
from dataflex.errors import ConfigError

if TYPE_CHECKING:
    from dataflex.scoring.index_cache import CachedIndex


class CacheAction(StrEnum):
    """What to do with what is kept."""

    LIST = "list"
    CLEAR = "clear"


def run_cache(action: CacheAction, folder: Path, unfinished: bool, as_json: bool) -> None:
    """List or delete the embeddings and scores that lie in a folder.

    Args:
        action: What to do.
        folder: An ``embeddings_dir`` or ``scores_dir``, or the output directory of a run.
        unfinished: Only what is not finished.
        as_json: Print JSON.

    Raises:
        ConfigError: when the folder is none, or something in it cannot be deleted.
    """
    from dataflex.scoring.index_cache import cached_indexes, clear

    if not folder.is_dir():
        raise ConfigError(
            f"{folder} is no folder. Name an embeddings_dir or scores_dir, or the output directory of a run."
        )
    if action is CacheAction.LIST:
        _show([index for index in cached_indexes(folder) if not (unfinished and index.finished)], folder, as_json)
        return
    try:
        gone, held = clear(folder, unfinished=unfinished)
    except OSError as error:
        raise ConfigError(f"{error.filename or folder} could not be deleted: {error.strerror or error}.") from error
    if as_json:
        print_json({"deleted": [str(index.path) for index in gone], "held": [str(index.path) for index in held]})
        return
    freed = sum(index.bytes for index in gone)
    stdout.print(f"Deleted {len(gone)} of {len(gone) + len(held)} indexes, {_megabytes(freed)}.", markup=False)
    for index in held:
        stdout.print(f"{index.path} is being made, and stays.", soft_wrap=True, markup=False)


def _show(found: Sequence[CachedIndex], folder: Path, as_json: bool) -> None:
    from dataclasses import asdict

    from rich.table import Table

    if as_json:
        print_json([{**asdict(index), "path": str(index.path)} for index in found])
        return
    if not found:
        stdout.print(f"No embeddings and no scores in {folder}.", soft_wrap=True, markup=False)
        return
    table = Table("index", "model", "of", "rows", "width", "size", "made", "took", show_edge=False, pad_edge=False)
    for index in found:
        name = str(index.path.relative_to(folder))
        if not index.finished:
            table.add_row(
                name, "being made" if index.held else "unfinished", "", "", "", _megabytes(index.bytes), "", ""
            )
            continue
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(index.made))
        took = f"{index.seconds:.1f} s"
        numbers = (str(index.rows), str(index.width), _megabytes(index.bytes))
        table.add_row(name, index.model, _what(index), *numbers, made, took)
    print_table(table)


def _what(index: CachedIndex) -> str:
    spec = index.spec or {}
    layers = ", ".join(map(str, spec.get("layers", ())))
    return f"layers {layers}" if layers else str(spec.get("score", ""))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
