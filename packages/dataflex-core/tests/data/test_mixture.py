"""A mixture keeps its proportions, repeats no row too soon, and goes on from a state as if nothing had happened."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflex.errors import ConfigError
from dataflex.mixing.proportions import in_millionths, stratified
from dataflex.mixing.sampler import MixtureSampler, MixtureState, OnExhausted, Unit, permute_global_batches


def names(domains: int) -> list[str]:
    return [f"domain-{k}" for k in range(domains)]


def sampler(sizes, *, seed: int = 1, **more) -> MixtureSampler:
    return MixtureSampler(sizes, more.pop("names", names(len(sizes))), seed=seed, **more)


def deviations(domains: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Count minus target of each domain after each draw; shape ``[draws, K]``."""
    counts = np.cumsum(domains[:, None] == np.arange(targets.shape[1]), axis=0)
    return counts - np.cumsum(targets, axis=0)


def plain_greedy(parts: np.ndarray, draws: int, deficits: list[Fraction] | None = None) -> list[int]:
    """The rule word for word, in exact fractions."""
    shares = [Fraction(int(part), 10**6) for part in parts]
    deficits = deficits or [Fraction(0)] * len(shares)
    chosen = []
    for _ in range(draws):
        deficits = [owed + share for owed, share in zip(deficits, shares, strict=True)]
        domain = max(range(len(shares)), key=lambda k: (deficits[k], -k))
        deficits[domain] -= 1
        chosen.append(domain)
    return chosen


@pytest.mark.parametrize("domains", [2, 3, 10, 40, 100])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("concentration", [0.3, 1.0, 10.0])
def test_fixed_proportions_are_met_within_one_sample_at_every_prefix(domains, seed, concentration):
    p = np.random.default_rng([seed, domains]).dirichlet(np.full(domains, concentration))
    mixture = sampler([50] * domains)
    drawn = mixture.domain_of(mixture.draw(p, 3000))
    assert np.abs(deviations(drawn, np.tile(p, (3000, 1)))).max() <= 1.1


def test_half_and_half_alternates():
    mixture = sampler([100, 100])
    assert mixture.domain_of(mixture.draw([0.5, 0.5], 6)).tolist() == [0, 1, 0, 1, 0, 1]


def test_the_order_worked_out_by_hand():
    # .5 .3 .2 | 0 .6 .4 | .5 -.1 .6 | 1 .2 -.2 | .5 .5 0 | 0 .8 .2 | .5 .1 .4 | 0 .4 .6 | .5 .7 -.2 | 1 0 0
    mixture = sampler([100] * 3)
    assert mixture.domain_of(mixture.draw([0.5, 0.3, 0.2], 10)).tolist() == [0, 1, 2, 0, 0, 1, 0, 2, 1, 0]


@pytest.mark.parametrize("seed", range(3))
def test_the_domains_are_those_of_the_rule_word_for_word(seed):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(7))
    mixture = sampler([50] * 7)
    assert mixture.domain_of(mixture.draw(p, 500)).tolist() == plain_greedy(in_millionths(p), 500)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_under_arbitrary_remixes_no_domain_strays_beyond_the_harmonic_number(data):
    domains = data.draw(st.integers(2, 12))
    mixture = sampler([7] * domains)
    drawn, targets = [], []
    for _ in range(data.draw(st.integers(1, 40))):
        support = data.draw(st.sets(st.integers(0, domains - 1), min_size=1))
        p = np.zeros(domains)
        p[sorted(support)] = data.draw(st.lists(st.integers(1, 9), min_size=len(support), max_size=len(support)))
        count = data.draw(st.integers(1, 3 * domains))
        drawn.append(mixture.domain_of(mixture.draw(p / p.sum(), count)))
        targets.append(np.tile(p / p.sum(), (count, 1)))
    harmonic = sum(1 / k for k in range(1, domains + 1))
    assert np.abs(deviations(np.concatenate(drawn), np.concatenate(targets))).max() <= harmonic


def test_an_adversary_who_drops_every_domain_once_served_stays_within_the_harmonic_number():
    domains = 100
    mixture, rest = sampler([50] * domains), set(range(domains))
    drawn, targets = [], []
    while rest:
        p = np.zeros(domains)
        p[sorted(rest)] = 1 / len(rest)
        drawn.append(mixture.domain_of(mixture.draw(p, 1)))
        targets.append(p[None])
        rest.discard(int(drawn[-1][0]))
    largest = np.abs(deviations(np.concatenate(drawn), np.concatenate(targets))).max()
    assert 3 < largest <= sum(1 / k for k in range(1, domains + 1))


def test_what_a_domain_is_owed_is_carried_over_a_remix():
    mixture = sampler([100, 100, 100])
    for _ in range(300):  # each call alone would give its single sample to the first domain
        mixture.draw([0.4, 0.3, 0.3], 1)
    assert mixture.counts.tolist() == [120, 90, 90]


def test_a_domain_of_proportion_zero_is_only_drawn_for_what_it_was_owed():
    mixture = sampler([10, 10, 10])
    mixture.draw([0.0, 0.9, 0.1], 1000)
    assert mixture.counts[0] == 0
    mixture = sampler([10, 10, 10])
    mixture.draw([0.4, 0.3, 0.3], 2)
    mixture.draw([0.5, 0.5, 0.0], 1000)
    assert mixture.counts[2] == 1  # 0.6 of a sample from the first two draws


@settings(max_examples=200, deadline=None)
@given(data=st.data(), domains=st.integers(2, 4))
def test_no_limit_is_exceeded_whatever_the_proportions_become(data, domains):
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=domains, max_size=domains))
    limited = data.draw(st.sets(st.integers(0, domains - 1), min_size=1))
    mixture = sampler(sizes, max_epochs={f"domain-{k}": 1 for k in limited})
    for _ in range(data.draw(st.integers(1, 6))):
        weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=domains, max_size=domains)), float)
        if not weights.any():
            continue
        try:
            mixture.draw(weights / weights.sum(), data.draw(st.integers(1, 5)))
        except ConfigError:
            continue
        assert all(mixture.counts[k] <= sizes[k] for k in limited)


def test_a_limit_beyond_every_number_is_no_limit():
    mixture = sampler([10, 10], max_epochs=1e30)
    assert len(mixture.draw([0.5, 0.5], 100)) == 100


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=6),
    pieces=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    seed=st.integers(0, 5),
)
def test_no_row_repeats_before_its_domain_is_exhausted(sizes, pieces, seed):
    mixture = sampler(sizes, seed=seed)
    rng = np.random.default_rng(seed)
    rows = np.concatenate([mixture.draw(rng.dirichlet(np.ones(len(sizes))), piece) for piece in pieces])
    for domain, size in enumerate(sizes):
        offset = sum(sizes[:domain])
        own = rows[(rows >= offset) & (rows < offset + size)]
        for start in range(0, len(own), size):
            one_pass = own[start : start + size].tolist()
            assert len(set(one_pass)) == len(one_pass)
        assert mixture.counts[domain] == len(own)
        assert (mixture.state().epochs[domain], mixture.state().cursors[domain]) == divmod(len(own), size)


def test_each_pass_and_each_seed_has_an_order_of_its_own():
    first, second = sampler([30]).draw([1.0], 60).reshape(2, 30)
    assert sorted(first) == sorted(second) == list(range(30))
    assert first.tolist() != second.tolist()
    assert first.tolist() != sampler([30], seed=2).draw([1.0], 30).tolist()


def rows_by_name(mixture: MixtureSampler, rows: np.ndarray) -> dict[str, list[int]]:
    domains = mixture.domain_of(rows)
    return {name: (rows[domains == k] - mixture.offsets[k]).tolist() for k, name in enumerate(mixture.names)}


def test_the_order_within_a_domain_depends_on_its_name_and_not_on_the_other_domains():
    alone = sampler([20], names=["web"])
    among = sampler([7, 20, 5], names=["code", "web", "chat"])
    read = rows_by_name(among, among.draw([0.1, 0.8, 0.1], 100))["web"]
    assert read[:60] == alone.draw([1.0], 60).tolist()


def test_listing_the_domains_in_another_order_draws_the_same_rows_of_each():
    one = sampler([9, 20], names=["code", "web"])
    two = sampler([20, 9], names=["web", "code"])
    p = {"web": 0.61, "code": 0.39}
    assert rows_by_name(one, one.draw(p, 300)) == rows_by_name(two, two.draw(p, 300))


@settings(max_examples=40, deadline=None)
@given(
    cut=st.integers(0, 120),
    unit=st.sampled_from(Unit),
    max_epochs=st.sampled_from([None, 6.0, {"domain-1": 0.5}]),
    seed=st.integers(0, 3),
)
def test_drawing_after_a_restore_equals_drawing_without_a_break(cut, unit, max_epochs, seed):
    rng = np.random.default_rng(seed)
    sizes = [11, 8, 23]
    settings = {"unit": unit, "lengths": rng.integers(0, 9, 42) + (np.arange(42) % 2), "max_epochs": max_epochs}
    remixes = [rng.dirichlet(np.ones(3)) for _ in range(3)]
    whole = sampler(sizes, **settings)
    rows = np.concatenate([whole.draw(p, 40) for p in remixes])
    first, second = sampler(sizes, **settings), sampler(sizes, **settings)
    before = [first.draw(p, min(max(cut - 40 * k, 0), 40)) for k, p in enumerate(remixes) if cut > 40 * k]
    second.restore(MixtureState.from_json(json.loads(json.dumps(asdict(first.state())))))
    after = [second.draw(p, 40 - min(max(cut - 40 * k, 0), 40)) for k, p in enumerate(remixes)]
    assert np.concatenate([*before, *after]).tolist() == rows.tolist()
    assert replace(second.state(), proportions=()) == replace(whole.state(), proportions=())


def test_the_state_is_small_json_and_says_where_the_mixture_stands():
    mixture = sampler([1000, 2000], names=["web", "code"])
    mixture.draw([0.75, 0.25], 4002)
    record = json.loads(json.dumps(asdict(mixture.state())))
    assert record["position"] == 4002
    assert record["counts"] == [3002, 1000] and record["epochs"] == [3, 0] and record["cursors"] == [2, 1000]
    assert record["deficits"] == [-500_000, 500_000]  # millionths of a sample
    assert record["proportions"] == [0.75, 0.25]
    assert len(json.dumps(record)) < 500


def test_a_state_of_another_mixture_is_refused_and_the_difference_named():
    state = sampler([10, 20], names=["web", "code"]).state()
    with pytest.raises(ConfigError, match="checkpoint's domains are web, code, this run's are code, web"):
        sampler([20, 10], names=["code", "web"]).restore(state)
    with pytest.raises(ConfigError, match="counts samples, this run's counts tokens"):
        sampler([10, 20], names=["web", "code"], unit=Unit.TOKENS, lengths=np.ones(30)).restore(state)
    drawn = sampler([10, 20], names=["web", "code"])
    drawn.draw([0.5, 0.5], 30)
    with pytest.raises(ConfigError, match=r"rows of the domains are not what they were .*web: 10 then, 11 now"):
        sampler([11, 20], names=["web", "code"]).restore(drawn.state())
    with pytest.raises(ConfigError, match="lacks deficits"):
        MixtureState.from_json({k: v for k, v in asdict(state).items() if k != "deficits"})


@pytest.mark.parametrize("draws", [999_999, 1_000_001, 2_345_678])
def test_a_long_schedule_is_the_one_made_in_pieces(draws):
    p, pieces = [0.6123, 0.2877, 0.1], 7
    whole, cut = sampler([40, 50, 60]), sampler([40, 50, 60])
    whole.draw([0.2, 0.5, 0.3], 13), cut.draw([0.2, 0.5, 0.3], 13)
    rows = whole.draw(p, draws)
    ends = np.linspace(0, draws, pieces + 1).astype(int)
    parts = [cut.draw(p, int(end - start)) for start, end in itertools.pairwise(ends)]
    assert np.array_equal(rows, np.concatenate(parts))
    assert whole.state() == cut.state()
    assert np.abs(whole.counts - (draws * np.array(p) + 13 * np.array([0.2, 0.5, 0.3]))).max() <= 1.5


def test_max_epochs_stops_a_domain_and_gives_its_share_to_the_others():
    mixture = sampler([10, 1000, 1000], max_epochs={"domain-0": 2})
    domains = mixture.domain_of(mixture.draw([0.5, 0.3, 0.2], 1000))
    assert np.bincount(domains).tolist() == [20, 588, 392]  # 20, then 980 shared as 3 : 2
    assert (np.flatnonzero(domains == 0) < 40).all()
    after = domains[45:]
    targets = np.tile([0.0, 0.6, 0.4], (len(after), 1))
    assert np.abs(deviations(after, targets)).max() <= 1.5
    assert sum(mixture.state().deficits) == 0


def test_max_epochs_may_end_within_a_pass():
    mixture = sampler([10, 50], max_epochs={"domain-0": 1.5})
    mixture.draw([0.9, 0.1], 100)
    assert mixture.counts.tolist() == [15, 85]


def test_every_row_is_drawn_exactly_max_epochs_times_when_all_are_drawn():
    sizes = [13, 40, 7, 90]
    mixture = sampler(sizes, max_epochs=3)
    rows = mixture.draw(stratified(sizes), 3 * 150)
    assert (np.bincount(rows, minlength=150) == 3).all()


def test_nothing_left_is_an_error_that_names_the_domains_and_changes_nothing():
    mixture = sampler([10, 20, 5], names=["web", "code", "chat"], max_epochs={"web": 1, "code": 1})
    mixture.draw([0.5, 0.5, 0.0], 10)
    before = mixture.state()
    with pytest.raises(
        ConfigError, match=r"nothing to draw after 30 samples.*web: 10 draws of 10 rows, code: 20 draws"
    ):
        mixture.draw([0.5, 0.5, 0.0], 21)
    assert mixture.state() == before
    rows = mixture.draw([0.5, 0.5, 0.0], 20)
    again = sampler([10, 20, 5], names=["web", "code", "chat"])
    assert sorted(rows) == sorted(set(range(30)) - set(again.draw([0.5, 0.5, 0.0], 10).tolist()))


def test_on_exhausted_stop_refuses_to_go_beyond_max_epochs():
    mixture = sampler([10, 1000], max_epochs={"domain-0": 1}, on_exhausted=OnExhausted.STOP)
    mixture.draw([0.5, 0.5], 20)
    assert mixture.counts.tolist() == [10, 10]
    with pytest.raises(ConfigError, match="domain 'domain-0' is used up after 20 samples"):
        mixture.draw([0.5, 0.5], 1)


@pytest.mark.parametrize("unit", Unit)
def test_limits_hold_over_a_schedule_long_enough_to_repeat(unit):
    settings = {"unit": unit, "lengths": np.ones(300, np.int64)}
    mixture = sampler([100, 200], max_epochs={"domain-1": 12.0}, **settings)
    mixture.draw([0.5, 0.5], 10_000)
    assert mixture.counts.tolist() == [7600, 2400]


def test_a_limit_reached_in_the_last_incomplete_repeat_is_kept():
    mixture = sampler([3, 100], max_epochs={"domain-0": 1})
    assert mixture.domain_of(mixture.draw([0.5, 0.5], 7)).tolist() == [0, 1, 0, 1, 0, 1, 1]


def test_a_longer_limit_lets_a_finished_domain_come_back_after_a_resume():
    short = sampler([10, 100], max_epochs={"domain-0": 1})
    short.draw([0.5, 0.5], 60)
    assert short.counts.tolist() == [10, 50]
    longer = sampler([10, 100], max_epochs={"domain-0": 2})
    longer.restore(short.state())
    longer.draw([0.5, 0.5], 20)
    assert longer.counts.tolist() == [20, 60]


@pytest.mark.parametrize("seed", range(3))
def test_by_tokens_the_shares_of_trained_tokens_are_met(seed):
    rng = np.random.default_rng(seed)
    lengths = np.concatenate([rng.integers(1, 20, 400), rng.integers(100, 400, 300), rng.integers(0, 60, 500)])
    p = np.array([0.5, 0.2, 0.3])
    mixture = sampler([400, 300, 500], unit=Unit.TOKENS, lengths=lengths)
    rows = mixture.draw(p, 3000)
    spent = lengths[rows][:, None] * (mixture.domain_of(rows)[:, None] == np.arange(3))
    drift = np.cumsum(spent, axis=0) - np.cumsum(spent.sum(axis=1))[:, None] * p
    assert np.abs(drift).max() <= 1.5 * lengths.max()  # never off by more than about one long sample
    assert mixture.realised(Unit.TOKENS) == pytest.approx(p, abs=0.01)
    assert mixture.realised(Unit.SAMPLES)[0] > 0.8  # short samples make up the number
    assert mixture.state().tokens == tuple(spent.sum(axis=0).tolist())


def test_tokens_of_equal_length_give_the_order_of_samples():
    p = [0.47, 0.33, 0.2]
    by_samples = sampler([50] * 3).draw(p, 400)
    by_tokens = sampler([50] * 3, unit=Unit.TOKENS, lengths=np.full(150, 12)).draw(p, 400)
    assert by_samples.tolist() == by_tokens.tolist()


def test_by_samples_both_realised_shares_are_known_when_lengths_are():
    mixture = sampler([10, 10], lengths=np.repeat([1, 3], 10))
    assert mixture.realised(Unit.SAMPLES).tolist() == [0, 0]
    mixture.draw([0.5, 0.5], 20)
    assert mixture.realised(Unit.SAMPLES).tolist() == [0.5, 0.5]
    assert mixture.realised(Unit.TOKENS).tolist() == [0.25, 0.75]
    assert np.isnan(sampler([10, 10]).realised(Unit.TOKENS)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": [10, 0]}, "domain domain-1 has no rows"),
        ({"sizes": [10, 5], "names": ["web"]}, "2 sizes were given for 1 domains"),
        ({"sizes": [10, 5], "names": ["web", "web"]}, "domain web is named twice"),
        ({"sizes": [10, 5], "unit": Unit.TOKENS}, "by tokens needs the trained tokens of every row"),
        ({"sizes": [2, 1], "unit": Unit.TOKENS, "lengths": np.array([3, 0, 0])}, "domain-1: no row has a token"),
        ({"sizes": [2, 1], "lengths": np.array([3, 0])}, "one per row"),
        ({"sizes": [10, 5], "max_epochs": {"domain-7": 1}}, "max_epochs names the unknown domain 'domain-7'. Did you"),
        ({"sizes": [10, 5], "max_epochs": 0}, "max_epochs of 'domain-0' is 0"),
        ({"sizes": [10, 5], "max_epochs": {"domain-1": float("nan")}}, "max_epochs of 'domain-1' is nan"),
        (
            {"sizes": [10, 5], "max_epochs": 0.1},
            r"max_epochs: 0.1 of 'domain-1' \(5 rows\) does not allow a single row",
        ),
    ],
)
def test_a_mixture_that_cannot_be_drawn_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        sampler(**arguments)


def test_bad_proportions_are_refused_at_each_draw():
    with pytest.raises(ConfigError, match=r"sums to 1.8 \(domain-0: 0.9, domain-1: 0.9\)"):
        sampler([10, 10]).draw([0.9, 0.9], 5)


def test_drawing_moves_no_global_generator():
    before = np.random.get_state()[1].copy()
    permute_global_batches(sampler([10, 10]).draw([0.5, 0.5], 64), 16, 1, 0)
    assert np.array_equal(np.random.get_state()[1], before)


def test_a_global_batch_keeps_its_samples_and_changes_their_order():
    rows = np.arange(640)
    shuffled = permute_global_batches(rows, 16, seed=3, first_step=0).reshape(-1, 16)
    assert (np.sort(shuffled, axis=1) == rows.reshape(-1, 16)).all()
    orders = {tuple(batch - 16 * step) for step, batch in enumerate(shuffled)}
    assert len(orders) == 40
    assert rows.tolist() == list(range(640))


def test_the_order_of_a_batch_is_a_function_of_seed_and_step():
    rows = np.arange(640)
    whole = permute_global_batches(rows, 16, 3, 100)
    later = permute_global_batches(rows[160:], 16, 3, 110)
    assert whole[160:].tolist() == later.tolist()
    assert whole.tolist() != permute_global_batches(rows, 16, 4, 100).tolist()


def test_two_ranks_both_see_both_domains_in_equal_measure():
    mixture = sampler([5000, 5000])
    rows = permute_global_batches(mixture.draw([0.5, 0.5], 8000), 8, 1, 0)
    ranks = mixture.domain_of(rows).reshape(-1, 2).T  # rank r takes every second sample
    assert ranks.mean(axis=1) == pytest.approx([0.5, 0.5], abs=0.03)  # unshuffled: 0 and 1


def test_every_order_of_a_batch_is_equally_likely():
    shuffled = permute_global_batches(np.tile(np.arange(3), 6000), 3, 1, 0).reshape(-1, 3)
    counts = np.unique(shuffled @ [9, 3, 1], return_counts=True)[1]
    assert len(counts) == 6
    assert ((counts - 1000) ** 2 / 1000).sum() < 20.5  # 5 degrees of freedom, p = 0.001


def test_a_plan_that_is_no_whole_number_of_batches_is_refused():
    with pytest.raises(ValueError, match="10 rows are not a whole number of batches of 4"):
        permute_global_batches(np.arange(10), 4, 1, 0)
