"""What the framework hands to a component: the pool, the collator and the run's own facts.

Torch-free at import time, so that a module with a component class can be listed without torch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from dataflex.components.passes import (
    GradientScores,
    NoPasses,
    Objective,
    Passes,
    PoolLosses,
    PreferenceScores,
    RowSink,
    Scored,
    ScoreFn,
)
from dataflex.components.screening import Screen, Screened
from dataflex.errors import ComponentError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from dataflex.components.screen_params import ScreenParams

logger = logging.getLogger("dataflex")


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """The run as a component sees it. Handed to native components as ``context``.

    Attributes:
        dataset: The training pool: tokenised, map-style, ``dataset[row]`` gives the collator's features.
        data_collator: The run's own collator: a list of rows to one batch.
        accelerator: The Trainer's :class:`accelerate.Accelerator`.
        output_dir: The run's output directory.
        cache_dir: Where the component may keep files; its own folder in ``output_dir`` unless the user names one.
        seed: The run's seed. Draw with ``context.rng(step)``, never from a global generator.
        global_batch: Samples per optimizer step over all ranks.
        stage: LlamaFactory's training stage (``sft``, ``pt``, ...), or ``""`` under another front end.
        eval_datasets: The run's eval sets by name; empty if it has none.
        tokenizer: The tokenizer (or processor) of the run.
        vocab_size: Tokens the model's configuration has room for; ``None`` where it does not say.
        optimizer: Returns the run's optimizer; only meaningful once training has begun.
        scheduler: Returns the run's learning-rate scheduler, likewise.
        scores_only: Whether only scores are wanted (``dataflex score``): nothing is trained, and without a checkpoint
            the optimizer has made no step.
        screens: Whether the component is the screen of another one in a run that trains: scores are all that is wanted
            of it, but it sees the model as training begins, and the rows of each step.
        passes: Who makes :meth:`score`, :meth:`losses` and :meth:`gradients`.
        domain: Name of the domain that ``dataset`` holds, for a component that is asked for each domain by itself; else
            empty.
        streams: Names that stand before those of every stream; the framework's, so that no two domains draw the same.
        total_steps: Optimizer steps of the run; ``None`` where that is not known, and where nothing is trained.
        data_keys: LlamaFactory's keys that the pool was tokenised under (``template``, ``cutoff_len``, ...), as parsed;
            empty under another front end. For what a component keeps for other runs to say what it was found on.
        trust_remote_code: Whether the run file lets code of a model's folder run.
        columns: Finds a column of the data as it was before tokenising, by row of the pool; ``None`` where only the
            pool's own columns are known. For ``dataflex.data.given_scores.given_numbers``.
        answer_header: Tokens that the run's template puts right before every answer; empty where it has none, and where
            no template is known.
        screen: Who screens rows for :meth:`screened`; ``None`` without a screen.
        objective: The loss of a stage of preferences (dpo, rm, kto), for :meth:`preferences`; ``None`` where rows are
            single answers and :meth:`losses` has what training minimises.
    """

    dataset: Any
    data_collator: Callable[[Sequence[Any]], Mapping[str, Any]]
    accelerator: Any = None
    output_dir: Path = Path(".")
    cache_dir: Path = Path("cache")
    seed: int = 42
    global_batch: int = 1
    stage: str = ""
    eval_datasets: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Any = None
    vocab_size: int | None = None
    optimizer: Callable[[], torch.optim.Optimizer | None] = lambda: None
    scheduler: Callable[[], Any] = lambda: None
    scores_only: bool = False
    screens: bool = False
    passes: Passes = field(default=NoPasses(), repr=False)
    data_keys: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""
    total_steps: int | None = None
    trust_remote_code: bool = False
    streams: tuple[str | int, ...] = ()
    columns: Callable[[str], npt.NDArray[np.float64]] | None = field(default=None, repr=False)
    answer_header: tuple[int, ...] = ()
    screen: Screen | None = field(default=None, repr=False)
    objective: Objective | None = field(default=None, repr=False)

    @property
    def rank(self) -> int:
        """Index of this process."""
        return int(self.accelerator.process_index) if self.accelerator is not None else 0

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return int(self.accelerator.num_processes) if self.accelerator is not None else 1

    @property
    def trains(self) -> bool:
        """Whether a model is trained: in a run, also for a screen; not where a pool is only scored."""
        return self.screens or not self.scores_only

    def rng(self, step: int, *names: str | int) -> np.random.Generator:
        """A private generator that is a function of (seed, step, names): the same on every rank and on resume.

        A component that draws for two things at one step names the second: on one stream, the noise that chose the
        rows of one draw would choose among them again in the other.

        Args:
            step: Optimizer steps done; 0 for what does not depend on the step.
            names: What is drawn, as texts or whole numbers: ``rng(step, "pass", 2)``.
        """
        from dataflex.rng import stream

        return stream(self.seed, step, *self.streams, *names)

    def screened(
        self,
        model: nn.Module,
        candidates: npt.NDArray[np.int64],
        screen: ScreenParams | None,
        *,
        step: int,
        num_samples: int,
        facts: Mapping[str, Any],
    ) -> Screened:
        """Which of the candidates to score, and among which to choose. All ranks call it with the same arguments.

        Without a screen: all of them. With one: those of its highest scores (ties by row, rows without a score last),
        and, to compare both scores on, some drawn at random, which may not be chosen unless they survive.

        Args:
            model: The model that ``select`` was given.
            candidates: Rows that could be chosen, ascending.
            screen: The component's parameter of that name.
            step: The boundary's ``step_id``.
            num_samples: Rows that will be chosen, none twice.
            facts: The ``kwargs`` of ``select``, which the screen is asked with.

        Raises:
            ComponentError: on every rank, when the screen fails on one; and for a context made by hand.
            ConfigError: when fewer rows survive than are to be chosen.

        Example:
            >>> found = context.screened(model, rows, self.params.screen, step=step_id, num_samples=n, facts=kwargs)
            >>> losses = context.losses(model, found.rows).means
            >>> chosen = found.survivors[top_k(losses[found.survivors], n)]
            >>> return Selection(chosen, found.metrics(losses), losses)
        """
        if screen is None:
            return Screened(candidates, candidates)
        if self.screen is None:
            raise ComponentError(
                "the parameter screen is set, but this context was made by hand and has no screen to ask. In a test, "
                "leave it out, or train with dataflex.dynamic_trainer(...)."
            )
        return self.screen.look(model, candidates, step=step, num_samples=num_samples, facts=facts)

    def score(
        self,
        model: nn.Module,
        rows: npt.ArrayLike,
        fn: ScoreFn,
        *,
        width: int = 1,
        token_budget: int | None = None,
        max_batch: int | None = None,
        key: Any = None,
        what: str = "scored",
    ) -> Scored:
        """Score rows of the pool under a model. All ranks call it with the same rows; each scores a share.

        Rows are batched by length; a model whose RoPE follows the longest row gets batches of one length. ``fn`` is
        called in evaluation mode, without gradients, under the run's autocast, with the batch as the collator made it
        (labels included) on the model's device. The model is afterwards as it was.

        Args:
            model: The model to score with: that of ``select``, or another one.
            rows: Row indices into the pool; repeated ones count once.
            fn: From (model, batch) to the scores of the batch's rows: fp32 or fp64, shape [B] or [B, width].
                NaN for a row that has no score.
            width: Scores of one row.
            token_budget: Tokens of one batch, padding included; ``None`` for what suits the device.
            max_batch: Most rows of one batch.
            key: JSON values that name what ``fn`` computes, with every parameter it depends on. With a key, finished
                parts are kept in ``cache_dir`` under key, weights and rows, and an interrupted pass goes on from them.
                Leave the step out: what an earlier boundary left under the key is deleted when the pass is done.
                Two passes of one boundary need two keys. Without one, nothing is written.
            what: Past participle for the log and the progress bar: "scored 640 rows in 3.1 s".

        Returns:
            The scores, the same on every rank.

        Raises:
            ComponentError: on every rank, when ``fn`` fails on one or gives another type or shape, a row cannot be
                read or is none of the pool, or ranks ask for different rows.

        Example:
            >>> def entropy(model, batch):
            ...     inputs = {name: value for name, value in batch.items() if name != "labels"}
            ...     log_probs = model(**inputs).logits.float().log_softmax(-1)
            ...     return -(log_probs.exp() * log_probs).sum(-1).mean(-1)
            >>> context.score(model, range(len(context.dataset)), entropy).values
        """
        return self.passes.score(
            self,
            model,
            rows,
            fn,
            width=width,
            token_budget=token_budget,
            max_batch=max_batch,
            key=key,
            what=what,
        )

    def losses(
        self, model: nn.Module, rows: npt.ArrayLike, *, token_budget: int | None = None, key: Any = None
    ) -> PoolLosses:
        """Mean next-token losses of rows of the pool under a model. All ranks call it with the same rows.

        Args:
            model: The model to score with.
            rows: Row indices into the pool.
            token_budget: Tokens of one batch, padding included; ``None`` for what suits the device.
            key: As of :meth:`score`.

        Returns:
            Losses and numbers of target tokens, the same on every rank.

        Raises:
            ComponentError: on every rank, when the model is trained with another loss, batches have no labels, memory
                runs out, or a row cannot be read or is none of the pool.
        """
        return self.passes.losses(self, model, rows, token_budget=token_budget, key=key)

    def preferences(
        self, model: nn.Module, rows: npt.ArrayLike, *, token_budget: int | None = None, key: Any = None
    ) -> PreferenceScores:
        """The loss of a stage of preferences for rows of the pool, and the margin of each pair (dpo, rm).

        The stage's Trainer is asked: a pair's loss is that of a batch of it alone. The KL term of kto is one number,
        over all the rows asked for. All ranks call it with the same rows; neither batches nor ranks change a score.

        Args:
            model: The model to score with.
            rows: Row indices into the pool.
            token_budget: Tokens of one batch, padding included; ``None`` for what suits the device.
            key: As of :meth:`score`.

        Raises:
            ComponentError: on every rank, as :meth:`score`, and when the stage has none (``objective`` is ``None``).
        """
        return self.passes.preferences(self, model, rows, token_budget=token_budget, key=key)

    def gradients(
        self,
        model: nn.Module,
        rows: npt.ArrayLike,
        sink: RowSink,
        *,
        parameters: Literal["all", "linear"] = "all",
        key: Any = None,
    ) -> GradientScores:
        """Hand the gradient of each row's mean next-token loss to a sink. All ranks call it with the same rows.

        Gradients are taken in batches where the model allows it, else one row at a time, which is as exact and several
        times slower; none is stored. A rank's sink receives the rows of that rank; what it adds up over rows is the
        caller's to add up over ranks. ``.grad``, hooks and train flags are left as they were. For cosines with the
        eval sets there is :class:`dataflex.gradients.cosines.CosineScorer`.

        Args:
            model: The model in training.
            rows: Row indices into the pool.
            sink: Receives the gradients and gives each row its scores.
            parameters: Whose gradients: of all trainable parameters, or of weights and biases of linear layers only.
            key: As of :meth:`score`; not for a sink of width 0, which would miss the rows that were finished before.

        Returns:
            The sink's scores by row, the same on every rank; NaN for a row without target tokens.

        Raises:
            ComponentError: as :meth:`losses`, and when no parameter is left to measure.
            ConfigError: when the parameters are spread over ranks.
        """
        return self.passes.gradients(self, model, rows, sink, parameters=parameters, key=key)
