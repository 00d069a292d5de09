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
from dataflex.components.screen import ComponentScreen, Frame, is_of_screen
from dataflex.config.bind import BoundParams
from dataflex.config.parts import Part
from dataflex.config.screen import PARAM, FoundScreen
from dataflex.gradients.passes import PoolPasses
from dataflex.kinds import KINDS, Kind, load
from dataflex.plugins.catalog import CatalogEntry


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
        self.screen: ComponentScreen | None = None

    def open(self, part: Part, context: RunContext, frame: Frame | None = None, *, domain: str = "") -> Asking:
        """Construct a component, and its screen before it. Called on every rank.

        Args:
            part: The component.
            context: What it sees of the run; of the domain, if it is asked for one alone. It keeps files in a folder of
                its own.
            frame: What a screen has to pay for itself in; ``None`` where the pool is only scored.
            domain: That domain.

        Raises:
            ComponentError: on every rank, when a constructor fails on one.
            ConfigError: when the rows that survive the screen are too few.
        """
        kind, entry, bound = part.entry.spec.kind, part.entry, part.bound
        folder = Path(str(bound.run_values.get("cache_dir", context.output_dir / "cache" / entry.spec.name)))
        if domain:
            folder /= quote(domain, safe=" ")
        run_values = dict(bound.run_values)
        if "cache_dir" in run_values:
            run_values["cache_dir"] = str(folder)
        context = dataclasses.replace(context, cache_dir=folder)
        if part.screen is not None:
            self.screen = self._open_screen(part, part.screen, context)
            context = dataclasses.replace(context, screen=self.screen)
        title = part.facts.title + (f" (domain {domain})" if domain else "")
        asking = self._make(entry, bound, run_values, title, context)
        self.opened[f"{kind}@{quote(domain, safe=' ')}" if domain else kind] = asking
        if part.screen is not None and self.screen is not None:
            exact = None
            if frame is not None:
                with asking.agreed("the start", kept=NOTHING.keep):
                    exact = asking.call("scoring_cost", model=frame.model)
            self.screen.settle(frame, exact)
        return asking

    def _open_screen(self, part: Part, found: FoundScreen, context: RunContext) -> ComponentScreen:
        spec = found.entry.spec
        own = dataclasses.replace(
            context,
            cache_dir=context.cache_dir / f"screen-{spec.name}",
            scores_only=True,
            screens=not context.scores_only,
            passes=PoolPasses(),
            streams=(*context.streams, f"screen/{spec.name}"),
        )
        asking = self._make(found.entry, found.bound, found.bound.run_values, found.title, own)
        settings = getattr(part.bound.params, PARAM)
        return ComponentScreen(asking, settings, context)

    def _make(
        self,
        entry: CatalogEntry,
        bound: BoundParams,
        run_values: Mapping[str, Any],
        title: str,
        context: RunContext,
    ) -> Asking:
        cls, base = entry.load(), load(KINDS[entry.spec.kind].base)
        unmade = Asking(None, base, title, accelerator=self._accelerator, seconds=self._seconds)
        with unmade.agreed("the start", kept=NOTHING.keep):
            component = unmade.construct(lambda: build_component(cls, bound.params, bound.values, run_values, context))
        return Asking(
            component,
            base,
            title,
            name=entry.spec.name,
            accelerator=self._accelerator,
            seconds=self._seconds,
            progress=self._progress,
        )

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
                if kind is Kind.SELECTOR and self.screen is not None:
                    states[kind] |= self.screen.state_dict()
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
            of_screen = {name: value for name, value in state.items() if is_of_screen(name)}
            if kind is Kind.SELECTOR and self.screen is not None and of_screen:
                with self.screen.asking.agreed(where, kept=NOTHING.keep):
                    self.screen.load_state_dict(of_screen)
            own = {name: value for name, value in state.items() if name not in of_screen}
            if own:
                with asking.agreed(where, kept=NOTHING.keep):
                    asking.load_state_dict(own)
