"""Parameters of the mixer ``doremi``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from dataflex import ConfigError, param
from dataflex.scoring.reference.params import ReferenceLosses


class Mode(StrEnum):
    """What the weights of the domains are used for."""

    PROXY = "proxy"
    ONLINE = "online"


class Normalizer(StrEnum):
    """What the weighted loss of a step is divided by."""

    PAPER = "paper"
    OFFICIAL = "official"


@dataclass(frozen=True)
class DoremiParams:
    """What a run file may set under ``component_params``.

    Raises:
        ConfigError: for an empty name of the reference model.
    """

    reference: str = param(
        help="The reference model: a folder (a full model or an adapter) or a name on a hub.",
        aliases=("reference_model_path",),
    )
    reference_losses: ReferenceLosses = param(
        ReferenceLosses.CACHED,
        "cached computes them once, before training, 2 bytes a token on disk; live keeps the reference in memory.",
    )
    mode: Mode = param(
        Mode.PROXY,
        "proxy keeps the first proportions and leaves its answer in weights.json; online samples by the weights.",
    )
    normalizer: Normalizer = param(
        Normalizer.PAPER,
        "paper: the loss is sum alpha_d * (mean token loss of d); official: sum w*loss / sum w with w = alpha / share.",
    )
    eta: float = param(1.0, "Step size of the weights.", aliases=("reweight_eta",), at_least=0, below=math.inf)
    smoothing: float = param(
        1e-3, "Share of the uniform weights mixed in at each step.", aliases=("reweight_eps",), at_least=0, at_most=1
    )
    average_from_start: bool = param(
        False, "Count the uniform weights of the start in the average that is the answer, as the released code does."
    )
    online_decay: float = param(
        0.99, "online: share of the earlier weights in the moving average sampled by.", at_least=0, below=1
    )
    token_budget: int | None = param(
        None,
        "cached: padded tokens of one batch of the reference model. null: 2048 on a CPU, 16384 elsewhere.",
        at_least=1,
    )

    def __post_init__(self) -> None:
        if not self.reference:
            raise ConfigError("reference is empty; name a trained model.")
