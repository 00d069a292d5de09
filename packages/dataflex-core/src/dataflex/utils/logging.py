"""The design note's import path of DataFlex's logger."""

from dataflex.components.context import logger

__all__ = ["logger"]
