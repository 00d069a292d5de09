"""The state of a mixture sampler, as a checkpoint keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from dataflex.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class MixtureState:
    """The state of a sampler: its size is that of the domains, not of the pool. ``asdict`` gives JSON values.

    Attributes:
        unit: The sampler's unit.
        names: Its domains.
        sizes: Rows of each.
        position: Samples drawn so far.
        deficits: What each domain is owed, in millionths of the unit; sums to 0.
        epochs: Whole passes over each domain.
        cursors: Rows read of the current pass.
        counts: Samples drawn from each domain.
        tokens: Trained tokens drawn from each domain; empty where lengths are unknown.
        finished: Whether a domain has used up its ``max_epochs`` and was left out since.
        proportions: The last ones drawn by; empty before the first draw.
    """

    unit: str
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    position: int
    deficits: tuple[int, ...]
    epochs: tuple[int, ...]
    cursors: tuple[int, ...]
    counts: tuple[int, ...]
    tokens: tuple[int, ...]
    finished: tuple[bool, ...]
    proportions: tuple[float, ...]

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> MixtureState:
        """The state whose ``asdict`` went through JSON.

        Raises:
            ConfigError: if a field is missing.
        """
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if name not in record]
        if missing:
            raise ConfigError(f"the checkpoint's mixture lacks {', '.join(missing)}; another version wrote it.")
        values: dict[str, Any] = {name: tuple(v) if isinstance(v := record[name], list) else v for name in names}
        return cls(**values)
