"""What a mixin of a Trainer inherits from: nothing when it runs, anything for the type checker.

The Trainer stands after the mixins in the bases, and transformers ships no types: ``super()`` may have any attribute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:

    class TrainerMixin(Any):  # type: ignore[misc]  # transformers has no types
        """A class whose ``super()`` is some Trainer."""

else:

    class TrainerMixin:
        """A class whose ``super()`` is some Trainer."""
