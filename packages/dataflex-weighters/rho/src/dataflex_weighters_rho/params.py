"""Parameters of the weighter and of the selector ``rho``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from dataflex import ConfigError, param
from dataflex.components.screen_params import ScreenParams
from dataflex.scoring.reference.params import ReferenceLosses


class Mode(StrEnum):
    """How rows are chosen by their scores."""

    TOP = "top"
    SAMPLE = "sample"


@dataclass(frozen=True)
class RhoParams:
    """What both may set under ``component_params``.

    Raises:
        ConfigError: for an empty name of the reference model.
    """

    reference: str = param(help="The reference model: a folder (a full model or an adapter) or a name on a hub.")
    reference_losses: ReferenceLosses = param(
        ReferenceLosses.CACHED,
        "cached computes them once, before training, 2 bytes a token on disk; live keeps the reference in memory.",
    )
    token_budget: int | None = param(
        None, "Padded tokens of one batch of a scoring pass. null: 2048 on a CPU, 16384 elsewhere.", at_least=1
    )

    def __post_init__(self) -> None:
        if not self.reference:
            raise ConfigError("reference is empty; name a trained model.")


@dataclass(frozen=True)
class RhoSelectorParams(RhoParams):
    """What the selector may set under ``component_params``."""

    mode: Mode = param(Mode.TOP, "top takes the rows of highest score; sample draws by it, without replacement.")
    temperature: float = param(
        1.0,
        "Of mode: sample, in standard deviations of the scores; lower stays closer to top.",
        at_least=1e-6,
        below=math.inf,
    )
    max_candidates: int | None = param(
        None, "Most rows scored at a boundary, drawn afresh at each; null scores the whole pool.", at_least=1
    )
    passes: int = param(1, "How often the rows chosen are read in a stage: so many times fewer are chosen.", at_least=1)
    screen: ScreenParams | None = param(
        None,
        "A cheaper selector whose scores say which rows are scored exactly: {component: NAME, params: {...}, "
        "survivors: 4000 | auto, worth: null, every: 0, agreement: 64}; null scores all candidates.",
    )
