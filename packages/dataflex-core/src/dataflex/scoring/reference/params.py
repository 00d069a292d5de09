"""Where the losses of a reference model come from. Torch-free: for the parameters of components."""

from __future__ import annotations

from enum import StrEnum


class ReferenceLosses(StrEnum):
    """Where the losses of the reference model come from."""

    CACHED = "cached"
    LIVE = "live"
