"""Per-sample gradients at one boundary: what is measured, with which loader, and the pass over the pool's rows.

Shapes: B rows of a batch, W scores of a row, N rows this rank measured.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dataflex.components.context import RunContext
from dataflex.components.passes import RowSink
from dataflex.data.scoring_loader import MAX_BATCH, ScoringLoader, default_token_budget
from dataflex.distributed import all_gather, together
from dataflex.errors import ConfigError
from dataflex.gradients.coverage import Scope, cover
from dataflex.gradients.engine import GradientEngine
from dataflex.gradients.sink import GradientSink
from dataflex.gradients.sinks import UnheardSink
from dataflex.lockstep import is_collective
from dataflex.scoring.batches import joined, spread
from dataflex.scoring.inputs import trimmed
from dataflex.scoring.objective import left_out, objective_of, refuse_own_loss
from dataflex.scoring.passes import checked_scores, device_of
from dataflex.scoring.progress import ScoringProgress
from dataflex.scoring.shards import ShardStore
from dataflex.spread import is_spread, reshard

logger = logging.getLogger("dataflex")

Rows = npt.NDArray[np.int64]
Table = npt.NDArray[np.float64]

ACCELERATOR_TOKENS = 8192
"""Tokens of a batch anywhere but on a CPU: gradients of each sample take more memory than its loss."""

_FELL_BACK = "fell back"


class Measuring:
    """Measures gradients of rows under the model as it is now.

    Args:
        context: The run.
        model: The unwrapped model.
        parameters: Whose gradients.
        token_budget: Padded tokens of one batch; ``None`` for what suits the device.
        told: What the log has said already; kept by the caller from one boundary to the next.
        who: Who measures, for messages.

    Raises:
        ConfigError: when the parameters are spread over ranks in a way that gradients of rows are not read under.
        ComponentError: when no parameter is left to measure.
    """

    def __init__(
        self,
        context: RunContext,
        model: nn.Module,
        parameters: Scope,
        *,
        token_budget: int | None = None,
        told: set[str],
        who: str,
    ) -> None:
        refuse_spread(model, context.accelerator, who)
        reshard(model)  # what an evaluation left gathered would be taken for the model's parameters
        self.context, self.model, self._told, self._who = context, model, told, who
        self.coverage = cover(model, parameters)
        self.device: torch.device = next(iter(self.coverage.parameters.values())).device
        self._batch_device = device_of(context, model)
        self._token_budget = token_budget or default_token_budget(self._batch_device, ACCELERATOR_TOKENS)
        self._engine: GradientEngine | None = None

    @property
    def engine(self) -> GradientEngine:
        """Gives the gradients; made, and heard falling back, when it is first needed."""
        if self._engine is None:
            quiet = self.context.rank > 0 or _FELL_BACK in self._told
            self._engine = GradientEngine(self.model, self.coverage, self.context.accelerator, quiet_log=quiet)
        return self._engine

    def check_objective(self, rows: Rows) -> None:
        """Refuse a model that is trained with another loss, and say once which terms beside the loss are left out.

        Raises:
            ComponentError: naming the model's class and both losses.
        """
        context, objective = self.context, objective_of(self.model)
        self._probe(rows)
        if objective in self._told:
            return
        refuse_own_loss(
            self.model, context.dataset, context.data_collator, rows, self._batch_device, context.accelerator
        )
        self._told.add(objective)
        for term in left_out(self.model) if context.rank == 0 else ():
            logger.info("%s measures gradients of the next-token loss alone: %s is left out.", self._who, term)

    def _probe(self, rows: Rows) -> None:
        """Two rows that are the same on every rank, where one rank alone could not say what a forward shows."""
        if len(rows) and is_collective(self.model, self.context.accelerator):
            loader = ScoringLoader(
                self.context.dataset, self.context.data_collator, rows[:2], device=self._batch_device
            )
            with together("reading the first rows", self.context.accelerator):
                batch = trimmed(next(iter(loader))[1])
            self.engine.probe(batch)

    def beside(self, loader: ScoringLoader) -> list[int]:
        """By batch, how many rows some rank compares with theirs; empty where each rank runs its passes for itself."""
        if not is_collective(self.model, self.context.accelerator):
            return []
        everywhere = all_gather(loader.looks, self.context.accelerator)
        return [max(counts) for counts in zip(*everywhere, strict=True)]

    def note_what_is_left_out(self) -> None:
        """Say which trainable parameters are not measured, and remember that rows had to be measured one by one."""
        if self.engine.reason:
            self._told.add(_FELL_BACK)
        excluded = self.coverage.excluded
        if excluded and self.context.rank == 0:
            logger.info(
                "parameters: linear leaves %d trainable parameters out of the gradients: %s",
                len(excluded),
                ", ".join(excluded),
            )

    def loader(self, dataset: Any, rows: Rows, skipped: Rows) -> ScoringLoader:
        """This rank's batches of rows of the pool or of an eval set."""
        return ScoringLoader(
            dataset,
            self.context.data_collator,
            rows,
            token_budget=self._token_budget,
            max_batch=self.engine.max_batch or MAX_BATCH,
            rank=self.context.rank,
            world_size=self.context.world_size,
            device=self._batch_device,
            skipped=skipped,
            uneven_first=True,
        )

    def group_loaders(self, dataset: Any, groups: Sequence[Rows]) -> list[ScoringLoader]:
        """Of every group that is this rank's, the batches of its rows."""
        mine = groups[self.context.rank :: self.context.world_size]
        most = self.engine.max_batch or MAX_BATCH
        fixed = {"token_budget": self._token_budget, "max_batch": most, "device": self._batch_device}
        return [
            ScoringLoader(dataset, self.context.data_collator, rows, uneven_first=place == 0, **fixed)
            for place, rows in enumerate(mine)
        ]

    def scores(
        self,
        rows: Rows,
        fed: GradientSink,
        sink: RowSink,
        progress: ScoringProgress,
        store: ShardStore | None,
    ) -> tuple[Table, Rows] | None:
        """Measure rows of the pool and gather what the others measured.

        Args:
            rows: The rows.
            fed: Receives their gradients.
            sink: Gives each row its scores: ``fed`` itself, or what it hands them on to.
            progress: Told of every batch.
            store: Where finished scores are kept, of the sink's width + 1; or ``None``.

        Returns:
            A table [pool, W + 1] whose last column holds the numbers of target tokens, NaN where a row was not
            measured and in the scores of rows without targets; and the rows that an interrupted pass had left.
            ``None`` on every rank if rows have to be measured one at a time from now on: start again.

        Raises:
            ComponentError: on every rank, when one fails.
        """
        accelerator, size = self.context.accelerator, len(self.context.dataset)
        skipped = rows[:0] if store is None else store.resume(rows, accelerator)
        width = sink.width
        kept = (rows[:0], np.zeros((0, width + 1))) if store is None else store.done
        progress.total -= len(skipped)
        before = progress.done

        def body() -> tuple[Rows, Table]:
            progress.done = before
            sink.restart()
            found: list[tuple[Rows, Table]] = []
            loader = self.loader(self.context.dataset, rows, skipped)
            beside = self.beside(loader)
            for place, (batch_rows, batch) in enumerate(loader):
                most = beside[place] if beside else 0
                if not len(batch_rows):
                    if beside:  # its forward is awaited
                        self.engine.feed(batch, UnheardSink(), beside=most)
                    continue
                losses = self.engine.feed(batch, fed, loader.alone(batch_rows), beside=most)
                counts_B = losses.counts_B.cpu().numpy()
                scores_BW = checked_scores(sink.scores(), width, "the sink") if width else np.zeros((len(counts_B), 0))
                scores_BW[counts_B == 0] = np.nan
                result = np.column_stack([scores_BW, counts_B.astype(np.float64)])
                found.append((batch_rows, result))
                if store is not None:
                    store.add(batch_rows, result)
                progress.advance(len(batch_rows))
            if store is not None:
                store.flush()
            return joined(found, width + 1)

        with together("scoring", accelerator):
            own = self.engine.attempt_once(body)
        if own is None:
            return None
        return spread([kept, *all_gather(own, accelerator)], width + 1, size), skipped


def refuse_spread(model: nn.Module, accelerator: Any, who: str) -> None:
    """Refuse a model whose parameters are spread over ranks in a way that gradients of rows are not read under.

    Raises:
        ConfigError: naming what spreads them.
    """
    kind = str(getattr(getattr(accelerator, "distributed_type", ""), "value", ""))
    if any(hasattr(parameter, "ds_id") for parameter in model.parameters()):
        kind = "ZeRO-3"
    elif kind != "MEGATRON_LM" and not (kind == "FSDP" and not is_spread(model)):
        return
    elif kind == "FSDP":
        kind = "FSDP1"  # of version 2 some parameter is spread
    raise ConfigError(f"{who} reads whole parameters, which {kind} spreads over ranks. Use FSDP2, ZeRO-2 or DDP.")
