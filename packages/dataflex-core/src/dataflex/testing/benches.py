"""Which bench a component is examined on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dataflex.spec import Kind
from dataflex.testing.bench import Bench
from dataflex.testing.mixer_bench import MixerBench
from dataflex.testing.selector_bench import SelectorBench
from dataflex.testing.subject import Subject
from dataflex.testing.weighter_bench import WeighterBench

_BENCHES: dict[Kind, type[Bench]] = {Kind.SELECTOR: SelectorBench, Kind.MIXER: MixerBench, Kind.WEIGHTER: WeighterBench}


def make_bench(subject: Subject, folder: Path, accelerator: Any = None, cache_dir: Path | None = None) -> Bench:
    """The bench for a component's kind.

    Args:
        subject: The component.
        folder: An empty folder for one check.
        accelerator: That of a rank; made when needed if not given.
        cache_dir: The component's work directory; in ``folder`` if not given.
    """
    kind = subject.kind or subject.find().spec.kind
    return _BENCHES[kind](subject, folder, accelerator, cache_dir)
