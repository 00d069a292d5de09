"""What a run file says of a screen: a cheaper selector whose scores decide which rows are scored exactly.

Imports no library, so that a params module can name it. A selector offers screening with one parameter,
``screen: ScreenParams | None = param(None, ...)``, and one call in ``select``, :meth:`dataflex.RunContext.screened`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from dataflex.errors import ConfigError

AUTO: Literal["auto"] = "auto"


@dataclass(frozen=True)
class ScreenParams:
    """What stands under ``component_params.screen``.

    Attributes:
        name: A selector that gives scores; ``dist/name`` where several packages have one of that name.
        params: Its parameters.
        survivors: How many rows are scored exactly; ``auto`` for as many as ``worth`` pays for.
        worth: How many random steps a step on the chosen rows is worth, as ``dataflex study`` prints it. ``auto`` needs
            it; with it, what the selection may cost is recorded.
        every: 0: the screen scores once; n: at every n-th boundary, the first one included.
        agreement: Candidates drawn at random that are scored exactly, survivors or not, to see how far screen and exact
            score agree; 0 for none.

    Raises:
        ConfigError: for values out of range, or ``auto`` without ``worth``.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    name: str
    params: dict[str, Any] = field(default_factory=dict)
    survivors: int | Literal["auto"] = AUTO
    worth: float | None = None
    every: int = 0
    agreement: int = 64

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("screen.name is empty. Name a selector that gives scores, such as lexical.")
        if isinstance(self.survivors, int) and self.survivors < 1:
            raise ConfigError(f"screen.survivors is {self.survivors}; at least one row has to be left.")
        if self.worth is not None and not 1 < self.worth < math.inf:
            raise ConfigError(
                f"screen.worth is {self.worth}; it is how many random steps a step on the chosen rows is worth, so it "
                "must be above 1: below, no selection pays."
            )
        if self.survivors == AUTO and self.worth is None:
            raise ConfigError(
                "screen.survivors: auto needs screen.worth, how many random steps a step on the chosen rows is worth "
                "(`dataflex study` prints it for your data). Give it, or a number of survivors."
            )
        for name, value in (("every", self.every), ("agreement", self.agreement)):
            if value < 0:
                raise ConfigError(f"screen.{name} is {value}; it must be at least 0.")
