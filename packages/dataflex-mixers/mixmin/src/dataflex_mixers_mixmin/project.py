"""What happens between the phases of a MixMin project: the target is scored under each model, the mixture solved."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from dataflex import ConfigError
from dataflex.phases.conduct import LOGS, How, conduct
from dataflex.phases.content import data_identity, model_content
from dataflex.phases.files import write_text
from dataflex.phases.job import Job
from dataflex.phases.phase import Group
from dataflex_mixers_mixmin.plan import WEIGHTS_NAME, Plan
from dataflex_mixers_mixmin.solve import best_shares, sample_weights, solve

logger = logging.getLogger("dataflex")

_DOMINATED = 0.05
"""The mixture is told to be a count of rows where it is this close to one."""


def run_project(plan: Plan, how: How) -> None:
    """Train what is not complete, score the target, solve, and train the final model.

    Args:
        plan: The project.
        how: How it is conducted.

    Raises:
        ConfigError: for scores that are none.
    """
    project = _Project(plan, how)
    groups = [Group(phases=plan.trained, jobs=project.score_jobs, then=project.solve)]
    if plan.final is not None:
        groups.append(Group(phases=[plan.final]))
    conduct(groups, plan.root, how)


class _Project:
    def __init__(self, plan: Plan, how: How) -> None:
        self._plan, self._how = plan, how

    def score_jobs(self) -> list[Job]:
        """A job for each model under which the target has not been scored yet."""
        jobs = []
        for name, model, folder in self._scores():
            if (folder / "summary.json").is_file():  # it is written last
                continue
            keys = {key: value for key, value in self._plan.scored.items() if value is not None}
            file = folder.with_suffix(".yaml")
            text = yaml.safe_dump({**keys, "model_name_or_path": model}, sort_keys=False, allow_unicode=True)
            write_text(file, text)
            chosen = [word for value in self._how.plugins for word in ("-p", value)]
            words = ("score", str(file), "--component", "loss", "--out", str(folder), *chosen)
            log = self._plan.root / LOGS / f"score-{name}.log"
            logger.info("target %s under the model of %s: %s; log: %s", self._plan.target, name, folder, log)
            jobs.append(Job(name=f"score-{name}", command=(sys.executable, "-m", "dataflex", *words), log=log))
        return jobs

    def solve(self) -> None:
        """Write the mixture."""
        logs_XK, lengths_X = self._log_probabilities()
        weights_X = sample_weights(lengths_X)
        shares_K, loss = solve(logs_XK, weights_X)
        counted_K = best_shares(logs_XK, weights_X)
        if np.abs(shares_K - counted_K).max() < _DOMINATED:
            logger.warning(
                "one model has nearly all the probability of each row of %s: the mixture is the share of rows that "
                "each model is best for. Rows of fewer tokens tell more.",
                self._plan.target,
            )
        found = {
            "names": list(self._plan.domains),
            "average": shares_K.tolist(),
            "target": self._plan.target,
            "rows": len(lengths_X),
            "loss": loss,
            "loss_of_each": (-(weights_X @ logs_XK)).tolist(),
            "best_of_each": counted_K.tolist(),
        }
        write_text(self._plan.root / WEIGHTS_NAME, json.dumps(found, indent=1) + "\n")
        said = ", ".join(f"{name} {share:.3f}" for name, share in zip(self._plan.domains, shares_K, strict=True))
        logger.info("the mixture: %s; %s", said, self._plan.root / WEIGHTS_NAME)

    def _scores(self) -> list[tuple[str, str, Path]]:
        """Of each domain its name, its model, and where the target's scores lie: another folder for another model."""
        found = []
        for name, model in zip(self._plan.domains, self._plan.models, strict=True):
            keys = json.dumps(dict(self._plan.scored), sort_keys=True, default=str)
            parts = [keys, model_content(model), json.dumps(dict(data_identity(self._plan.scored)))]
            made_from = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
            found.append((name, model, self._plan.root / "scores" / f"{name}-{made_from}"))
        return found

    def _log_probabilities(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Log-probability of each row of the target under each model, and the tokens of each row."""
        folders = [folder for _, _, folder in self._scores()]
        tables = [_read(folder / "scores.parquet") for folder in folders]
        means_XK, tokens_X = np.stack([means for means, _ in tables], axis=1), tables[0][1]
        if any(not np.array_equal(tokens_X, tokens) for _, tokens in tables):
            raise ConfigError(
                f"the models cut {self._plan.target} into other tokens, so their probabilities cannot be compared. Use "
                "models with the same tokenizer."
            )
        kept_X = tokens_X > 0
        lost = int(kept_X.sum() - np.isfinite(means_XK[kept_X]).all(axis=1).sum())
        if lost or not kept_X.any():
            what = (
                f"{lost} rows of {self._plan.target} have a loss that is not finite"
                if lost
                else (f"no row of {self._plan.target} has a token to train on")
            )
            raise ConfigError(f"{what}. Look at the models and at the data set; scores: {folders[0].parent}.")
        lengths_X = tokens_X[kept_X]
        return -means_XK[kept_X] * lengths_X[:, None], lengths_X


def _read(path: Path) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Mean losses and trained tokens of the target's rows."""
    from pyarrow import parquet

    try:
        table: Any = parquet.read_table(path, columns=["score", "tokens"])
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}. Delete {path.parent} to score again.") from error
    columns: Sequence[Any] = [table.column(name).to_numpy() for name in ("score", "tokens")]
    return columns[0], columns[1]
