"""What messages show of values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dataflex.errors import shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([np.float64(0.5), np.int64(3)], "[0.5, 3]"),
        ((np.bool_(True), None), "[true, null]"),
        (np.array([0.25, np.nan]), "[0.25, nan]"),
        (torch.tensor([1.5], requires_grad=True), "[1.5]"),
        ({"web": np.float32(0.5), "code": [torch.tensor(2)]}, "{web: 0.5, code: [2]}"),
        (Path("runs/x"), "runs/x"),
        ("no", "'no'"),
        (1e-5, "1e-05"),
        ({"a": object()}, "{a: an object of object}"),
    ],
)
def test_a_value_is_shown_without_the_types_that_hold_it(value, text):
    assert shown(value) == text
