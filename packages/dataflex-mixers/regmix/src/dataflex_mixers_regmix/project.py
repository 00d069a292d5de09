"""What happens between the phases of a RegMix project: mixtures are drawn, the law is fitted, the check is judged.

Each is made anew by every call from what the phases left, and comes out the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dataflex import ConfigError
from dataflex.phases.conduct import How, conduct
from dataflex.phases.files import write_text
from dataflex.phases.phase import Group
from dataflex.phases.static import domain_numbers, eval_losses, planned_steps, run_info
from dataflex_mixers_regmix.answer_files import PLOT_NAME, WEIGHTS_NAME, draw, record, weights_text
from dataflex_mixers_regmix.draws import draw_mixture
from dataflex_mixers_regmix.plan import Plan, mixture_path
from dataflex_mixers_regmix.search import Wanted, require_correlation, search
from dataflex_mixers_regmix.settings import Settings
from dataflex_mixers_regmix.table import Runs

logger = logging.getLogger("dataflex")

RUNS_NAME = "runs.csv"


def run_project(plan: Plan, how: How, *, force: bool = False) -> None:
    """Train what is not complete, and find the mixture.

    Args:
        plan: The project.
        how: How it is conducted.
        force: Go on below the least rank correlation, and after a check that was worse than the prior.

    Raises:
        ConfigError: when the law or the check says that the mixture is not to be trusted.
    """
    project = _Project(plan, force)
    groups = [
        Group(phases=[plan.prior], then=project.draw_mixtures),
        Group(phases=plan.runs, then=project.find),
        Group(phases=[plan.check], then=project.judge),
    ]
    if plan.final is not None:
        groups.append(Group(phases=[plan.final]))
    conduct(groups, plan.root, how)


class _Project:
    def __init__(self, plan: Plan, force: bool) -> None:
        self._plan, self._force = plan, force

    def draw_mixtures(self) -> None:
        """Write the mixture of each run; what :func:`~dataflex.rng.stream` gives for the seed and its number."""
        prior_K = self._wanted().prior_K
        for number in range(1, len(self._plan.runs) + 1):
            shares = draw_mixture(prior_K, self._plan.seed, number)
            text = json.dumps({"names": list(self._plan.domains), "average": shares.tolist()}) + "\n"
            write_text(mixture_path(self._plan.root, number), text)

    def find(self) -> None:
        """Write the table of runs, the mixture and the plot; nothing where they are those of these runs already."""
        runs, wanted = self._runs(), self._wanted()
        made_from = _digest(runs, self._plan.settings, wanted)
        path = self._plan.root / WEIGHTS_NAME
        if _read(path).get("made_from") == made_from:
            return
        write_text(self._plan.root / RUNS_NAME, runs.to_csv())
        answer = search(runs.mixtures_NK, runs.losses_NM, wanted)
        draw(answer, self._plan.root / PLOT_NAME)
        logger.info("rank correlation of predicted and found losses on left-out runs: %.2f", answer.correlation)
        require_correlation(answer, force=self._force)
        found = record(answer, wanted, runs.domains, runs.sets) | {"made_from": made_from}
        write_text(path, weights_text(found))
        shares = ", ".join(f"{name} {share:.3f}" for name, share in zip(runs.domains, answer.shares_K, strict=True))
        logger.info("the mixture: %s; %s", shares, path)

    def judge(self) -> None:
        """Compare the small runs at the mixture and at the prior.

        Raises:
            ConfigError: if the mixture is worse.
        """
        weights = self._plan.settings.weights(self._plan.sets)
        found, before = (
            float(np.array(eval_losses(phase, self._plan.sets)) @ weights)
            for phase in (self._plan.check, self._plan.prior)
        )
        if found > before and not self._force:
            raise ConfigError(
                f"the small run at the mixture that was found has a loss of {found:.4f}, worse than {before:.4f} at "
                "the prior: the law is not to be trusted. Make more runs or longer ones; --force goes on nevertheless."
            )
        logger.info("small runs: loss %.4f at the mixture that was found, %.4f at the prior", found, before)

    def _wanted(self) -> Wanted:
        """What is looked for, with the tokens that the run at the prior has counted."""
        plan, settings = self._plan, self._plan.settings
        counted = domain_numbers(plan.prior, "pool_tokens", plan.domains)
        tokens = None if counted is None else dict(zip(plan.domains, counted, strict=True))
        if settings.wanted_tokens is None and tokens is not None:
            settings = _with_wanted_tokens(settings, self._final_tokens(sum(tokens.values())))
        return settings.wanted(plan.domains, plan.sets, tokens)

    def _final_tokens(self, pool: float) -> float | None:
        """Tokens of the final run: its samples, of as many tokens as the mean row has."""
        final, info = self._plan.final, run_info(self._plan.prior)
        steps = None if final is None else planned_steps(final)
        if final is None or steps is None:
            logger.warning("the tokens of the final run are not known: no caps on repeats. Set regmix.wanted_tokens.")
            return None
        of_a_step = int(final.keys.get("per_device_train_batch_size", 1)) * int(
            final.keys.get("gradient_accumulation_steps", 1)
        )
        return steps * of_a_step * info.ranks * pool / sum(info.domain_sizes)

    def _runs(self) -> Runs:
        plan = self._plan
        mixtures = [self._wanted().prior_K.tolist()]
        mixtures += [_read(mixture_path(plan.root, number))["average"] for number in range(1, len(plan.runs) + 1)]
        losses = [eval_losses(phase, plan.sets) for phase in (plan.prior, *plan.runs)]
        return Runs(
            domains=plan.domains, sets=plan.sets, mixtures_NK=np.array(mixtures), losses_NM=np.array(losses, np.float64)
        )


def _with_wanted_tokens(settings: Settings, wanted_tokens: float | None) -> Settings:
    return dataclasses.replace(settings, wanted_tokens=wanted_tokens)


def _digest(runs: Runs, settings: Settings, wanted: Wanted) -> str:
    parts = [runs.to_csv(), repr(settings.kl), *(repr(each.tolist()) for each in (wanted.prior_K, wanted.most_K))]
    return hashlib.sha256("\n".join([*parts, repr(wanted.weights_M.tolist())]).encode()).hexdigest()


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
