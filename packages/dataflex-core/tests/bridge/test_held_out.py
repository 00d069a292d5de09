"""``val_size`` of a mix run: what is held out, and what every domain keeps."""

from __future__ import annotations

import itertools

import pytest
from datasets import Dataset

from dataflex.bridge.domains import _hold_out
from dataflex.errors import ConfigError

SIZES = [64, 1, 3]
NAMES = ("web", "one", "few")


def pool(sizes: list[int]) -> Dataset:
    return Dataset.from_dict({"input_ids": [[row] for row in range(sum(sizes))]})


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("val_size", [0.5, 0.9, 60])
def test_every_domain_keeps_a_row(seed: int, val_size: float, caplog: pytest.LogCaptureFixture) -> None:
    module, left = _hold_out(pool(SIZES), NAMES, SIZES, val_size, seed)
    trained = [row for (row,) in module["train_dataset"]["input_ids"]]
    held = [row for (row,) in module["eval_dataset"]["input_ids"]]
    assert sorted(trained + held) == list(range(68)) and trained == sorted(trained)
    bounds = (0, 64, 65, 68)
    assert left == [sum(low <= row < high for row in trained) for low, high in itertools.pairwise(bounds)]
    assert min(left) >= 1
    stock = Dataset.from_dict({"row": range(68)}).train_test_split(
        test_size=int(val_size) if val_size > 1 else val_size, seed=seed
    )
    given_back = set(stock["test"]["row"]) - set(held)
    assert set(held) <= set(stock["test"]["row"]) and given_back <= {0, 64, 65}
    assert ("val_size" in caplog.text) is bool(given_back)
    if 64 in given_back:
        assert "every row of" in caplog.text and "one (1)" in caplog.text


def test_a_pool_that_cannot_spare_a_row_is_told_which_key_asks_for_one() -> None:
    sizes = [1, 1]
    with pytest.raises(ConfigError, match=r"val_size: 0\.5 of 2 rows leaves no eval set"):
        _hold_out(pool(sizes), ("a", "b"), sizes, 0.5, 0)
