"""DoReMi's maths: the numbers were worked on paper, or come from the paper's own formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prepared_runs import mix_context

from dataflex.math.domain_weights import token_weights
from dataflex_mixers_doremi.group_dro import GroupDro, excess, official_weights, update
from dataflex_mixers_doremi.mixer import warn_of_absent_domains

HALF = np.array([0.5, 0.5])


def clipped(domains: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    sums = np.array([sum(max(value, 0) for value in domain) for domain in domains])
    return sums, np.array([len(domain) for domain in domains])


def test_excess_is_clipped_at_each_token_and_divided_by_the_tokens_of_the_domain() -> None:
    sums, tokens = clipped([[1, -5, 2, 0], [0.5, -0.5]])
    assert excess(sums, tokens, np.zeros(2)).tolist() == [0.75, 0.25]


def test_the_first_step_of_the_worked_example() -> None:
    # Clipping after the mean would give [.5, .5], a mean of means [.5621, .4379], no clip [.3777, .6223].
    alpha = update(HALF, np.array([0.75, 0.25]), 1.0, 1e-3)
    assert alpha == pytest.approx([0.622337, 0.377663], abs=1e-6)


def test_a_domain_that_is_absent_keeps_its_last_excess() -> None:
    dro = GroupDro.begin(2, first_excess=3.0)
    moves = {"eta": 1.0, "smoothing": 1e-3, "decay": 0.99}
    dro.step(np.array([3.0, 0.5]), np.array([4, 2]), **moves)
    dro.step(np.array([0.6, 0.0]), np.array([2, 0]), **moves)
    assert dro.excess.tolist() == pytest.approx([0.3, 0.25])
    # Taken for zero, the absent domain would give [.689673, .310327].
    assert dro.alpha == pytest.approx([0.633881, 0.366119], abs=1e-6)
    assert dro.average == pytest.approx([(0.622337 + 0.633881) / 2, (0.377663 + 0.366119) / 2], abs=1e-6)


def test_the_average_from_the_start_counts_the_uniform_weights_as_one_step_more() -> None:
    # On paper, with alpha_1 = [.622337, .377663] and alpha_2 = [.633881, .366119] of the test above:
    # (.5 + .622337 + .633881) / 3. The released code's running mean, whose counter begins at 1, gives the same.
    dro = GroupDro.begin(2, first_excess=3.0)
    assert dro.average_from_start.tolist() == dro.average.tolist() == [0.5, 0.5]
    running, counter = np.array([0.5, 0.5]), 1
    for sums, tokens in ((np.array([3.0, 0.5]), np.array([4, 2])), (np.array([0.6, 0.0]), np.array([2, 0]))):
        dro.step(sums, tokens, eta=1.0, smoothing=1e-3, decay=0.99)
        counter += 1
        running = (running * (counter - 1) + dro.alpha) / counter
    assert dro.average_from_start == pytest.approx([0.585406, 0.414594], abs=1e-6)
    assert dro.average_from_start == pytest.approx(running, abs=1e-12)
    assert dro.average == pytest.approx([0.628109, 0.371891], abs=1e-6)  # what counts from the first step on


@pytest.mark.parametrize(
    ("samples", "shares", "named"),
    [
        (2, {"web": 1 / 3, "code": 1 / 3, "chat": 1 / 3}, ["web", "code", "chat"]),
        (3, {"web": 1 / 3, "code": 1 / 3, "chat": 1 / 3}, []),
        (8, {"web": 0.9, "code": 0.1}, ["code"]),
        (8, {"web": 1.0, "code": 0.0}, []),  # nobody asked for code
    ],
)
def test_steps_that_cannot_hold_every_domain_are_announced(
    samples: int, shares: dict[str, float], named: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_absent_domains(mix_context(shares, global_batch=samples))
    assert len(caplog.messages) == bool(named)
    if named:
        assert f"a step holds {samples} samples, so some steps have none of {', '.join(named)}." in caplog.text


def test_a_domain_that_was_never_seen_counts_with_the_loss_of_a_uniform_guess() -> None:
    dro = GroupDro.begin(2, first_excess=np.log(100))
    dro.step(np.array([0.0, 0.0]), np.array([5, 0]), eta=1.0, smoothing=0.0, decay=0.0)
    assert dro.alpha == pytest.approx([1 / 101, 100 / 101])


def test_paper_and_official_objective_differ_as_worked_on_paper() -> None:
    alpha, tokens = np.array([0.7, 0.3]), np.array([3, 1])
    losses, domain_of_token = np.array([2, 2, 2, 4]), np.array([0, 0, 0, 1])

    def trained(weights: np.ndarray) -> float:
        return float((token_weights(weights, tokens)[domain_of_token] * losses).sum() / 4)

    assert trained(alpha) == pytest.approx(2.60)
    assert trained(official_weights(alpha, HALF, tokens)) == pytest.approx(2.25)


def test_sampling_by_the_weights_themselves_gives_the_plain_loss() -> None:
    alpha, tokens = np.array([0.7, 0.3]), np.array([3, 1])
    assert token_weights(official_weights(alpha, alpha, tokens), tokens) == pytest.approx([1, 1])


def test_a_domain_without_a_share_weighs_as_at_the_least_share_there_is() -> None:
    given = official_weights(np.array([0.6, 0.4]), np.array([1.0, 0.0]), np.array([3, 1]))
    assert given == pytest.approx([1.8 / 2.2, 0.4 / 2.2])


def test_a_domain_without_tokens_has_no_token_weight() -> None:
    assert token_weights(np.array([0.7, 0.3]), np.array([4, 0])).tolist() == [0.7, 0.0]


def test_without_smoothing_a_weight_below_all_numbers_comes_back() -> None:
    # alpha is proportional to exp(sum of excess): after [800, 0] it is [1, e^-800], which is 0 in fp64; after [0, 800]
    # both have 800, so half each; after [0, 1] they are as 1 to e.
    dro = GroupDro.begin(2, first_excess=0.0)
    moves = {"eta": 1.0, "smoothing": 0.0, "decay": 0.0}
    tokens = np.array([1, 1])
    dro.step(np.array([800.0, 0.0]), tokens, **moves)
    assert dro.alpha.tolist() == [1.0, 0.0]
    dro = GroupDro.from_state(dro.state_dict())
    dro.step(np.array([0.0, 800.0]), tokens, **moves)
    assert dro.alpha == pytest.approx([0.5, 0.5])
    dro.step(np.array([0.0, 1.0]), tokens, **moves)
    assert dro.alpha == pytest.approx([1 / (1 + np.e), np.e / (1 + np.e)])


def test_a_weight_of_zero_in_an_old_checkpoint_gives_no_weights_that_are_not_numbers() -> None:
    state = GroupDro.begin(2, first_excess=0.0).state_dict()
    old = {name: value for name, value in state.items() if name != "logs"} | {"alpha": np.array([1.0, 0.0])}
    dro = GroupDro.from_state(old)
    dro.step(np.array([0.0, 800.0]), np.array([1, 1]), eta=1.0, smoothing=0.0, decay=0.0)
    assert dro.alpha.tolist() == [1.0, 0.0]
    assert update(np.array([1.0, 0.0]), np.array([0.0, 800.0]), 1.0, 0.0).tolist() == [1.0, 0.0]
    assert update(np.array([1.0, 0.0]), np.array([0.0, 800.0]), 1.0, 0.1) == pytest.approx([0.95, 0.05])


losses = st.lists(st.floats(0, 30), min_size=2, max_size=6)


@given(losses, st.floats(0, 3), st.floats(0, 1), st.floats(-10, 10))
def test_weights_are_a_distribution_above_their_floor_and_blind_to_a_common_offset(
    found: list[float], eta: float, smoothing: float, offset: float
) -> None:
    before = np.full(len(found), 1 / len(found))
    alpha = update(before, np.array(found), eta, smoothing)
    assert alpha.sum() == pytest.approx(1)
    assert (alpha >= smoothing / len(found) - 1e-12).all()
    assert update(before, np.array(found) + offset, eta, smoothing) == pytest.approx(alpha, abs=1e-9)


@given(losses)
def test_without_a_step_size_weights_stay_uniform(found: list[float]) -> None:
    uniform = np.full(len(found), 1 / len(found))
    assert update(uniform, np.array(found), 0.0, 1e-3) == pytest.approx(uniform)


def test_a_huge_loss_overflows_nothing() -> None:
    assert update(HALF, np.array([5000.0, 0.0]), 1.0, 1e-3) == pytest.approx([0.9995, 0.0005])


def test_a_state_comes_back_as_it_was() -> None:
    dro = GroupDro.begin(2, 1.0)
    dro.step(np.array([3.0, 0.5]), np.array([4, 2]), eta=1.0, smoothing=1e-3, decay=0.5)
    again = GroupDro.from_state(dro.state_dict())
    assert vars(again).keys() == vars(dro).keys()
    assert all(np.array_equal(vars(again)[name], value) for name, value in vars(dro).items())
