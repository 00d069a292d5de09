"""What a component keeps across a resume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dataflex.errors import ComponentError


class Stateful:
    """Base of all components: nothing to remember unless a class says otherwise."""

    def state_dict(self) -> dict[str, Any]:
        """What the component must remember: tensors, arrays and JSON values by name. Called on rank 0."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave, on every rank, before training goes on.

        Raises:
            ComponentError: if there is a state and the class does not say how to take it back.
        """
        if state:
            raise ComponentError(
                f"{type(self).__name__} gave a state ({', '.join(state)}) but cannot take it back: define "
                "load_state_dict(state) beside state_dict()."
            )
