"""The design note's import path of :mod:`dataflex.components.selector`."""

from dataflex.components.selector import Selector, logger

__all__ = ["Selector", "logger"]
