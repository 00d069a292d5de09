from __future__ import annotations

from dataflex import RunContext
from dataflex.testing import parametrize_with_checks
from dataflex_selectors_cluster_less.params import ClusterLessParams
from dataflex_selectors_cluster_less.selector import ClusterLessSelector

POOL = [{"input_ids": [0] * length} for length in (9, 1, 8, 2, 7, 3, 6, 4)]


@parametrize_with_checks("dataflex-selectors-cluster-less/cluster-less", kind="selector")
def test_it_keeps_every_promise_of_a_selector(check, tmp_path):
    check(tmp_path)


def test_it_draws_from_the_shortest_rows():
    context = RunContext(dataset=POOL, data_collator=list)
    selection = ClusterLessSelector(ClusterLessParams(share=0.5), context).select(None, 20, 4)
    assert sorted(selection.rows) == [1, 3, 5, 7]
    assert selection.metrics == {"mean_tokens": 2.5}
