"""What a run left behind, read back from its own files."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataflex.decisions import Decision, DecisionLog
from dataflex.demo.row import Domain
from dataflex.demo.runs import OTHER_DOMAINS, TARGET, command
from dataflex.errors import DataFlexError


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What one boundary chose.

    Attributes:
        step: Optimizer steps done.
        seconds: Seconds the decision took.
        shares: Share of each domain among the chosen rows.
    """

    step: int
    seconds: float
    shares: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A run of the demo that has ended.

    Attributes:
        name: The run.
        component: Its selector.
        output_dir: Its results.
        run_file: Its YAML.
        log: What it printed.
        wall_seconds: Seconds of its process.
    """

    name: str
    component: str
    output_dir: Path
    run_file: Path
    log: Path
    wall_seconds: float


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """One run of the demo as it was measured.

    Attributes:
        name: The run.
        component: Its selector.
        steps: Optimizer steps done.
        target_loss: Eval loss on docstrings, nats per token.
        others_loss: Eval loss on the other domains.
        training_seconds: Inside ``Trainer.train``, scoring left out.
        scoring_seconds: Sum over all decisions.
        evaluation_seconds: All eval sets.
        starting_seconds: The rest of the process: imports, tokenising, loading, saving.
        choices: One per boundary.
        run_file: Its YAML.
        log: What it printed.
        output_dir: Its results.
        command: How to repeat it.
    """

    name: str
    component: str
    steps: int
    target_loss: float
    others_loss: float
    training_seconds: float
    scoring_seconds: float
    evaluation_seconds: float
    starting_seconds: float
    choices: Sequence[Choice]
    run_file: str
    log: str
    output_dir: str
    command: str

    @property
    def working_seconds(self) -> float:
        """Training and scoring: what the run costs beyond start and evaluation."""
        return self.training_seconds + self.scoring_seconds

    @property
    def wall_seconds(self) -> float:
        """The whole process."""
        return self.working_seconds + self.evaluation_seconds + self.starting_seconds


def shares(domains: Sequence[Domain]) -> dict[str, float]:
    """Share of each domain, zero included."""
    counts = Counter(domains)
    return {domain.value: counts[domain] / max(len(domains), 1) for domain in Domain}


def read(run: Finished, domains: Sequence[Domain]) -> RunResult:
    """Collect the results of a finished run.

    Args:
        run: The run.
        domains: Domain of each row of the pool.

    Raises:
        DataFlexError: if the run ended without the results it should have written.
    """
    folder = run.output_dir
    results = _json(folder / "all_results.json")
    steps = _json(folder / "trainer_state.json")
    try:
        runtimes = [value for name, value in results.items() if re.fullmatch(r"eval_.*_runtime", name)]
        decisions = list(DecisionLog(folder))
        scoring = sum(decision.seconds for decision in decisions)
        return RunResult(
            name=run.name,
            component=run.component,
            steps=int(steps["global_step"]),
            target_loss=results[f"eval_{TARGET}_loss"],
            others_loss=results[f"eval_{OTHER_DOMAINS}_loss"],
            training_seconds=results["train_runtime"] - scoring,
            scoring_seconds=scoring,
            evaluation_seconds=sum(runtimes),
            starting_seconds=run.wall_seconds - results["train_runtime"] - sum(runtimes),
            choices=[_choice(decision, folder, domains) for decision in decisions],
            run_file=str(run.run_file),
            log=str(run.log),
            output_dir=str(folder),
            command=command(run.run_file),
        )
    except KeyError as error:
        raise DataFlexError(
            f"the run {run.name} ended without {error} in {folder}/all_results.json. Its log: {run.log}"
        ) from error


def _choice(decision: Decision, folder: Path, domains: Sequence[Domain]) -> Choice:
    import numpy as np

    rows = np.load(folder / decision.result_ref, allow_pickle=False)
    return Choice(
        step=decision.step, seconds=decision.seconds, shares=shares([domains[int(row)] for row in rows.reshape(-1)])
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataFlexError(f"a run of the demo ended without writing {path}; see its log.") from error
