"""``runs.csv``: the mixtures and losses of the small runs, one line a run.

A column ``share_NAME`` is the share of a domain, a column ``loss_NAME`` the loss on an eval set; any other is ignored.

Shapes: N runs, K domains, M eval sets.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dataflex import ConfigError

Floats = npt.NDArray[np.float64]

SHARE, LOSS = "share_", "loss_"
_ROUNDING = 1e-4
"""How far the shares of a line may be from a sum of 1: tables are rounded."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Runs:
    """A table of runs.

    Attributes:
        domains: Names of the domains.
        sets: Names of the eval sets.
        mixtures_NK: The mixture of each run; each sums to 1.
        losses_NM: The loss of each run on each eval set.
    """

    domains: tuple[str, ...]
    sets: tuple[str, ...]
    mixtures_NK: Floats
    losses_NM: Floats

    def to_csv(self) -> str:
        """The table as text; numbers are read back as they are."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["run", *(SHARE + name for name in self.domains), *(LOSS + name for name in self.sets)])
        for number, (shares, losses) in enumerate(zip(self.mixtures_NK, self.losses_NM, strict=True)):
            writer.writerow([number, *map(repr, shares.tolist()), *map(repr, losses.tolist())])
        return text.getvalue()


def read_runs(path: Path) -> Runs:
    """Read a table.

    Raises:
        ConfigError: names the file, the line and the column of what is wrong.
    """
    try:
        lines = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig")), strict=True))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist (working directory {Path.cwd()}).") from error
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read as a table: {error}") from error
    columns = list(lines[0]) if lines else []
    shares = [name for name in columns if name and name.startswith(SHARE)]
    losses = [name for name in columns if name and name.startswith(LOSS)]
    if len(shares) < 2 or not losses:
        raise ConfigError(
            f"{path} needs a line a run with a column {SHARE}NAME for each of two or more domains and a column "
            f"{LOSS}NAME for each eval set; it has {', '.join(map(str, columns)) or 'no line'}."
        )
    mixtures_NK = np.array([[_number(path, place, line, name) for name in shares] for place, line in _numbered(lines)])
    losses_NM = np.array([[_number(path, place, line, name) for name in losses] for place, line in _numbered(lines)])
    for (place, _), shares_K in zip(_numbered(lines), mixtures_NK, strict=True):
        if (shares_K < 0).any() or not abs(shares_K.sum() - 1) <= _ROUNDING:
            raise ConfigError(
                f"{path}, line {place}: shares have to be at least 0 and sum to 1, not {shares_K.sum():.6g}."
            )
    return Runs(
        domains=tuple(name.removeprefix(SHARE) for name in shares),
        sets=tuple(name.removeprefix(LOSS) for name in losses),
        mixtures_NK=mixtures_NK / mixtures_NK.sum(axis=1, keepdims=True),
        losses_NM=losses_NM,
    )


def _numbered(lines: list[dict[str, str]]) -> list[tuple[int, dict[str, str]]]:
    return list(enumerate(lines, start=2))


def _number(path: Path, place: int, line: dict[str, str], name: str) -> float:
    try:
        return float(line[name])
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}, line {place}: {name} is {line[name]!r}, which is no number.") from error
