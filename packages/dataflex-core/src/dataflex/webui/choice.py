"""What a person has chosen in the section, as the one hidden field of LlamaBoard's page keeps it: a line of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dataflex.errors import ConfigError
from dataflex.kinds import Kind, TrainType, in_turn
from dataflex.record import fields as records

SCHEMA = 1

SHOWN = " "
"""Ends a text that the form has written itself and shows already; JSON does not mind it."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """One component of the run.

    Attributes:
        kind: Its kind.
        name: Its name, or ``DIST/NAME``.
        params: Its parameters as they were entered; those left as they were do not stand here.
        every: At which boundaries it is asked; 1 for all. Of runs with several components.
    """

    kind: Kind
    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    every: int = 1


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The section (schema 1; later schemas only add fields).

    Attributes:
        on: Whether the run is one of DataFlex's; otherwise LlamaBoard is as it is without us.
        train_type: The train type.
        components: One, or several under ``dynamic``.
        keys: Step and mixture keys as they were entered; empty ones are left out of the run.
        schema: Version of this record.
    """

    on: bool = False
    train_type: TrainType = TrainType.SELECT
    components: Sequence[Chosen] = field(default_factory=list)
    keys: Mapping[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    def to_json(self) -> str:
        """This choice as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Choice:
        """Read it back; nothing chosen for an empty text.

        Raises:
            ConfigError: for what is no choice.
        """
        if not text.strip():
            return cls()
        try:
            return records.from_fields(cls, json.loads(text))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"these are no fields of DataFlex's section ({error}). Choose anew.") from error

    @property
    def is_composed(self) -> bool:
        """Whether several components may decide together."""
        return self.train_type is TrainType.COMPOSED

    def in_turn(self) -> list[Chosen]:
        """Its components in the order in which they decide."""
        order = in_turn(each.kind for each in self.components)
        return sorted(self.components, key=lambda each: order.index(each.kind))
