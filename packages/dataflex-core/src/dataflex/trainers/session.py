"""One run, between the configuration and the Trainer: its component, its schedule, its record."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dataflex import __version__
from dataflex.config import checks, too_short
from dataflex.config.mixture import INITIAL
from dataflex.config.order_params import ScoreSource, score_source, sources_in
from dataflex.config.plan import PreparedRun
from dataflex.data.given_scores import GIVEN, RawColumn, given_scores
from dataflex.data.origins import Origins
from dataflex.data.trained_tokens import trained_tokens
from dataflex.errors import ConfigError
from dataflex.math.ordering import Floats
from dataflex.mixing.domains import Domains
from dataflex.mixing.opening import Mixture, check_domain_names, open_mixture
from dataflex.record.run import hide_secrets
from dataflex.runs import TrainType
from dataflex.schedule import Schedule
from dataflex.trainers.context import run_context
from dataflex.trainers.host import DynamicHost
from dataflex.trainers.layout import global_batch, lay_out
from dataflex.trainers.other_rows import warn_of_other_rows
from dataflex.trainers.resume import checkpoint as resuming
from dataflex.trainers.resume.row_seed import row_seed
from dataflex.trainers.resume.run_keys import Arguments, data_keys
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
        unchecked: Keys that could not be compared with the rows of a ``tokenized_path``, with what was asked for.
        began: Whether a Trainer has taken it up.
        counting: Where the tokens of ``domains`` come from.
        columns: Finds a column of the data as it was loaded, by row of the pool, set by the front end likewise.
        answer_header: Tokens that the front end's template puts right before an answer.
    """

    run: PreparedRun
    domains: Domains | None = None
    origins: Origins | None = None
    arguments: Arguments | None = None
    counting: Counting = Counting.COLUMNS
    columns: RawColumn | None = None
    answer_header: tuple[int, ...] = ()
    data_seed: int | None = None
    unchecked: Mapping[str, Any] = field(default_factory=dict)
    began: bool = False
    _scores: dict[str, Floats] = field(default_factory=dict, repr=False)

    @property
    def sources(self) -> Domains | Origins | None:
        """Where the rows of the pool come from, if that is known."""
        return self.domains or self.origins

    @property
    def identity(self) -> str:
        """Kind and name of each component, as a checkpoint keeps them."""
        return " + ".join(part.identity for part in self.run.facts.parts)

    @property
    def params(self) -> dict[str, Any]:
        """Parameters of the component, as a checkpoint keeps them; by kind where there are several."""
        parts = self.run.facts.parts
        if len(parts) == 1:
            return dict(parts[0].params)
        return {part.component.kind.value: dict(part.params) for part in parts}

    @property
    def versions(self) -> dict[str, str]:
        """Who provides core and the components, and in which version."""
        return {"dataflex-core": __version__, **{part.dist: part.version for part in self.run.facts.parts}}

    def names_checkpoint(self, path: str) -> bool:
        """Whether the user named this checkpoint; otherwise LlamaFactory found it and a newer or older one may do."""
        return str(self.run.facts.arguments.get("resume_from_checkpoint")) == path

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
        facts = self.run.facts
        early = facts.stage != checks.NO_STAGE and too_short.planned_steps(facts.steps, facts.arguments) is not None
        if not early and not facts.scores_only and getattr(args, "process_index", 0) == 0:
            for warning in too_short.warnings(facts.arguments, facts.origin, schedule.total):
                logger.warning(warning)
        self.check_given_scores(pool)
        if self.run.mixture is not None:
            if getattr(args, "process_index", 0) == 0:
                warn_of_other_rows(self, pool)
            samples = schedule.total * global_batch(args)
            mixture = self.open_mixture(samples, row_seed(args))
            if not schedule.boundaries and math.isfinite(mixture.sampler.smallest_limit):
                mixture.sampler.draw(mixture.proportions, samples)  # fixed proportions: what would fail later fails now
        given = args.resume_from_checkpoint if resumes else None
        named = isinstance(given, str) and self.names_checkpoint(given)
        checkpoint, _ = resuming.find_checkpoint(given, Path(args.output_dir), named=named)
        if checkpoint is not None:
            resuming.require_loadable(self.run.facts, checkpoint)
        return schedule

    def given_sources(self) -> list[ScoreSource]:
        """Sources of scores that a component of the run goes by, or its screen, and that are known before training."""
        own = [(part.entry.spec, part.bound.values) for part in self.run.parts]
        screens = [part.screen for part in self.run.parts if part.screen is not None]
        every = [*own, *((screen.entry.spec, screen.bound.values) for screen in screens)]
        given = [score_source(by) for spec, values in every for by in sources_in(spec, values)]
        return [source for source in given if source.kind in GIVEN]

    def check_given_scores(self, pool: Any) -> None:
        """Read the scores that are known before training: what is wrong with them is said before the model loads.

        Raises:
            ConfigError: as :meth:`given_scores`.
        """
        for source in self.given_sources():
            self.given_scores(source, pool)

    def given_scores(self, source: ScoreSource, pool: Any) -> Floats:
        """Scores that are known before training, read once; see :func:`given_scores`.

        Raises:
            ConfigError: when there are none, or they are of another pool.
        """
        if str(source) not in self._scores:
            try:
                self._scores[str(source)] = given_scores(source, pool, self.columns)
            except ConfigError as error:
                raise ConfigError(f"{self.run.facts.source}: {error}") from error
        return self._scores[str(source)]

    def settings(self) -> dict[str, Any]:
        """The step keys and those of a mixture as they were given, as JSON values for the record."""
        facts = self.run.facts
        settings = {"steps": dataclasses.asdict(facts.steps), "mixture": self.mixture_settings()}
        return settings if facts.train_type is not TrainType.COMPOSED else settings | {"components": self.components()}

    def components(self) -> list[dict[str, Any]]:
        """Every component with its parameters and how it is asked, as JSON values for the record."""
        return [
            {
                "kind": part.component.kind.value,
                "component": part.component.name,
                "dist": part.dist,
                "version": part.version,
                "params": hide_secrets(part.params),
                "every": part.every,
                "keep": part.keep,
            }
            for part in self.run.facts.parts
        ]

    def check_domain_names(self, names: Sequence[str]) -> None:
        """Check what a mix run says about its domains as soon as their names are known.

        Raises:
            ConfigError: names the domains.
        """
        if self.run.mixture is not None:
            check_domain_names(self.run.mixture, names)

    def count_tokens(self, trainer: DynamicHost, began_with: Counting | None) -> None:
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
        context = run_context(
            trainer,
            self.run,
            data_seed=self.data_seed,
            global_batch=global_batch(trainer.args),
            data_keys=self.data_keys(),
        )
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
            raise ConfigError(f"the pool of {self.run.facts.source} has no domains, which a mix run needs.")
        try:
            return open_mixture(self.run.mixture, self.domains, samples=samples, seed=seed)
        except ConfigError as error:
            raise ConfigError(f"{self.run.facts.source}: {error}") from error

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

    def data_keys(self) -> dict[str, Any]:
        """LlamaFactory's keys that the pool was tokenised under, as far as they are known of its rows."""
        return data_keys(self.arguments, self.unchecked)

    def schedule(self, pool: Sized, args: Any) -> Schedule:
        """Lay out the stages, as :func:`lay_out`."""
        return lay_out(self.run, pool, args)
