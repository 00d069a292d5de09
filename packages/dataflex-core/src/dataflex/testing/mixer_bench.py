"""The bench for mixers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dataflex.components.mix_context import DomainLosses, EvaluatedRows, MixContext, MixtureView, StepStats
from dataflex.data.scoring_loader import ScoringLoader
from dataflex.mixing.proportions import check_proportions
from dataflex.scoring.losses import score_pool
from dataflex.scoring.progress import ScoringProgress
from dataflex.testing.bench import Bench

_TOKENS_A_ROW = 8
_WATCHED = 2  # optimizer steps shown to on_step before a decision


class MixerBench(Bench):
    """Shows the losses of a few steps, then asks for proportions."""

    def context(self, seed: int, domains: Mapping[str, int]) -> MixContext:
        """What the mixer may see of the run: proportions in force are uniform."""
        facts = self.facts(seed, domains)
        view = MixtureView(
            list(domains),
            list(domains.values()),
            np.full(len(domains), 1 / len(domains)),
            tokens=[count * _TOKENS_A_ROW for count in domains.values()],
        )
        self.view = view

        def evaluate(domain: str, max_samples: int | None, rows: EvaluatedRows) -> float:
            return self._evaluate(facts, view, domain, max_samples)

        return MixContext(**facts, mixture=view, evaluator=evaluate)

    def ask(self, component: Any, step: int, losses: DomainLosses | None = None) -> Any:
        """Ask for proportions after steps with these losses; by default with losses that go by the domain's name."""
        seen = domain_losses(self.view.names) if losses is None else losses
        for before in range(step - _WATCHED, step):
            self.view.update(step=before + 1, losses=seen)
            self.door(component).call("on_step", stats=StepStats(before + 1, seen, seen.sums))
        self.view.update(step=step)
        return self.call(component, "mix", step)

    def flat(self, answer: Any) -> Any:
        """The proportions in the order of the domains."""
        if isinstance(answer, Mapping):
            return np.array([answer.get(name, np.nan) for name in self.view.names])
        return np.asarray(answer.detach().cpu() if hasattr(answer, "detach") else answer)

    def validate(self, answer: Any) -> None:
        """Length, range and sum, as the Mix Trainer checks them."""
        check_proportions(answer, self.view.names, "what its mix() returned")

    def _evaluate(self, facts: Mapping[str, Any], view: MixtureView, domain: str, max_samples: int | None) -> float:
        place = view.names.index(domain)
        begin = int(view.sizes[:place].sum())
        rows = begin + np.arange(view.sizes[place])[:max_samples]
        accelerator = facts["accelerator"]
        loader = ScoringLoader(
            facts["dataset"],
            facts["data_collator"],
            rows,
            token_budget=1024,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
            device=accelerator.device,
        )
        progress = ScoringProgress(len(rows), enabled=False)
        pool = score_pool(self.trainee.model, loader, len(facts["dataset"]), accelerator, progress)
        return float(np.nansum(pool.means[rows] * pool.targets[rows]) / pool.targets[rows].sum())


def domain_losses(names: tuple[str, ...], *, broken: frozenset[str] = frozenset()) -> DomainLosses:
    """Losses of a step that depend on a domain's name alone; NaN for those in ``broken``."""
    sums = [np.nan if name in broken else 20.0 + sum(name.encode()) % 17 for name in names]
    tokens = [_TOKENS_A_ROW + len(name) for name in names]
    return DomainLosses(np.array(sums), np.array(tokens, np.int64), np.full(len(names), 2, np.int64))
