"""What the libraries keep for the whole process, put back after a check."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from dataflex.rng import rng_scope


@contextlib.contextmanager
def own_process_state() -> Iterator[None]:
    """Leave global generators and accelerate's state as they were.

    Accelerate keeps one state for the process. One that is in use already is shared; otherwise it is forgotten
    afterwards, so that whoever comes next can set up another.
    """
    from accelerate.state import AcceleratorState, PartialState

    in_use = bool(PartialState._shared_state)
    try:
        with rng_scope():
            yield
    finally:
        if not in_use:
            AcceleratorState._reset_state(reset_partial_state=True)
