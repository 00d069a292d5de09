"""The components of a run as the trainers call them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dataflex.components.asking import NOTHING, Asking, Progress
from dataflex.components.build import build_component
from dataflex.components.context import RunContext
from dataflex.config.plan import Part
from dataflex.kinds import KINDS, load


class Parts:
    """Opens components, and keeps what they must remember.

    Args:
        accelerator: The run's accelerator.
        seconds: Most seconds a call may take; ``None`` for no limit.
        progress: Keeps the steps done when a call fails.
    """

    def __init__(self, accelerator: Any, seconds: float | None = None, progress: Progress | None = None) -> None:
        self._accelerator, self._seconds, self._progress = accelerator, seconds, progress
        self.opened: dict[str, Asking] = {}

    def open(self, part: Part, context: RunContext, domain: str = "") -> Asking:
        """Construct a component. Called on every rank.

        Args:
            part: The component.
            context: What it sees of the run; of the domain, if it is asked for one alone. It keeps files in a folder of
                its own.
            domain: That domain.

        Raises:
            ComponentError: on every rank, when its constructor fails on one.
        """
        kind, entry, bound = part.entry.spec.kind, part.entry, part.bound
        cls, base = entry.load(), load(KINDS[kind].base)
        title = part.facts.title + (f" (domain {domain})" if domain else "")
        folder = Path(str(bound.run_values.get("cache_dir", context.output_dir / "cache" / entry.spec.name)))
        if domain:
            folder /= quote(domain, safe=" ")
        run_values = dict(bound.run_values)
        if "cache_dir" in run_values:
            run_values["cache_dir"] = str(folder)
        context = dataclasses.replace(context, cache_dir=folder)
        unmade = Asking(None, base, title, accelerator=self._accelerator, seconds=self._seconds)
        with unmade.agreed("the start", kept=NOTHING.keep):
            component = unmade.construct(lambda: build_component(cls, bound.params, bound.values, run_values, context))
        asking = Asking(
            component,
            base,
            title,
            name=entry.spec.name,
            accelerator=self._accelerator,
            seconds=self._seconds,
            progress=self._progress,
        )
        self.opened[f"{kind}@{quote(domain, safe=' ')}" if domain else kind] = asking
        return asking

    @property
    def component(self) -> Any:
        """The first component; ``None`` before one is opened."""
        return next((asking.component for asking in self.opened.values()), None)

    def state_dict(self, where: str, kept: Callable[[], str] = NOTHING.keep) -> dict[str, Any]:
        """What the components must remember; by kind and domain where there are several. Called on every rank.

        Raises:
            ComponentError: on every rank, when one of them fails on one.
        """
        states: dict[str, dict[str, Any]] = {}
        for kind, asking in self.opened.items():
            with asking.agreed(where, kept=kept):
                states[kind] = asking.state_dict()
        if len(states) == 1:
            return next(iter(states.values()))
        return {f"{kind}/{name}": value for kind, state in states.items() for name, value in state.items()}

    def load_state_dict(self, saved: Mapping[str, Any], where: str) -> None:
        """Give it back. Called on every rank; a component that kept nothing is not called.

        Raises:
            ComponentError: on every rank, when one of them fails on one.
        """
        for kind, asking in self.opened.items():
            mine = f"{kind}/"
            state = {name.removeprefix(mine): value for name, value in saved.items() if name.startswith(mine)}
            state = dict(saved) if len(self.opened) == 1 else state
            if state:
                with asking.agreed(where, kept=NOTHING.keep):
                    asking.load_state_dict(state)
