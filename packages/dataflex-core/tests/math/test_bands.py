from __future__ import annotations

import numpy as np
import pytest

from dataflex.math.bands import in_band


def test_bands_lie_between_quantiles_of_what_is_finite() -> None:
    """Quantiles .25 and .75 of 1 to 5 are 2 and 4: the low band takes its border, the middle one the upper."""
    values = [3.0, np.nan, 1.0, 5.0, np.inf, 2.0, 4.0]
    bands = {band: in_band(values, (0.25, 0.75), band) for band in ("low", "medium", "high")}  # type: ignore[arg-type]
    assert {band: np.asarray(values)[inside].tolist() for band, inside in bands.items()} == {
        "low": [1.0, 2.0],
        "medium": [3.0, 4.0],
        "high": [5.0],
    }


@pytest.mark.parametrize("band", ["low", "medium", "high"])
def test_an_increasing_function_has_the_same_bands(band: str) -> None:
    losses = np.random.default_rng(0).gamma(2.0, size=200)
    assert np.array_equal(in_band(losses, (0.33, 0.66), band), in_band(np.exp(losses), (0.33, 0.66), band))  # type: ignore[arg-type]
