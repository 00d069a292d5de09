from __future__ import annotations

import pytest
import torch

from dataflex.math.projection import SparseProjection


def project(
    values: torch.Tensor, width: int = 512, *, seed: int = 0, part: str = "a", nonzeros: int = 4
) -> torch.Tensor:
    projection = SparseProjection(width, seed, nonzeros)
    result = torch.zeros(projection.width, len(values))
    projection.add_(result, part, values)
    return result.T


def test_one_coordinate_goes_to_its_places_with_equal_weight() -> None:
    (image,) = project(torch.tensor([[0.0, 2.0, 0.0]]))
    places = image.nonzero().flatten()
    assert len(places) == 4
    assert (places // 128).tolist() == [0, 1, 2, 3]  # one in each block
    assert image[places].abs().tolist() == [1.0] * 4  # 2 / sqrt(4)


def test_inner_products_are_kept_on_average_and_scatter_by_one_over_the_root_of_the_width() -> None:
    draw = torch.Generator().manual_seed(0)
    left, right = (torch.nn.functional.normalize(torch.randn(1, 3000, generator=draw)) for _ in range(2))
    right = torch.nn.functional.normalize(right + left)
    exact = float((left * right).sum())
    found = torch.tensor([float((project(left, seed=s) * project(right, seed=s)).sum()) for s in range(200)])
    # Variance of a Johnson-Lindenstrauss inner product of unit vectors: (1 + cos^2) / width.
    spread = ((1 + exact**2) / 512) ** 0.5
    assert abs(float(found.mean()) - exact) < 4 * spread / 200**0.5
    assert float(found.std()) == pytest.approx(spread, rel=0.25)


def test_a_projection_is_linear_and_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(3, 1000, generator=torch.Generator().manual_seed(1))
    whole = project(values)
    monkeypatch.setattr("dataflex.math.projection._CHUNK", 64)
    torch.testing.assert_close(project(values), whole)
    torch.testing.assert_close(project(2 * values), 2 * whole)


def test_another_seed_or_part_is_another_projection() -> None:
    values = torch.ones(1, 50)
    usual = project(values)
    assert torch.equal(project(values), usual)
    assert not torch.equal(project(values, seed=1), usual)
    assert not torch.equal(project(values, part="b"), usual)


def test_the_width_is_rounded_up_to_whole_blocks() -> None:
    assert SparseProjection(10, 0, 4).width == 12
