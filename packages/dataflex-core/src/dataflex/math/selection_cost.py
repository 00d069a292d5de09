"""What a selection costs, in steps of training, and what it may cost.

In units of a forward pass of one row, a training row costs 1 + beta: beta is 2 where all weights are trained, 1 under
adapters. A selection of n boundaries that score M rows each, after R passes of a screen over N rows, costs

    C = (R N phi + n (M + A) e + n v) / ((1 + beta) b)  steps of b rows

with phi the cost of a row of the screen and e of a row scored exactly, A the rows on which both are compared, and v
what a boundary costs beside its rows, such as LESS's two passes over V validation rows. For LESS, e = 1 + beta and
v = 2 V (1 + beta). A selector may pass over other rows than it scores, or not at each boundary: embeddings of the model
as training began are made once, N phi. It pays if C < T (rho - 1), where T steps on the chosen rows do what rho T on
random ones do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dataflex.errors import ConfigError
from dataflex.math.rereading import per_pass


@dataclass(frozen=True, kw_only=True)
class RowCost:
    """What scoring costs, counted in rows.

    Attributes:
        forward: Forward passes of each row; below 1 for a part of its tokens or layers.
        backward: Whether each has a backward pass too.
        rows: How many rows are passed over each time; ``None`` for those that are scored.
        times: How often a run passes over them; ``None`` for each boundary.
        validation: Rows of eval sets that are passed over, forward and backward, counted as often as they are at once.
        validation_times: How often a run does that; ``None`` for each boundary.
        once: Forward passes of a row that a run makes besides, in all.
    """

    forward: float = 1.0
    backward: bool = False
    rows: int | None = None
    times: int | None = None
    validation: int = 0
    validation_times: int | None = None
    once: float = 0.0

    def of_row(self, beta: float) -> float:
        """Of one scored row, in forward passes."""
        return self.forward + (beta if self.backward else 0.0)

    def of_run(self, scored: float, times: int, beta: float) -> float:
        """Of a run, in forward passes.

        Args:
            scored: Rows scored each time.
            times: How often rows are scored.
            beta: Of a backward pass.
        """
        rows = scored if self.rows is None else self.rows
        passes = times if self.times is None else self.times
        aims = times if self.validation_times is None else self.validation_times
        return self.once + passes * rows * self.of_row(beta) + aims * self.validation * (1 + beta)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A run as its selection has to pay for itself in it.

    Attributes:
        steps: T, of the whole run.
        boundaries: n, at which rows are scored.
        batch: b, rows of a step over all ranks.
        beta: Of a backward pass, in forward passes.
    """

    steps: int
    boundaries: int
    batch: int
    beta: float

    def cost(
        self,
        scored: float,
        exact: RowCost,
        *,
        screened: float = 0,
        screens: int = 0,
        screen: RowCost | None = None,
    ) -> float:
        """What the whole run's selection costs, in steps.

        Args:
            scored: Rows scored exactly at a boundary, those of the agreement included.
            exact: What they cost.
            screened: Rows that a screen looks at each time.
            screens: How often it does.
            screen: What that costs.
        """
        of_screens = 0.0 if screen is None else screen.of_run(screened, screens, self.beta)
        return (of_screens + exact.of_run(scored, self.boundaries, self.beta)) / ((1 + self.beta) * self.batch)

    def allowed(self, worth: float) -> float:
        """What it may cost, in steps, where a step is worth so many random ones."""
        return self.steps * (worth - 1)

    def survivors(
        self,
        worth: float,
        exact: RowCost,
        *,
        agreement: int = 0,
        screened: int = 0,
        screens: int = 0,
        screen: RowCost | None = None,
    ) -> int:
        """The most rows that may be scored exactly at each boundary, so that the selection still pays; at most
        ``screened``, and below 0 where the rest costs too much already.
        """
        of_screens = 0.0 if screen is None else screen.of_run(screened, screens, self.beta)
        left = (
            (1 + self.beta) * self.batch * self.allowed(worth)
            - of_screens
            - exact.of_run(0, self.boundaries, self.beta)
        )
        rows = math.floor(left / self.boundaries / max(exact.of_row(self.beta), 1e-12) - agreement + 1e-9)
        return min(rows, screened)


def screens_of(boundaries: int, every: int) -> int:
    """How often a screen scores in a run: once for 0, else at the first and then every n-th boundary."""
    return 1 if every == 0 else -(-boundaries // every)


def enough_survivors(survivors: int, num_samples: int, passes: int, *, auto: bool, has_passes: bool = True) -> str:
    """Check that so many survivors leave the exact score something to do.

    Args:
        survivors: Rows scored exactly.
        num_samples: Rows of a stage.
        passes: How often a stage reads its rows.
        auto: Whether the number is what the run can pay for.
        has_passes: Whether the selector has that parameter.

    Returns:
        What to warn of; ``""`` for nothing.

    Raises:
        ConfigError: when a stage cannot be filled or, for ``auto``, when there would be no choice.
    """
    needed = per_pass(num_samples, passes)
    if auto and survivors < 2 * needed:
        would_do = -(-2 * num_samples // survivors) if survivors > 0 else 0
        while would_do and 2 * per_pass(num_samples, would_do) > survivors:
            would_do += 1
            if would_do > num_samples:
                would_do = 0
        advice = (
            f"Set component_params.passes: {would_do}"
            if would_do and has_passes
            else "No number of passes would do: use fewer boundaries, a longer run, or the screen alone as the selector"
        )
        raise ConfigError(
            f"screen.survivors: auto comes to {max(survivors, 0)} rows, which is what the selection may cost, but a "
            f"stage chooses {needed} rows (passes={passes} of {num_samples}), and the exact score has a choice only "
            f"from {2 * needed} on. {advice}."
        )
    if survivors < needed:
        raise ConfigError(
            f"screen.survivors={survivors} cannot fill a stage, which chooses {needed} rows (passes={passes} of "
            f"{num_samples}). Raise it to {2 * needed} or more{', or raise passes' if has_passes else ''}."
        )
    if survivors < 2 * needed:
        return (
            f"screen.survivors={survivors} is less than twice the {needed} rows that a stage chooses: the exact score "
            "chooses nearly everything it sees."
        )
    return ""
