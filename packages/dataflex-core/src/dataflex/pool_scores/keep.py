"""The rows of highest score, written as a LlamaFactory data set in the fields of their sources."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.bridge.origins import Source
from dataflex.data.origins import Origins
from dataflex.errors import ConfigError
from dataflex.math.topk import top_k
from dataflex.record import files

logger = logging.getLogger("dataflex")

Rows = npt.NDArray[np.int64]
INFO = "dataset_info.json"


@dataclass(frozen=True)
class Keep:
    """How many rows to keep.

    Attributes:
        option: As the user wrote it, for messages.
        rows: So many; or
        share: this share of the pool, above 0 and at most 1.
        draw: Whether the selector draws them; else they are those of highest score.

    Raises:
        ConfigError: for a number out of range.
    """

    option: str
    rows: int | None = None
    share: float | None = None
    draw: bool = False

    def __post_init__(self) -> None:
        if self.rows is not None and self.rows < 1:
            raise ConfigError(f"{self.option}: keep at least one row.")
        if self.share is not None and not 0 < self.share <= 1:
            raise ConfigError(f"{self.option}: the share of the pool must be above 0 and at most 1 (0.1 is a tenth).")

    def count(self, pool: int) -> int:
        """Rows to keep of a pool, a share rounded down.

        Raises:
            ConfigError: when that is none, or more than there are.
        """
        count = self.rows if self.rows is not None else int(pool * (self.share or 0))
        if not 1 <= count <= pool:
            raise ConfigError(f"{self.option} keeps {count} rows of a pool of {pool}. Keep between 1 and {pool}.")
        return count

    def check(self, pool: int, origins: Origins | None, params: Mapping[str, Any]) -> None:
        """Check before the model loads that so many rows can be kept.

        Args:
            pool: Rows of the pool.
            origins: Where they come from.
            params: The component's parameters.

        Raises:
            ConfigError: when there are not enough, or their sources are not known.
        """
        count, candidates = self.count(pool), params.get("max_candidates")
        if isinstance(candidates, int) and candidates < count:
            raise ConfigError(
                f"{self.option} keeps {count} rows, but max_candidates={candidates} scores fewer. Raise "
                "component_params.max_candidates, or set it to null."
            )
        screen = params.get("screen")
        survivors = screen.get("survivors") if isinstance(screen, Mapping) else None
        if isinstance(survivors, int) and survivors < count:
            raise ConfigError(
                f"{self.option} keeps {count} rows, but screen.survivors={survivors} leaves fewer to be scored. Raise "
                "component_params.screen.survivors, or set component_params.screen to null."
            )
        if origins is None:
            raise ConfigError(
                f"{self.option}: the rows' sources are not known, so they cannot be written in their original fields. "
                "Set packing: false (stage: pt packs by default), and leave tokenized_path out."
            )

    def choose(self, scores: npt.NDArray[np.float64], drawn: Rows | None = None) -> Rows:
        """The rows of highest score, in the pool's order; equal scores go by row.

        Args:
            scores: Of every row.
            drawn: The rows that the selector drew, which are taken in their place.

        Raises:
            ConfigError: when too few rows have a score.
        """
        if drawn is not None:
            return np.sort(drawn)
        count, finite = self.count(len(scores)), int(np.isfinite(scores).sum())
        if count > finite:
            raise ConfigError(f"{self.option} keeps {count} rows, but {finite} of {len(scores)} have a score.")
        return np.sort(top_k(scores, count))


def write_dataset(folder: Path, kept: Rows, origins: Origins, sources: Sequence[Source]) -> dict[str, int]:
    """Write rows as data sets of their sources' names, one file each, with a ``dataset_info.json``.

    The run's eval sets stay where they are and are listed too, so that only ``dataset_dir`` has to change.

    Args:
        folder: Replaced as a whole.
        kept: Rows of the pool.
        origins: Where the pool's rows come from.
        sources: Training data sets in the order of ``origins``, then eval sets.

    Returns:
        Rows by data set; those of which nothing is kept are left out.

    Raises:
        ConfigError: for a value JSON has no form for.
    """
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    info: dict[str, Any] = {}
    counts: dict[str, int] = {}
    for index, source in enumerate(sources[: len(origins.names)]):
        rows = origins.rows[kept[origins.of(kept) == index]]
        if not len(rows):
            continue
        file = _file_name(source.name, temporary)
        _write_lines(file, source.raw.select(rows.tolist()), source.name)
        info[source.name] = {"file_name": file.name, **source.entry}
        counts[source.name] = len(rows)
    for source in sources[len(origins.names) :]:
        if source.name in origins.names:
            logger.warning("%s is trained on and evaluated on: its kept rows stand for both.", source.name)
        else:
            info[source.name] = {**source.place, **source.entry}
    files.replace_text(temporary / INFO, json.dumps(info, indent=1, ensure_ascii=False) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    return counts


def _file_name(name: str, folder: Path) -> Path:
    """A file for the rows of a data set; ``team/web`` and ``team_web`` have one each."""
    plain, number = re.sub(r"[^\w.-]+", "_", name), 1
    while (file := folder / f"{plain}{'' if number == 1 else f'-{number}'}.jsonl").exists():
        number += 1
    return file


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]], name: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            try:
                file.write(json.dumps(dict(row), ensure_ascii=False, default=_plain) + "\n")
            except TypeError as error:
                raise ConfigError(f"rows of {name} cannot be written as JSON: {error}.") from error


def _plain(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"a field holds {type(value).__name__}")
