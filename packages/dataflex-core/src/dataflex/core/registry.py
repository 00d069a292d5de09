"""The design note's import path of the decorators in :mod:`dataflex.components.registry`."""

from dataflex.components.registry import register_mixer, register_selector, register_weighter

__all__ = ["register_mixer", "register_selector", "register_weighter"]
