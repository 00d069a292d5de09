"""What components need and a run does not offer, from the run file alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dataflex.config.stages import NO_STAGE
from dataflex.kinds import KINDS
from dataflex.run_checks import PAIRED_STAGES, needs_adam
from dataflex.runs import Problem, RunFacts
from dataflex.spec import ComponentSpec, Need

_STAGES_WITH_TOKEN_LOSS = ("pt", "sft")
_OTHER_LOSSES = ("use_dft_loss", "use_eaft_loss")


def needs(facts: RunFacts) -> Iterator[Problem]:
    """What components need and the run does not offer."""
    components = [part.component for part in facts.parts]
    for part in facts.parts:
        yield from needs_of(part.component, facts.arguments, facts.stage, facts.source, facts.origin, beside=components)
        if Need.OPTIMIZER_STATE in part.component.needs:
            yield from needs_adam(facts.seen_from(part))


def needs_of(
    spec: ComponentSpec,
    arguments: Mapping[str, Any],
    stage: str,
    source: str,
    origin: Callable[[str], str],
    *,
    beside: Sequence[ComponentSpec],
) -> Iterator[Problem]:
    """What one component needs, so far as it shows without its parameters.

    Args:
        spec: The component.
        arguments: LlamaFactory's own keys.
        stage: LlamaFactory's stage.
        source: The run file.
        origin: Where the value of a key came from.
        beside: Every component of the run.
    """
    title = f"{spec.kind} {spec.name!r}"
    if Need.EVAL_SET in spec.needs and not arguments.get("eval_dataset") and not arguments.get("val_size"):
        yield Problem(f"{title} needs an eval set and {source} names none.", "Set eval_dataset or val_size.")
    record = KINDS[spec.kind]
    if Need.DOMAINS in spec.needs and not any(KINDS[other.kind].mixes for other in beside):
        yield Problem(f"{title} needs domains, which only a run with a mixer has.", "Use dynamic_mix.")
    if Need.PREFERENCES in spec.needs and stage not in PAIRED_STAGES:
        yield Problem(
            f"{title} compares answers, and the rows of stage: {stage or 'none'} (from {origin('stage')}) are single "
            "ones.",
            f"Use stage: {', '.join(PAIRED_STAGES)}, or component_name: loss.",
        )
    if record.mixes and not arguments.get("dataset"):
        yield Problem(f"dataset is missing from {source}; its names are the domains.", "Name the data sets.")
    weighs = record.weighs or spec.gives_weights is True
    if weighs or spec.needs & {Need.DOMAIN_LOSSES, Need.SAMPLE_LOSSES}:
        yield from _loss_seam(title, arguments, stage, origin)
    if weighs:
        for key in _OTHER_LOSSES:
            if arguments.get(key):
                yield Problem(f"{title} weighs the cross entropy, which {key} replaces by another loss.", "Unset it.")


def _loss_seam(title: str, arguments: Mapping[str, Any], stage: str, origin: Callable[[str], str]) -> Iterator[Problem]:
    if stage not in (*_STAGES_WITH_TOKEN_LOSS, NO_STAGE):
        yield Problem(
            f"{title} reads the training loss of single tokens, and stage: {stage} (from {origin('stage')}) has "
            "another objective.",
            "Use stage: sft or pt.",
        )
    if arguments.get("use_asft_loss"):
        yield Problem(f"{title} cannot see the losses of use_asft_loss, which runs a forward of its own.", "Unset it.")
    if arguments.get("enable_liger_kernel"):
        yield Problem(
            f"{title} needs the model's logits, which enable_liger_kernel keeps to itself.",
            "Set enable_liger_kernel: false.",
        )
