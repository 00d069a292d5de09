"""What tests under DeepSpeed have in common."""

from __future__ import annotations

import importlib.util

import pytest

NEEDS_DEEPSPEED = [
    pytest.mark.slow,
    pytest.mark.xdist_group("deepspeed"),
    pytest.mark.skipif(
        importlib.util.find_spec("deepspeed") is None,
        reason="deepspeed is not installed: nox -s deepspeed installs it and runs this",
    ),
]
