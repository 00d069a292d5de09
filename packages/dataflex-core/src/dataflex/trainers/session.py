"""One run, between the configuration and the Trainer: its component, its schedule, its record."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import time
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dataflex import __version__
from dataflex.components.build import build_component
from dataflex.components.context import RunContext
from dataflex.config.mixture import INITIAL
from dataflex.config.plan import PreparedRun
from dataflex.data.domains import Domains
from dataflex.data.origins import Origins
from dataflex.data.stock_order import epoch_samples
from dataflex.data.trained_tokens import trained_tokens
from dataflex.decisions import Decision, DecisionLog
from dataflex.errors import ComponentError, ConfigError, DataFlexError
from dataflex.run_record import hide_secrets
from dataflex.runs import RunSummary
from dataflex.schedule import Schedule, by_epochs, resolve
from dataflex.spec import Kind
from dataflex.trainers import resuming
from dataflex.trainers.batches import handed_out
from dataflex.trainers.mixture import Mixture, check_domain_names, open_mixture
from dataflex.trainers.row_seed import row_seed
from dataflex.trainers.run_keys import Arguments
from dataflex.trainers.token_counts import Counting, count_tokens

logger = logging.getLogger("dataflex")


@dataclass
class Session:
    """What the trainers need to know of a prepared run.

    Attributes:
        run: The checked run.
        domains: The domains of a mix run's pool, set by the front end as soon as the pool is loaded.
        origins: Which data set each row of another run's pool comes from, likewise; ``None`` if that is not known.
        arguments: The parsed arguments of the front end; ``None`` takes the Trainer's own.
        data_seed: The seed that rows are drawn by; ``None`` before it is known which checkpoint the run goes on from.
        began: Whether a Trainer has taken it up.
        counting: Where the tokens of ``domains`` come from.
    """

    run: PreparedRun
    domains: Domains | None = None
    origins: Origins | None = None
    arguments: Arguments | None = None
    counting: Counting = Counting.COLUMNS
    data_seed: int | None = None
    began: bool = False

    @property
    def sources(self) -> Domains | Origins | None:
        """Where the rows of the pool come from, if that is known."""
        return self.domains or self.origins

    @property
    def identity(self) -> str:
        """Kind and name of the component, as a checkpoint keeps it.

        Not who provides it: a file given with ``-p`` may move, or become a package, between two parts of a run.
        """
        return f"{self.run.plan.component.kind} {self.run.plan.component.name}"

    @property
    def versions(self) -> dict[str, str]:
        """Who provides core and the component, and in which version."""
        return {"dataflex-core": __version__, self.run.plan.dist: self.run.plan.version}

    @property
    def log(self) -> DecisionLog:
        """The run's decision log."""
        return DecisionLog(self.run.plan.output_dir)

    def names_checkpoint(self, path: str) -> bool:
        """Whether the user named this checkpoint; otherwise LlamaFactory found it and a newer or older one may do."""
        return str(self.run.plan.arguments.get("resume_from_checkpoint")) == path

    def check(self, pool: Sized, args: Any, *, resumes: bool = True) -> Schedule | None:
        """Check everything that needs the tokenised pool but no model.

        Args:
            pool: The tokenised training pool.
            args: The ``transformers.TrainingArguments``.
            resumes: Whether their ``resume_from_checkpoint`` is what the Trainer will be told.

        Returns:
            The stages of the run; ``None`` for a pool that is only scored.

        Raises:
            ConfigError: as :meth:`schedule`, :meth:`open_mixture` and ``resuming.find_checkpoint``.
        """
        schedule = self.schedule(pool, args)
        if self.run.mixture is not None:
            samples = schedule.total * self.global_batch(args)
            mixture = self.open_mixture(samples, row_seed(args))
            if not schedule.boundaries and math.isfinite(mixture.sampler.smallest_limit):
                mixture.sampler.draw(mixture.proportions, samples)  # fixed proportions: what would fail later fails now
        given = args.resume_from_checkpoint if resumes else None
        named = isinstance(given, str) and self.names_checkpoint(given)
        checkpoint, _ = resuming.find_checkpoint(given, Path(args.output_dir), named=named)
        if checkpoint is not None:
            resuming.require_loadable(self.run.plan, checkpoint)
        return schedule

    def settings(self) -> dict[str, Any]:
        """The step keys and those of a mixture as they were given, as JSON values for the record."""
        return {"steps": dataclasses.asdict(self.run.plan.steps), "mixture": self.mixture_settings()}

    def check_domain_names(self, names: Sequence[str]) -> None:
        """Check what a mix run says about its domains as soon as their names are known.

        Raises:
            ConfigError: names the domains.
        """
        if self.run.mixture is not None:
            check_domain_names(self.run.mixture, names)

    def count_tokens(self, trainer: Any, began_with: Counting | None) -> None:
        """Count the tokens of a mix run's rows as its collator makes them. Called on every rank, before the planner.

        Args:
            trainer: The ``transformers.Trainer``.
            began_with: What a resumed run counted by when it began; ``None`` for a new one.

        Raises:
            ComponentError: naming a row that cannot be read or collated.
        """
        domains = self.domains
        if self.run.mixture is None or domains is None:
            return
        if self.counting is not Counting.COLUMNS:  # of an earlier train()
            domains = replace(domains, lengths=trained_tokens(trainer.train_dataset))
        context = run_context(trainer, self, self.global_batch(trainer.args))
        counted = count_tokens(
            context,
            domains.lengths,
            domains.sizes,
            workers=int(trainer.args.dataloader_num_workers),
            began_with=began_with,
        )
        self.domains, self.counting = replace(domains, lengths=counted.counts), counted.counting

    def open_mixture(self, samples: int, seed: int) -> Mixture:
        """Set up the sampling of a mix run.

        Args:
            samples: Samples of the whole run, over all ranks.
            seed: The run's seed.

        Raises:
            ConfigError: when the settings do not fit the domains.
        """
        if self.run.mixture is None or self.domains is None:
            raise ConfigError(f"the pool of {self.run.plan.source} has no domains, which a mix run needs.")
        try:
            return open_mixture(self.run.mixture, self.domains, samples=samples, seed=seed)
        except ConfigError as error:
            raise ConfigError(f"{self.run.plan.source}: {error}") from error

    def mixture_settings(self) -> dict[str, Any]:
        """The keys of a mix run that may not change on resume, as JSON values.

        ``mixture_max_epochs`` may: a raised limit lets a run go on.
        """
        settings = self.run.mixture
        if settings is None:
            return {}
        keys = {
            "mixture_sample_rule": settings.rule,
            INITIAL: settings.initial,
            "mixture_unit": settings.unit,
            "mixture_temperature": settings.temperature,
            "mixture_on_exhausted": settings.on_exhausted,
        }
        return dict(json.loads(json.dumps(keys)))

    @staticmethod
    def global_batch(args: Any) -> int:
        """Samples of one optimizer step over all ranks."""
        per_rank = int(args.per_device_train_batch_size) * int(args.gradient_accumulation_steps)
        return per_rank * int(args.world_size)

    def schedule(self, pool: Sized, args: Any) -> Schedule:
        """Lay out the stages, now that the pool is known, and check that it can fill them.

        Args:
            pool: The tokenised training pool.
            args: The ``transformers.TrainingArguments``.

        Raises:
            ConfigError: when a stage draws more samples than the pool holds and repeats were not asked for, or the
                run would spread over several devices in one process.
        """
        refuse_data_parallel(args)
        plan = self.run.plan
        global_batch = self.global_batch(args)
        weighs = plan.component.kind is Kind.WEIGHTER
        schedule = resolve(
            plan.steps,
            epochs=args.num_train_epochs,
            pool_size=self.epoch_samples(pool, args) if weighs else len(pool),
            global_batch=global_batch,
            max_steps=args.max_steps,
        )
        if weighs:
            return self._epochs(schedule.total, pool, args)
        if 0 < args.max_steps != schedule.total:
            raise ConfigError(
                f"max_steps={args.max_steps} differs from the {schedule.total} steps of update_times: -1 over "
                f"{args.num_train_epochs} epochs (from {plan.source}). Leave max_steps out, or set train_step to it."
            )
        if self.run.mixture is not None:
            return schedule  # an exhausted domain begins anew, unless mixture_max_epochs forbids it
        drawn = schedule.longest_update * global_batch
        if drawn > len(pool) and not plan.params.get("replacement", False):
            fitting = len(pool) // global_batch
            advice = f"Lower update_step to {fitting} or less" if fitting else "Lower the batch size"
            raise ConfigError(
                f"update_step={plan.steps.update} draws {drawn} samples ({schedule.longest_update} steps of "
                f"{global_batch}) but the pool holds {len(pool)} (from {plan.source}). {advice}, add data, or let "
                "samples repeat with component_params.replacement: true if the component has it."
            )
        return schedule

    def epoch_samples(self, pool: Sized, args: Any) -> int:
        """Samples that the stock Trainer trains on in one epoch, over all ranks.

        Raises:
            ConfigError: when there are none.
        """
        samples = epoch_samples(
            len(pool),
            batch_size=int(args.per_device_train_batch_size),
            ranks=int(args.world_size),
            drop_last=bool(args.dataloader_drop_last),
        )
        if not samples:
            raise ConfigError(
                f"dataloader_drop_last leaves nothing of a pool of {len(pool)} samples (from {self.run.plan.source}). "
                "Lower per_device_train_batch_size, or set it to false."
            )
        return samples

    def _epochs(self, total: int, pool: Sized, args: Any) -> Schedule:
        plan, samples = self.run.plan, self.epoch_samples(pool, args)
        if total <= plan.steps.warmup:
            raise ConfigError(
                f"the run ends after {total} steps, before the weighter acts at warmup_step={plan.steps.warmup} "
                f"(from {plan.source}). Lower warmup_step, or train longer: train_step, max_steps or num_train_epochs."
            )
        return by_epochs(total, samples, self.global_batch(args))

    def component(self, context: RunContext) -> Any:
        """Construct the component.

        Raises:
            ComponentError: if its constructor fails.
        """
        entry, bound = self.run.entry, self.run.bound
        cls = entry.load()
        try:
            return build_component(cls, bound.params, bound.values, bound.run_values, context)
        except DataFlexError:
            raise
        except Exception as error:
            raise ComponentError(f"{self.title} could not be constructed: {type(error).__name__}: {error}") from error

    @property
    def title(self) -> str:
        """Kind, name, dist and version of the component, for messages."""
        plan = self.run.plan
        origin = f"{plan.dist} {plan.version}".strip()
        return f"{plan.component.kind} {plan.component.name!r} of {origin}"

    def record(
        self,
        *,
        step: int,
        stage: int,
        seed: int,
        seconds: float,
        **results: Any,
    ) -> Decision:
        """Append a decision to the log, then tell the plugins. Rank 0 only; ``results`` are fields of the record."""
        plan = self.run.plan
        decision = Decision(
            step=step,
            stage=stage,
            kind=plan.component.kind,
            component=plan.component.name,
            dist=plan.dist,
            version=plan.version,
            params=hide_secrets(plan.params),
            seconds=seconds,
            seed=seed,
            **results,
        )
        self.log.append(decision)
        self.run.plugins.call("dataflex_decision", decision=decision)
        return decision

    def finished(self, *, steps: int, started: float, metrics: Mapping[str, float], ended_by: str = "") -> None:
        """Tell the plugins that the run has ended, early if ``ended_by`` says by whom. Rank 0 only."""
        summary = RunSummary(
            plan=self.run.plan,
            steps=steps,
            decisions=sum(1 for _ in self.log),
            seconds=time.perf_counter() - started,
            metrics=metrics,
            ended_by=ended_by,
        )
        self.run.plugins.call("dataflex_run_finished", summary=summary)


def refuse_data_parallel(args: Any) -> None:
    """Refuse several devices in one process.

    Raises:
        ConfigError: says how to start one process a device.
    """
    if args.n_gpu > 1:
        raise ConfigError(
            f"this process sees {args.n_gpu} devices and would run DataParallel, which is not supported. "
            "Set FORCE_TORCHRUN=1, or show it one device."
        )


def run_context(trainer: Any, session: Session, global_batch: int) -> RunContext:
    """Collect what a component may see of a Trainer."""
    plan, handed = session.run.plan, handed_out(trainer)
    output_dir = Path(trainer.args.output_dir)
    bound = getattr(session.run, "bound", None)  # a plan alone has no values of a component
    given = {} if bound is None else bound.run_values
    cache_dir = given.get("cache_dir", output_dir / "cache" / plan.component.name)
    return RunContext(
        dataset=handed.dataset,
        data_collator=handed.collator,
        accelerator=trainer.accelerator,
        output_dir=output_dir,
        cache_dir=Path(cache_dir),
        seed=_row_seed(trainer, session),
        global_batch=global_batch,
        stage=plan.stage,
        eval_datasets=handed.eval_datasets,
        tokenizer=getattr(trainer, "processing_class", None),
        vocab_size=_vocab_size(getattr(trainer.model, "config", None)),
        optimizer=lambda: trainer.optimizer,
        scheduler=lambda: trainer.lr_scheduler,
        scores_only=plan.scores_only,
    )


def _row_seed(trainer: Any, session: Session) -> int:
    known = getattr(session, "data_seed", None)
    return row_seed(trainer.args) if known is None else int(known)


def _vocab_size(config: Any) -> int | None:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return getattr(text, "vocab_size", None)
