"""Numbers of three tokens, worked out by hand, and what padding may not do to them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dataflex.errors import ComponentError
from dataflex.math.projection import SparseProjection
from dataflex.math.segments import unit_of_tokens
from dataflex.scoring.pooling import modality_tokens, pooled, pooled_samples, row_vectors, span_tokens, unit

TOKENS = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])
ALL = torch.ones(1, 3, dtype=torch.bool)
NAN = float("nan")


def padded(side: str, filled: float = 9.0) -> tuple[torch.Tensor, torch.Tensor]:
    pad = torch.full((1, 1, 2), filled)
    parts = [TOKENS, pad] if side == "right" else [pad, TOKENS]
    return torch.cat(parts, dim=1), torch.tensor([[1, 1, 1, 0] if side == "right" else [0, 1, 1, 1]]).bool()


@pytest.mark.parametrize(
    ("pooling", "expected", "brought_to_one"),
    [
        ("mean", (2 / 3, 2 / 3), (0.707107, 0.707107)),
        ("weighted_mean", (0.666667, 0.833333), (0.624695, 0.780869)),
        ("last", (1.0, 1.0), (0.707107, 0.707107)),
    ],
)
def test_three_tokens_are_pooled_as_on_paper(
    pooling: str, expected: tuple[float, float], brought_to_one: tuple[float, float]
) -> None:
    for hidden, mask in ((TOKENS, ALL), padded("right"), padded("left"), padded("right", NAN), padded("left", NAN)):
        found = pooled(hidden, mask, pooling)
        np.testing.assert_allclose(found[0], expected, atol=1e-6)
        np.testing.assert_allclose(unit(found)[0], brought_to_one, atol=1e-6)
        np.testing.assert_allclose(row_vectors([hidden], mask, pooling=pooling)[0], brought_to_one, atol=1e-6)


def test_the_released_weights_which_count_padding_give_something_else() -> None:
    hidden, _ = padded("right")
    weights = torch.arange(1.0, 5.0)  # the wrong version: every position weighs, the pad too
    wrong = (weights[:, None] * hidden[0]).sum(dim=0) / weights.sum()
    np.testing.assert_allclose(wrong, (4.0, 4.1), atol=1e-6)
    np.testing.assert_allclose(unit(wrong[None])[0], (0.698324, 0.715782), atol=1e-6)


@pytest.mark.parametrize("squash", ["tanh", "tanh_of_mean"])
def test_tanh_comes_before_pooling_or_after(squash: str) -> None:
    tokens = torch.tensor([[[0.0], [2.0]]])
    found = pooled(tokens, torch.ones(1, 2, dtype=torch.bool), "mean", squash)
    assert float(found) == pytest.approx({"tanh": 0.482014, "tanh_of_mean": 0.761594}[squash], abs=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "weighted_mean", "last"])
def test_a_row_of_which_no_token_counts_has_no_vector(pooling: str) -> None:
    mask = torch.tensor([[True, True, True], [False, False, False]])
    found = row_vectors([torch.cat([TOKENS, TOKENS])], mask, pooling=pooling)
    assert torch.isfinite(found[0]).all()
    assert torch.isnan(found[1]).all()


def test_a_vector_without_length_is_none() -> None:
    assert torch.isnan(row_vectors([torch.zeros(1, 3, 2)], ALL)).all()
    assert torch.isnan(unit(torch.full((1, 2), 1e-13))).all()


def test_several_layers_stand_side_by_side_each_with_its_share_of_the_length() -> None:
    found = row_vectors([TOKENS, 100 * TOKENS.flip(2)], ALL, pooling="mean")
    np.testing.assert_allclose(found[0], [0.5] * 4, atol=1e-6)


def test_pictures_and_text_are_two_blocks() -> None:
    config = SimpleNamespace(image_token_id=7)
    parts = modality_tokens(config, torch.tensor([[7, 3, 4]]))
    found = row_vectors([TOKENS], ALL, parts, pooling="mean")
    half = 0.5**0.5
    np.testing.assert_allclose(found[0], [half, 0, *(half * np.array([1, 2]) / 5**0.5)], atol=1e-6)
    text_alone = row_vectors([TOKENS], ALL, modality_tokens(config, torch.tensor([[5, 3, 4]])), pooling="mean")
    np.testing.assert_allclose(text_alone[0], [0, 0, 0.5, 0.5], atol=1e-6)


def test_a_model_that_does_not_say_what_pictures_are_is_refused() -> None:
    with pytest.raises(ComponentError, match="no image_token_id"):
        modality_tokens(SimpleNamespace(), torch.tensor([[7, 3, 4]]))


def test_spans_leave_out_padding_and_stop_at_so_many_tokens() -> None:
    batch = {
        "input_ids": torch.tensor([[5, 6, 7, 8, 0], [0, 5, 6, 7, 8]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 0], [0, 1, 1, 1, 1]]),
        "labels": torch.tensor([[-100, -100, 7, 8, 0], [-100, -100, -100, 7, 8]]),  # one pad carries a label
    }
    expected = {
        ("all", None): [[1, 1, 1, 1, 0], [0, 1, 1, 1, 1]],
        ("all", 3): [[1, 1, 1, 0, 0], [0, 1, 1, 1, 0]],
        ("prompt", None): [[1, 1, 0, 0, 0], [0, 1, 1, 0, 0]],
        ("answer", None): [[0, 0, 1, 1, 0], [0, 0, 0, 1, 1]],
        ("answer", 1): [[0, 0, 1, 0, 0], [0, 0, 0, 1, 0]],
    }
    for (span, tokens), mask in expected.items():
        assert span_tokens(batch, span, tokens).int().tolist() == mask


def test_packed_samples_that_keep_apart_are_real_tokens() -> None:
    sees = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 0]])  # the last one is padding
    batch = {"input_ids": torch.tensor([[5, 6, 0]])}
    additive = torch.where(sees.bool(), 0.0, torch.finfo(torch.float32).min)[None, None]
    for mask in (additive, sees.bool()[None, None]):
        assert span_tokens({**batch, "attention_mask": mask}, "all", None).tolist() == [[True, True, False]]


def test_a_projection_keeps_lengths_about() -> None:
    vectors = row_vectors([torch.randn(50, 3, 400, generator=torch.Generator().manual_seed(0))], ALL.expand(50, 3))
    narrow = row_vectors(
        [torch.randn(50, 3, 400, generator=torch.Generator().manual_seed(0))],
        ALL.expand(50, 3),
        projection=SparseProjection(200, seed=0),
    )
    assert narrow.shape == (50, 200)
    np.testing.assert_allclose(narrow @ narrow.T, vectors @ vectors.T, atol=0.4)
    assert float((narrow @ narrow.T - vectors @ vectors.T).abs().mean()) < 0.08


def test_samples_of_packed_rows_get_the_vectors_of_rows_of_their_own():
    tokens = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    samples = torch.tensor([[0, 0, 0, 1, 1, -1], [-1, 2, 2, -1, -1, 3]])
    found = pooled_samples(tokens, samples, 5, "weighted_mean")
    for sample, (row, begin, end) in enumerate([(0, 0, 3), (0, 3, 5), (1, 1, 3), (1, 5, 6)]):
        own = tokens[row : row + 1, begin:end]
        alone = pooled(own, torch.ones(1, end - begin, dtype=torch.bool), "weighted_mean")
        assert torch.allclose(found[sample], alone[0])
    assert found[4].isnan().all()  # one that has no token


def test_tokens_are_numbered_by_the_samples_that_count():
    segments, used = torch.tensor([[0, 0, 1], [0, 1, 1]]), torch.tensor([True, False, True, True])
    assert unit_of_tokens(segments, used, segments).tolist() == [[0, 0, -1], [1, 2, 2]]
    assert unit_of_tokens(None, torch.tensor([False, True]), segments).tolist() == [[-1] * 3, [0] * 3]
