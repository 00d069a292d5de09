"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from dataflex import ComponentSpec, Kind, Need, Problem, hookimpl
from dataflex.paths import user_path
from dataflex.runs import RunFacts

TARGET = "dataflex_mixers_doremi.mixer:DoremiMixer"
MODEL_FILES = ("config.json", "adapter_config.json")
"""A folder that holds one of these is a model."""


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The mixer ``doremi``."""
    return [
        ComponentSpec(
            kind=Kind.MIXER,
            name="doremi",
            target=TARGET,
            params="dataflex_mixers_doremi.params:DoremiParams",
            api=1,
            summary="Weigh the domains by how far the model lags behind a reference (DoReMi).",
            needs=frozenset({Need.DOMAINS, Need.DOMAIN_LOSSES, Need.REFERENCE_MODEL}),
            paper="Xie et al. 2023, arXiv 2305.10429",
        )
    ]


@hookimpl
def dataflex_check_run(run: RunFacts) -> list[Problem]:
    """Look at the reference, as far as that goes before anything loads."""
    return list(_problems(run)) if run.component.target == TARGET else []


def _problems(run: RunFacts) -> Iterator[Problem]:
    beside = [part.component for part in run.parts if part.component.kind is not Kind.MIXER]
    changing = [other for other in beside if other.kind in (Kind.SELECTOR, Kind.WEIGHTER)]
    if changing and run.params.get("mode") == "proxy":
        other, given_by = changing[0], run.origin("component_params.mode")
        yield Problem(
            f"mode: proxy of mixer 'doremi' (from {given_by}) finds weights of the mixture as it is; beside "
            f"{other.kind} {other.name!r} they would be those of another objective.",
            "Set mode: online, or find the weights in a run of their own."
            if other.kind is Kind.SELECTOR
            else "Find the weights in a run of their own.",
        )
    given = str(run.params["reference"])
    folder, origin = user_path(given), run.origin("component_params.reference")
    if folder.is_dir():
        if not any((folder / name).is_file() for name in MODEL_FILES):
            yield Problem(
                f"reference: {given} of mixer 'doremi' (from {origin}) holds no model: there is no "
                f"{' and no '.join(MODEL_FILES)} in it.",
                "Name the output_dir of a finished training run, or one of its checkpoints.",
            )
    elif given.startswith(("/", "./", "../", "~")) or given.count("/") > 1:
        yield Problem(
            f"reference: {given} of mixer 'doremi' (from {origin}) does not exist.",
            "Train the reference first: train_type: static_mix, or `dataflex doremi` for all phases.",
        )
    if run.arguments.get("label_smoothing_factor"):
        yield Problem(
            f"label_smoothing_factor (from {run.origin('label_smoothing_factor')}) changes the losses that mixer "
            "'doremi' weighs.",
            "Set it to 0.",
        )
