"""The hooks a plugin may implement.

Mark an implementation with ``dataflex.hookimpl``; leave out arguments you do not need, as pluggy allows.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from dataflex.decisions import Decision
from dataflex.runs import Problem, RunFacts, RunSummary
from dataflex.spec import ComponentSpec

PROJECT = "dataflex"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def dataflex_components() -> Iterable[ComponentSpec]:
    """Return the components this plugin provides. Called to list them: must not import torch.

    Example:
        >>> @hookimpl
        ... def dataflex_components():
        ...     return [ComponentSpec(kind=Kind.SELECTOR, name="mine", target="mine.selector:Mine", api=1)]
    """
    raise NotImplementedError


@hookspec(warn_on_impl_args={"plan": DeprecationWarning("dataflex_check_run: `plan` is called `run` from 0.2 on")})
def dataflex_check_run(run: RunFacts, plan: RunFacts) -> Iterable[Problem]:
    """Return reasons why this run cannot work; any of them stops it before a model loads.

    Called for every run, whichever components it uses: look at ``run.parts`` first. ``plan`` is the same by its name of
    before 0.2.

    Example:
        >>> @hookimpl
        ... def dataflex_check_run(run):
        ...     mine = any(part.component.name == "mine" for part in run.parts)
        ...     if mine and run.stage == "dpo":
        ...         return [Problem("mine scores single answers; stage dpo has pairs.", "Use stage: sft.")]
        ...     return []
    """
    raise NotImplementedError


@hookspec
def dataflex_decision(decision: Decision) -> None:
    """Observe a decision, on rank 0, after it was recorded. An exception is logged and changes nothing.

    Example:
        >>> @hookimpl
        ... def dataflex_decision(decision):
        ...     send(decision.step, decision.metrics)
    """


@hookspec
def dataflex_run_finished(summary: RunSummary) -> None:
    """Observe the end of a run, on rank 0. Not called when the run failed.

    Example:
        >>> @hookimpl
        ... def dataflex_run_finished(summary):
        ...     print(summary.steps, summary.metrics)
    """
