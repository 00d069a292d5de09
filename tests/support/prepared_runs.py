"""Runs as ``prepare`` leaves them, and a mixer's context, made without a run file and without a pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dataflex.components.mix_context import MixContext, MixtureView
from dataflex.config.bind import BoundParams
from dataflex.config.mixture import MixtureSettings
from dataflex.config.parts import Part
from dataflex.config.prepared import PreparedRun
from dataflex.plugins.catalog import CatalogEntry
from dataflex.plugins.manager import PluginManager
from dataflex.runs import PartFacts, RunFacts, Steps, TrainType
from dataflex.spec import API, ComponentSpec, Kind

SELECTOR = ComponentSpec(kind=Kind.SELECTOR, name="mine", target="m:M", api=API)
"""A selector that nobody loads."""


def run_facts(first: ComponentSpec = SELECTOR, *others: ComponentSpec, **changed: Any) -> RunFacts:
    """What plugins are told about a run of some components.

    Args:
        first: Its first component.
        others: Those after it.
        changed: Other facts than those of a small selecting run.
    """
    beside = tuple(PartFacts(component=other, dist="d", version="1", params={}) for other in others)
    facts = RunFacts(
        train_type=TrainType.SELECT,
        stage="sft",
        component=first,
        dist="d",
        version="1",
        params={},
        steps=Steps(warmup=4, update=3, times=2),
        output_dir=Path("out"),
        arguments={},
        source="run.yaml",
        others=beside,
    )
    return replace(facts, **changed)


def prepared_run(facts: RunFacts | None = None, *, mixture: MixtureSettings | None = None) -> PreparedRun:
    """A run that has passed every check, with its components' parameters as the facts give them; no plugin is loaded.

    Args:
        facts: Of the run; a selecting one by default.
        mixture: How it samples its domains.
    """
    facts = facts or run_facts()
    parts = [
        Part(
            CatalogEntry(spec=part.component, dist=part.dist, version=part.version),
            BoundParams(params=None, values=part.params, run_values={}, sources={}),
            part.every,
            part.keep,
        )
        for part in facts.parts
    ]
    return PreparedRun(facts=facts, parts=tuple(parts), plugins=PluginManager([]), mixture=mixture)


def no_batch(rows: Sequence[Any]) -> Mapping[str, Any]:
    """A collator for a pool of which nobody makes batches."""
    raise AssertionError(f"a batch of {len(rows)} rows was asked for")


def mix_context(proportions: Mapping[str, float], **facts: Any) -> MixContext:
    """What a mixer of some domains of one row each is told.

    Args:
        proportions: In force, by domain.
        facts: Other attributes of the context.
    """
    view = MixtureView(list(proportions), [1] * len(proportions), list(proportions.values()))
    return MixContext(dataset=range(len(proportions)), data_collator=no_batch, mixture=view, **facts)
