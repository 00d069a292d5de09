"""The design note's import path of :mod:`dataflex.components.mixer`."""

from dataflex.components.mixer import Mixer, logger

__all__ = ["Mixer", "logger"]
