"""Weighted sums of token losses, and groups of rows as validation samples, against torch.autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from embedded_pools import pad, pool, target, tiny_qwen
from torch.nn import functional

from dataflex.gradients.cosines import CosineScorer
from dataflex.gradients.coverage import Scope, cover
from dataflex.gradients.engine import GradientEngine
from dataflex.gradients.grouped import GroupedSubtask, SumSink
from dataflex.testing import make_context

WEIGHTS = torch.tensor([0.5, -2.0, 0.0, 1.5, -1.0, 3.0, 0.25])
GROUPS = np.array([4, 1, 4, 4, 1, 7, 7])  # any numbers


class Kept(SumSink):
    """Keeps the gradient of each sample too."""

    def take(self, name: str, samples: slice, grads_Cn: torch.Tensor) -> None:
        self.rows = getattr(self, "rows", {})
        self.rows.setdefault(name, {})[samples.start] = grads_Cn.clone()
        super().take(name, samples, grads_Cn)


def by_autograd(model: Any, names: list[str], row: dict[str, list[int]], *, mean: bool) -> torch.Tensor:
    batch, parameters = pad([row]), dict(model.named_parameters())
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[0, :-1]
    loss = functional.cross_entropy(logits, batch["labels"][0, 1:], reduction="mean" if mean else "sum")
    grads = torch.autograd.grad(loss, [parameters[name] for name in names])
    return torch.cat([grad.flatten() for grad in grads])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_each_samples_gradient_is_of_its_own_loss_times_its_weight(reduction: str) -> None:
    model = tiny_qwen().double().eval()
    coverage = cover(model, Scope.LINEAR)
    names, rows = list(coverage.parameters), target()
    engine, sink = GradientEngine(model, coverage), Kept()
    alone = {place: lambda place=place: pad([rows[place]]) for place in (0, 1, 3)}  # compared with the same weights

    def body() -> Any:
        return engine.feed(pad(rows), sink, alone, weights_B=WEIGHTS, reduction=reduction)

    losses = engine.attempt(body)
    assert engine.reason == ""
    parts = [torch.cat([sink.rows[name][start] for start in sorted(sink.rows[name])]) for name in names]
    found = torch.cat(parts, dim=1)
    single = [by_autograd(model, names, row, mean=reduction == "mean") for row in rows]
    weighted = torch.stack(single) * WEIGHTS[:, None]
    assert (found - weighted).norm(dim=1).max() < 1e-5 * weighted.norm(dim=1).max()
    total = torch.cat([sink.sums[name] for name in names]).double()
    assert (total - weighted.sum(dim=0)).norm() < 1e-5 * weighted.sum(dim=0).norm()
    plain = engine.attempt(lambda: engine.feed(pad(rows), SumSink()))
    assert torch.equal(losses.means, plain.means)  # weights and reduction have no part in them


def directions(scope: str, **more: Any) -> tuple[Any, Any, Any]:
    """Cosines of the pool with two targets, of groups and of rows; the model; who compares."""
    model = tiny_qwen().double().eval()
    context = make_context(pool(), pad)
    rows = np.arange(7)
    grouped = GroupedSubtask("groups", target(), rows, GROUPS, WEIGHTS.double().numpy())
    scorer = CosineScorer(context, parameters=scope, who="test", **more)  # type: ignore[arg-type]
    return scorer.at(model).score([grouped], np.arange(60)), model, scorer


@pytest.mark.parametrize(("scope", "budget"), [("linear", None), ("linear", 1), ("all", None)])
def test_a_group_counts_as_one_sample_whatever_the_batches(scope: str, budget: int | None) -> None:
    found, model, scorer = directions(scope, token_budget=budget)
    names = list(scorer.at(model).parameters)
    vectors = []
    for group in (1, 4, 7):
        members = np.flatnonzero(group == GROUPS)
        parts = [WEIGHTS[row].item() * by_autograd(model, names, target()[row], mean=False) for row in members]
        vectors.append(torch.stack(parts).sum(dim=0))
    direction = torch.stack([vector / vector.norm() for vector in vectors]).mean(dim=0)
    singles = [by_autograd(model, names, row, mean=True) for row in pool()]
    expected = [float(single @ direction / single.norm()) for single in singles]
    assert found.values[:, 0] == pytest.approx(expected, abs=1e-5)
    assert (found.validation.lost, found.validation.flat) == (0, 0)
    assert bool(found.one_by_one) == (scope == "all")


def test_groups_are_projected_as_samples_are() -> None:
    exact, *_ = directions("linear")
    projected, *_ = directions("linear", projection=8192)
    assert np.corrcoef(exact.values[:, 0], projected.values[:, 0])[0, 1] > 0.98


def test_rows_groups_and_weights_belong_together() -> None:
    with pytest.raises(ValueError, match="2 rows, 1 groups and 2 weights"):
        GroupedSubtask("eval", [], np.arange(2), np.zeros(1, np.int64), np.ones(2))
