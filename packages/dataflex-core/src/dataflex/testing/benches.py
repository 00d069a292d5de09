"""Which bench a component is examined on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dataflex.kinds import KINDS, load
from dataflex.testing.bench import Bench
from dataflex.testing.subject import Subject


def make_bench(subject: Subject, folder: Path, accelerator: Any = None, cache_dir: Path | None = None) -> Bench:
    """The bench for a component's kind.

    Args:
        subject: The component.
        folder: An empty folder for one check.
        accelerator: That of a rank; made when needed if not given.
        cache_dir: The component's work directory; in ``folder`` if not given.
    """
    kind = subject.kind or subject.find().spec.kind
    bench: type[Bench] = load(KINDS[kind].bench)
    return bench(subject, folder, accelerator, cache_dir)
