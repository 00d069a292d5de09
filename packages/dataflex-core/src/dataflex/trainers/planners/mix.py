"""The Mix Trainer's planner: rows drawn in a mixer's proportions are the plan of a stage."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dataflex.components.asking import Asking
from dataflex.components.context import RunContext
from dataflex.components.mix_context import DomainLosses, EvaluatedRows, MixContext, MixtureView
from dataflex.config.mixture import Unit
from dataflex.config.plan import Part
from dataflex.data.scoring_loader import ScoringLoader
from dataflex.errors import ComponentError, ConfigError, shown
from dataflex.mixing.proportions import Proportions, check_proportions
from dataflex.mixing.row_source import RowSource
from dataflex.mixing.sampler import MixtureSampler, MixtureState, Whole, permute_global_batches
from dataflex.rng import key_seed
from dataflex.schedule import Schedule
from dataflex.scoring.losses import score_pool
from dataflex.scoring.progress import ScoringProgress
from dataflex.scoring.rope import length_scaling
from dataflex.spec import Need
from dataflex.trainers.divergence import ADVICE
from dataflex.trainers.host import Host
from dataflex.trainers.losses.domain_loss import DomainLoss, refuse_unseen_losses
from dataflex.trainers.planners.planner import ComponentPlanner
from dataflex.trainers.recording.outcome import Outcome
from dataflex.trainers.recording.recorder import Recorder
from dataflex.trainers.session import Session
from dataflex.trainers.slots import Filled, Opening


def fill(opening: Opening, part: Part) -> Filled:
    """Let a mixer order the rows and, if it asks for the losses of domains, shape the loss."""
    mix = MixPlanner(
        opening.host,
        opening.session,
        opening.schedule,
        opening.context,
        opening.recorder,
        lambda seen: opening.parts.open(part, seen),
    )
    mix.every = part.every
    if Need.DOMAIN_LOSSES not in part.entry.spec.needs:
        refuse_unseen_losses(mix.asking)
        return Filled(mix)
    mix.losses_are_seen = True
    return Filled(mix, DomainLoss(opening.host, mix.asking, mix.view, mix.sampler, warmup=opening.schedule.warmup))


class MixPlanner(ComponentPlanner):
    """Asks a mixer for proportions at each boundary and draws the stage's samples in them.

    Args:
        host: The Trainer.
        session: The run; its domains are known.
        schedule: Its stages.
        context: What a component may see of the run.
        recorder: Writes down what is decided.
        open_mixer: Constructs the mixer.

    Attributes:
        view: The mixture as the mixer sees it.
        sampler: Draws the rows.
        losses_are_seen: Whether the losses of the domains are added up for the mixer.
        every: At which boundaries the mixer is asked: 1 for all, n for the first and every nth after it.
        source: Who says which row of a domain comes next; ``None`` for the domain's own passes.
    """

    losses_are_seen = False
    source: RowSource | None = None
    every: int = 1

    def __init__(
        self,
        host: Host,
        session: Session,
        schedule: Schedule,
        context: RunContext,
        recorder: Recorder,
        open_mixer: Callable[[MixContext], Asking],
    ) -> None:
        mixture = session.open_mixture(schedule.total * context.global_batch, context.seed)
        self.global_batch, self.seed = context.global_batch, context.seed
        self.sampler: MixtureSampler = mixture.sampler
        domains = mixture.domains
        self.view = MixtureView(domains.names, domains.sizes, mixture.proportions, tokens=domains.tokens)
        known = {field.name: getattr(context, field.name) for field in dataclasses.fields(context)}
        seen = MixContext(**known, mixture=self.view, evaluator=self._evaluate, row_tokens=domains.lengths)
        super().__init__(host, session, schedule, context, recorder, open_mixer(seen))
        self._mix_recorder = recorder
        self.domains = domains.names
        self._settings = session.mixture_settings()
        self._drawn_from = 0  # optimizer step at which the current plan begins
        self._before = self.sampler.state()  # the sampler there, to draw a longer plan from

    def decide(self, stage: int, step: int, num_samples: int) -> Outcome:
        """Ask the mixer, check its proportions and draw.

        In the middle of a stage, a resumed run has become longer: the stage goes on in its proportions, from the
        sample it has come to.
        """
        begins = step == self.schedule.bounds(stage)[0]
        asks = begins and stage > 0 and self.is_due(stage)
        proportions = self.propose(stage, step) if asks else self.view.proportions
        if not begins:
            self.rewind(step)
        rows, metrics = self.draw(proportions, step, num_samples)
        if asks or (begins and stage == 0):
            self.forget_losses()
        shuffled = permute_global_batches(rows, self.global_batch, self.seed, step)
        return Outcome(rows=shuffled, result=proportions, metrics=metrics, decided=asks)

    def rewind(self, step: int) -> None:
        """Put the sampler to where the present plan has come to at ``step``: what it holds beyond was not served."""
        self.sampler.restore(self._before)
        self.sampler.draw(self.view.proportions, (step - self._drawn_from) * self.global_batch, self.source)

    def draw(self, proportions: Proportions, step: int, num_samples: int) -> tuple[Whole, dict[str, Any]]:
        """Draw the rows of a plan, unshuffled, and note where it began; with the numbers to record."""
        before = self.sampler.state()
        rows = self.sampler.draw(proportions, num_samples, self.source)
        metrics = self._metrics(proportions, before)
        self._drawn_from, self._before = step, before
        self.view.update(step=step, proportions=proportions)
        return rows, metrics

    def forget_losses(self) -> None:
        """Begin to add up the losses of a stage."""
        self.view.update(losses=DomainLosses.zeros(len(self.view.names)))

    def describe(self, outcome: Outcome) -> str:
        """The new proportions, by name."""
        shares = zip(self.view.names, outcome.result.tolist(), strict=True)
        name = self.asking.name
        return f"{name} set " + ", ".join(f"{domain} {share:.3f}" for domain, share in shares)

    def finish(self, step: int, stage: int) -> None:
        """Tell the mixer that the run has ended.

        The numbers it reports, which the last stage has moved, are recorded; so are the shares of a run that had no
        boundary to record them at.

        Args:
            step: Optimizer steps done: all of the schedule's, or fewer if the run has ended early.
            stage: The last one.
        """
        with self.asking.agreed(f"step {step}"):
            reported = self._reported()
        if (reported or not self.schedule.boundaries) and self._mix_recorder.writes:
            stage = max(0, stage)
            if step < self.schedule.bounds(stage)[1]:  # what was drawn for the steps that were not made does not count
                self.rewind(step)
            self._mix_recorder.closing(
                stage=stage,
                step=step,
                result=self.view.proportions,
                metrics=self._metrics(self.view.proportions, self._before),
            )
        with self.asking.agreed(f"step {step}"):
            self.asking.call("finished", step_id=step)

    def log_values(self) -> dict[str, float]:
        """What the mixer reports, one number per domain: ``alpha/web``."""
        values: dict[str, float] = {}
        with self.asking.alone(f"step {int(self.host.state.global_step)}"):
            for name, value in self._reported().items():
                if isinstance(value, (list, tuple)):
                    named = zip(self.view.names, value, strict=False)
                    values |= {f"{name}/{domain}": float(one) for domain, one in named if one is not None}
                else:
                    values[name] = float(value)
        return values

    def state_dict(self) -> dict[str, Any]:
        """The sampler's position now and at the plan's beginning, the proportions and the losses seen."""
        losses = self.view.losses
        return {
            "settings": self._settings,
            "counting": self.session.counting.value,
            "sampler": dataclasses.asdict(self.sampler.state()),
            "drawn_from": self._drawn_from,
            "before": dataclasses.asdict(self._before),
            "proportions": self.view.proportions.tolist(),
            "losses": [losses.sums.tolist(), losses.tokens.tolist(), losses.samples.tolist()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back.

        Raises:
            ConfigError: when it is of other domains, another unit or other settings.
        """
        changed = [
            f"{name} was {shown(value)} and is now {shown(self._settings[name])}"
            for name, value in state["settings"].items()
            if value != self._settings[name]
        ]
        if changed:
            raise ConfigError(f"the mixture was set otherwise when the checkpoint was written: {'; '.join(changed)}.")
        self.sampler.restore(MixtureState.from_json(state["sampler"]))
        self._drawn_from, self._before = int(state["drawn_from"]), MixtureState.from_json(state["before"])
        sums, tokens, samples = state["losses"]
        losses = DomainLosses(np.array(sums, np.float64), np.array(tokens, np.int64), np.array(samples, np.int64))
        self.view.update(proportions=state["proportions"], losses=losses)

    def is_due(self, stage: int) -> bool:
        """As :meth:`dataflex.config.plan.Part.is_due`."""
        return (stage - 1) % self.every == 0

    def propose(self, stage: int, step: int) -> Proportions:
        """Ask the mixer for the proportions of a stage, and check them."""
        self.view.update(step=step)
        self._require_finite_losses()
        answer = self.ask("mix", model=self.model(), step_id=step, **self.runtime_arguments(stage))
        return self._checked(answer, "mix")

    def planned(self, step: int) -> Proportions | None:
        """The proportions that the mixer will set at a later boundary; ``None`` where it cannot know them yet."""
        answer = self.asking.call("planned", step_id=step)
        return None if answer is None else self._checked(answer, "planned")

    def _checked(self, answer: Any, method: str) -> Proportions:
        try:
            return check_proportions(answer, self.view.names, f"what its {method}() returned")
        except ConfigError as error:  # the mixer's fault, not the run file's
            raise ComponentError(str(error)) from error

    def _require_finite_losses(self) -> None:
        """Check that losses which the mixer may read are numbers where tokens were seen.

        Raises:
            ComponentError: names the domains. A mixer would take them for domains that were never seen.
        """
        losses = self.view.losses
        broken = (losses.tokens > 0) & ~np.isfinite(losses.sums)
        if self.losses_are_seen and broken.any():
            named = ", ".join(name for name, bad in zip(self.view.names, broken, strict=True) if bad)
            raise ComponentError(f"the training loss of {named} since the last boundary is not a number. {ADVICE}")

    def _evaluate(self, domain: str, max_samples: int | None, which: EvaluatedRows) -> float:
        """Mean loss per token of a domain under the current model; NaN if its rows have no targets."""
        context, place = self.context, self.view.names.index(domain)
        rows = self.sampler.offsets[place] + np.arange(self.sampler.sizes[place])
        if max_samples is not None and max_samples < len(rows):
            when = () if which is EvaluatedRows.FIXED else (self.view.step,)
            draw = np.random.default_rng(key_seed(self.seed, "evaluate", *when, domain))
            rows = np.sort(draw.choice(rows, size=max_samples, replace=False))
        loader = ScoringLoader(
            context.dataset,
            context.data_collator,
            rows,
            rank=context.rank,
            world_size=context.world_size,
            device=self.host.accelerator.device,
            same_length=length_scaling(self.model()) is not None,
        )
        progress = ScoringProgress(len(rows), enabled=context.rank == 0, share=context.world_size)
        losses = score_pool(self.model(), loader, len(context.dataset), self.host.accelerator, progress)
        targets = losses.targets[rows]
        return float(np.nansum(losses.means[rows] * targets) / targets.sum()) if targets.any() else math.nan

    def _reported(self) -> Mapping[str, Any]:
        reported: Mapping[str, Any] = self.asking.call("metrics")
        return reported

    def _metrics(self, proportions: Proportions, before: MixtureState) -> dict[str, Any]:
        """Numbers for the record: lists are in the order of ``domains``."""
        samples = self.sampler.counts - np.array(before.counts, np.int64)
        tokens = np.array(self.sampler.state().tokens, np.int64) - np.array(before.tokens, np.int64)
        losses = self.view.losses
        pool = {} if self.view.tokens is None else {"pool_tokens": self.view.tokens.tolist()}
        seen = {"domain_losses": _known(losses.mean()), "domain_tokens": _whole(losses)} if self.losses_are_seen else {}
        return {
            "domains": list(self.view.names),
            "proportions": proportions.tolist(),
            "samples": samples.tolist(),
            "realised_samples": (samples / max(int(samples.sum()), 1)).tolist(),
            "realised_tokens": (tokens / max(int(tokens.sum()), 1)).tolist(),
            "realised_so_far": self.sampler.realised(Unit(self.sampler.unit)).tolist(),
            "epochs": (self.sampler.counts / self.sampler.sizes).tolist(),
            **pool,
            **seen,
            **self._reported(),
        }


def _known(values: np.ndarray[Any, np.dtype[np.float64]]) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in values.tolist()]


def _whole(losses: DomainLosses) -> list[int]:
    return [int(count) for count in losses.tokens]
