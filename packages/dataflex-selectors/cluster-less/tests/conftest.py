import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # cluster_cases, in spawned processes too


@pytest.fixture
def fresh_accelerate() -> Iterator[None]:
    """accelerate keeps one state for the process: forget what other tests set up, and what this one does."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
