"""The screen of a selector: another selector, asked for its scores as ``dataflex score`` does."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex.components.asking import NOTHING, Asking
from dataflex.components.context import RunContext
from dataflex.components.screen_params import AUTO, ScreenParams
from dataflex.components.screening import Agreement, Screened
from dataflex.components.selector import Selection, valid_scores
from dataflex.distributed import assert_same_on_all_ranks
from dataflex.errors import ComponentError, ConfigError
from dataflex.math.selection_cost import Budget, RowCost, enough_survivors, screens_of
from dataflex.math.topk import top_k

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger("dataflex")

Rows = npt.NDArray[np.int64]

OF_COMPONENT, OF_SCORES = "screen/", "screened/"
"""What names in a checkpoint begin with: of the screen's own state, and of the scores that are kept."""


@dataclass(frozen=True, eq=False)
class Kept:
    """Scores of the screen.

    Attributes:
        scores: By row of the pool, NaN for none; shape ``[pool]``.
        boundary: The boundary they were made at, counted from 1.
    """

    scores: npt.NDArray[np.float64]
    boundary: int


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The run that a selection has to pay for itself in.

    Attributes:
        budget: Its steps and boundaries.
        stage_rows: Rows of its longest stage.
        passes: How often a stage reads the rows it chooses.
        has_passes: Whether the selector has that parameter.
        model: The model in training, for what a pass over it costs.
    """

    budget: Budget
    stage_rows: int
    passes: int = 1
    has_passes: bool = True
    model: Any = None


class ComponentScreen:
    """Keeps the scores of a screen, and draws the line.

    Args:
        asking: The screen's component.
        settings: What the run file says of it.
        context: Of the selector that is screened.

    Attributes:
        asking: As given.
        settings: As given.
        cost: What a row costs it; a forward pass where it does not say.
    """

    def __init__(self, asking: Asking, settings: ScreenParams, context: RunContext) -> None:
        self.asking, self.settings, self._context = asking, settings, context
        self.cost = RowCost()
        self._survivors = None if settings.survivors == AUTO else int(settings.survivors)
        self._kept: Kept | None = None

    def settle(self, frame: Frame | None, exact: RowCost | None) -> None:
        """Find out how many rows survive, before training begins. Called on every rank.

        Args:
            frame: The run; ``None`` where the pool is only scored.
            exact: What a row costs the selector; ``None`` if it does not say.

        Raises:
            ConfigError: when that is too few for a stage, or cannot be known.
        """
        settings, size = self.settings, len(self._context.dataset)
        if frame is None:
            if self._survivors is None:
                raise ConfigError(
                    f"{self.asking.title}: survivors: auto is what a training run can pay for, and here the pool is "
                    "only scored. Give component_params.screen.survivors a number, or set screen: null."
                )
            return
        with self.asking.agreed("the start", kept=NOTHING.keep):
            self.cost = self.asking.call("scoring_cost", model=frame.model) or self.cost
        auto = self._survivors is None
        if self._survivors is None:
            if exact is None or settings.worth is None:
                raise ConfigError(
                    f"{self.asking.title}: survivors: auto needs to know what the selector's scores cost, and it does "
                    "not say (scoring_cost). Give component_params.screen.survivors a number."
                )
            self._survivors = frame.budget.survivors(
                settings.worth,
                exact,
                agreement=settings.agreement,
                screened=size,
                screens=screens_of(frame.budget.boundaries, settings.every),
                screen=self.cost,
            )
        survivors = min(self._survivors, size)
        try:
            warning = enough_survivors(
                survivors,
                frame.stage_rows,
                frame.passes,
                auto=auto and survivors < size,
                has_passes=frame.has_passes,
            )
        except ConfigError as error:
            raise ConfigError(f"{self.asking.title}: {error}") from error
        if self._context.rank == 0:
            if auto:
                logger.info("%s: %d of %d rows survive, which worth=%g pays for.", *self._told(survivors, size))
            if warning:
                logger.warning("%s: %s", self.asking.title, warning)

    def look(
        self, model: nn.Module, candidates: Rows, *, step: int, num_samples: int, facts: Mapping[str, Any]
    ) -> Screened:
        """See :meth:`dataflex.RunContext.screened`."""
        context, boundary = self._context, int(facts.get("current_update_times") or 1)
        began, scored_anew = time.monotonic(), self._is_due(boundary)
        if scored_anew:
            self._kept = Kept(self._scores(model, step, facts), boundary)
        assert self._kept is not None and self._survivors is not None
        scores, most = self._kept.scores, min(self._survivors, len(candidates))
        if most < num_samples:
            raise ConfigError(
                f"{self.asking.title}: {most} rows survive, and the boundary at step {step} chooses {num_samples}. "
                "Raise component_params.screen.survivors or passes, or lower update_step or the batch size."
            )
        survivors = np.sort(candidates[top_k(scores[candidates], most)])
        without = int((~np.isfinite(scores[survivors])).sum())
        assert_same_on_all_ranks(f"the survivors of {self.asking.title}", survivors, context.accelerator)
        wanted = min(self.settings.agreement, len(candidates))
        drawn = context.rng(step, "agreement").choice(candidates, size=wanted, replace=False, shuffle=False)
        compared = np.sort(drawn).astype(np.int64)
        if context.rank == 0:
            logger.info(
                "%s: %d of %d candidates survive (scores %s).",
                self.asking.title,
                most,
                len(candidates),
                "made now" if scored_anew else f"of boundary {self._kept.boundary}",
            )
            if without:
                logger.warning("%s: %d of the survivors have no score of it.", self.asking.title, without)
        recorded: dict[str, float | list[float]] = {
            "screen_candidates": float(len(candidates)),
            "screen_survivors": float(most),
            "screen_without_score": float(without),
            "screen_scored": float(len(scores)) if scored_anew else 0.0,
            "screen_seconds": time.monotonic() - began,
        }
        agreement = Agreement(compared, scores, self.asking.title, context.rank == 0) if wanted else None
        return Screened(np.union1d(survivors, compared), survivors, recorded, agreement)

    def state_dict(self) -> dict[str, Any]:
        """Its own state, and the scores that are kept."""
        state = {f"{OF_COMPONENT}{name}": value for name, value in self.asking.state_dict().items()}
        if self._kept is not None:
            state[f"{OF_SCORES}scores"] = self._kept.scores
            state[f"{OF_SCORES}boundary"] = self._kept.boundary
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        own = {name.removeprefix(OF_COMPONENT): value for name, value in state.items() if name.startswith(OF_COMPONENT)}
        if own:
            self.asking.load_state_dict(own)
        if f"{OF_SCORES}scores" in state:
            scores = np.asarray(state[f"{OF_SCORES}scores"], np.float64)
            self._kept = Kept(scores, int(state[f"{OF_SCORES}boundary"]))

    def _is_due(self, boundary: int) -> bool:
        every = self.settings.every
        return self._kept is None or bool(every and boundary - self._kept.boundary >= every)

    def _scores(self, model: nn.Module, step: int, facts: Mapping[str, Any]) -> npt.NDArray[np.float64]:
        size = len(self._context.dataset)
        with self.asking.agreed(f"step {step}", kept=NOTHING.keep):
            answer = self.asking.call("select", **{**facts, "model": model, "step_id": step, "num_samples": 1})
            scores = answer.scores if isinstance(answer, Selection) else None
            if scores is None:
                raise ComponentError("it gives no scores: its select() returned rows without Selection.scores")
            found = valid_scores(scores, size)
        return np.array(found, np.float64)

    def _told(self, survivors: int, size: int) -> tuple[str, int, int, float]:
        return self.asking.title, survivors, size, float(self.settings.worth or 0)


def is_of_screen(name: str) -> bool:
    """Whether a name in a checkpoint belongs to a screen, not to the selector that it screens for."""
    return name.startswith((OF_COMPONENT, OF_SCORES))
