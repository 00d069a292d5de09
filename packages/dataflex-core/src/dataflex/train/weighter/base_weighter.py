"""The design note's import path of :mod:`dataflex.components.weighter`."""

from dataflex.components.weighter import Weighter, logger

__all__ = ["Weighter", "logger"]
