"""What a new component package and the things in it are called."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass

from dataflex.errors import ConfigError
from dataflex.spec import Kind

_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")


@dataclass(frozen=True)
class Names:
    """Names that follow from a component's kind and name.

    Attributes:
        kind: Its kind.
        name: What users write as ``component_name``.

    Raises:
        ConfigError: for a name that cannot be that of a component, a distribution and a module.
    """

    kind: Kind
    name: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or keyword.iskeyword(self.name):
            raise ConfigError(
                f"{self.name!r} cannot be the name of a new {self.kind}: use small letters, digits and single hyphens, "
                "a letter first."
            )

    @property
    def dist(self) -> str:
        """Name of the distribution, and of its folder."""
        return f"{self.name.replace('_', '-')}-{self.kind}"

    @property
    def module(self) -> str:
        """Name of the import package."""
        return self.dist.replace("-", "_")

    @property
    def stem(self) -> str:
        """The component's name as a class name begins."""
        return "".join(part.capitalize() for part in re.split("[-_]", self.name))
