import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # embedding_cases, in spawned processes too
from collections.abc import Iterator

import pytest


@pytest.fixture
def fresh_accelerate() -> Iterator[None]:
    """accelerate keeps one state for the process: forget what other tests set up, and what this one does."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
