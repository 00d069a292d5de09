from __future__ import annotations

import copy
import dataclasses
import json
import logging
import multiprocessing
import random
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from embedding_cases import LENGTHS, Pad, by_hand, embed_on_a_rank, killed_after, ragged_pool, tiny_qwen, unit
from gloo import run_on_two_ranks

import dataflex.scoring.embeddings as service
from dataflex.errors import ComponentError
from dataflex.scoring.embeddings import Embeddings, EmbeddingSpec, embed
from dataflex.testing import make_context

PLAIN = EmbeddingSpec(center=False)


def made(spec: EmbeddingSpec = PLAIN, rows: Any = None, **more: Any) -> Embeddings:
    rows = ragged_pool() if rows is None else rows
    model, side, chosen = more.pop("model", None), more.pop("side", "right"), more.pop("chosen", range(len(rows)))
    facts = {name: more.pop(name) for name in ("cache_dir", "accelerator") if name in more}
    context = make_context(rows, Pad(side), **facts)
    return embed(tiny_qwen() if model is None else model, rows, chosen, spec, context, **more)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("budget", [1, 40, 16384])
def test_a_row_is_embedded_as_if_it_were_alone(budget: int, side: str, lora: bool) -> None:
    model, rows = tiny_qwen(lora=lora), ragged_pool()
    found = made(rows=rows, model=model, side=side, token_budget=budget)
    assert found.values is not None
    assert found.values.dtype == np.float16
    np.testing.assert_allclose(found.values, by_hand(model, rows), atol=2e-4)  # of fp16


def test_padding_and_batches_change_nothing_above_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "half", torch.Tensor.float)  # to see more digits than are kept
    rows, model = ragged_pool(), tiny_qwen()
    spec = dataclasses.replace(PLAIN, layers=(1, 2))
    context = make_context(rows, Pad())
    with service.subject(model, spec, context) as embedded:
        from dataflex.scoring.embedding_pass import Centre, Pass
        from dataflex.scoring.index_store import IndexStore

        found = []
        for side, budget in (("right", 1), ("left", 500), ("right", 500)):
            ready = dataclasses.replace(embedded.ready(rows, np.arange(12), spec), collator=Pad(side))
            store = IndexStore(Path("none"), "key", seconds=0)
            vectors: list[Any] = []
            monkeypatch.setattr(Pass, "_less", lambda _, given, __, kept=vectors: kept.append(given) or given.numpy())
            for those, values, _ in Pass(ready, np.arange(12), Centre.NONE, None, budget)._batches(
                context, np.zeros(0, np.int64), None
            ):
                vectors.append((those, values))
            table = np.full((12, 64), np.nan)
            for those, values in (each for each in vectors if isinstance(each, tuple)):
                table[those] = values
            found.append(table)
            assert store.earlier == (0.0, 0.0)
    np.testing.assert_allclose(found[1], found[0], atol=1e-5)
    np.testing.assert_allclose(found[2], found[0], atol=1e-5)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    ("more", "cut"),
    [
        ({"span": "prompt"}, lambda row: slice(0, max(1, len(row["input_ids"]) // 3))),
        ({"span": "answer"}, lambda row: slice(max(1, len(row["input_ids"]) // 3), None)),
        ({"tokens": 4}, lambda _: slice(0, 4)),
        ({"span": "answer", "tokens": 2}, lambda row: slice(n := max(1, len(row["input_ids"]) // 3), n + 2)),
        ({"layers": (1,)}, lambda _: slice(None)),
    ],
)
def test_spans_and_so_many_tokens_are_those_of_the_row_alone(more: Any, cut: Any, side: str) -> None:
    model, rows = tiny_qwen(), ragged_pool()
    found = made(dataclasses.replace(PLAIN, **more), rows=rows, model=model, side=side, token_budget=90)
    expected = [by_hand(model, [row], layer=more.get("layers", (-1,))[0], span=cut(row))[0] for row in rows]
    np.testing.assert_allclose(found.values, expected, atol=3e-4)


@pytest.mark.parametrize("side", ["right", "left"])
def test_of_the_first_tokens_no_more_are_run(side: str) -> None:
    model: Any = tiny_qwen()
    widths: list[int] = []
    handle = model.model.layers[0].register_forward_pre_hook(lambda _, args: widths.append(args[0].shape[1]))
    made(dataclasses.replace(PLAIN, tokens=6), model=model, side=side)
    handle.remove()
    assert set(widths) == {6}


def test_the_mean_of_the_pool_is_subtracted_from_eval_rows_too() -> None:
    model, rows, others = tiny_qwen(), ragged_pool(), ragged_pool((8, 30, 4), seed=9)
    pool = made(EmbeddingSpec(), rows=rows, model=model)
    plain, mean = by_hand(model, rows), by_hand(model, rows).mean(axis=0)
    np.testing.assert_allclose(pool.mean, mean, atol=1e-4)
    np.testing.assert_allclose(pool.values, unit(plain - mean), atol=1e-3)
    targets = made(EmbeddingSpec(), rows=others, model=model, mean=pool.mean)
    np.testing.assert_allclose(targets.values, unit(by_hand(model, others) - mean), atol=1e-3)
    assert np.array_equal(targets.mean, pool.mean)


def test_rows_that_nearly_are_their_mean_keep_their_digits() -> None:
    # Last-layer vectors of a causal LM: 0.999 of each is the same. fp16 before centring would leave one digit.
    model: Any = tiny_qwen()
    model.model.norm.register_forward_hook(lambda _, __, output: 1e-3 * output + 0.1)
    rows = ragged_pool()
    found = made(EmbeddingSpec(), rows=rows, model=model)
    with torch.no_grad():
        plain = by_hand(model, rows)
    exact = unit(plain - plain.mean(axis=0))
    np.testing.assert_allclose(found.values, exact, atol=2e-3)
    early = plain.astype(np.float16).astype(np.float64)  # the wrong version
    assert np.abs(unit(early - early.mean(axis=0)) - exact).max() > 0.02


@pytest.mark.parametrize(("count", "why"), [(2, "there are 2"), (5, "they are all alike")])
def test_a_mean_that_is_not_worth_it_is_left_out_and_said(count: int, why: str, caplog: Any) -> None:
    rows = ragged_pool((7, 9)) if count == 2 else ragged_pool((9,)) * 5
    with caplog.at_level(logging.INFO, logger="dataflex"):
        found = made(EmbeddingSpec(), rows=rows)
    assert why in caplog.text
    assert not found.mean.any()
    np.testing.assert_allclose(found.values, by_hand(tiny_qwen(), rows), atol=5e-4)


def test_a_row_without_a_token_in_the_span_has_no_embedding_and_leaves_the_others_alone(caplog: Any) -> None:
    rows = ragged_pool()
    rows[4]["labels"] = [-100] * len(rows[4]["labels"])
    found = made(EmbeddingSpec(span="answer"), rows=rows)
    assert found.values is not None
    assert np.isnan(found.values).any(axis=1).nonzero()[0].tolist() == [4]
    assert "1 of 12 rows have no token in the span (answer)" in caplog.text
    others = made(EmbeddingSpec(span="answer"), rows=rows, chosen=[row for row in range(12) if row != 4])
    np.testing.assert_allclose(np.delete(found.values, 4, axis=0), others.values, atol=2e-3)


def test_copies_are_alike_to_the_last_bit() -> None:
    rows = ragged_pool((12, 12, 12))[:2] + ragged_pool((12,)) * 3
    found = made(EmbeddingSpec(), rows=rows)
    assert found.values is not None
    assert len({row.tobytes() for row in found.values[[2, 3, 4]]}) == 1


def test_embedding_leaves_no_trace() -> None:
    model = tiny_qwen(lora=True)
    for place, module in enumerate(model.modules()):
        module.training = place % 3 != 0
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, 0.5)
    weights, flags = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    attributes = [set(vars(module)) for module in model.modules()]
    hooks = [dict(module._forward_hooks) for module in model.modules()]
    states = (torch.get_rng_state(), np.random.get_state(), random.getstate())
    made(EmbeddingSpec(layers=(0, 1), site="block"), model=model)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is not None and bool((weight.grad == 0.5).all()) for weight in model.parameters())
    assert [module.training for module in model.modules()] == flags
    assert [set(vars(module)) for module in model.modules()] == attributes
    assert [dict(module._forward_hooks) for module in model.modules()] == hooks
    assert torch.equal(torch.get_rng_state(), states[0])
    assert all(np.array_equal(now, then) for now, then in zip(np.random.get_state(), states[1], strict=True))
    assert random.getstate() == states[2]


def test_what_an_index_depends_on_is_in_its_key() -> None:
    rows = ragged_pool()
    first = made(EmbeddingSpec(), rows=rows)
    assert made(EmbeddingSpec(), rows=copy.deepcopy(rows)).found
    changed_row = copy.deepcopy(rows)
    changed_row[11]["input_ids"][3] += 1
    one_number, frozen = tiny_qwen(), tiny_qwen(lora=True)
    with torch.no_grad():
        next(one_number.parameters())[17, 3] += 1e-3
    keys = {
        first.fingerprint,
        made(EmbeddingSpec(), rows=changed_row).fingerprint,
        made(EmbeddingSpec(layers=(1,)), rows=rows).fingerprint,
        made(EmbeddingSpec(), rows=rows, model=one_number).fingerprint,
        made(EmbeddingSpec(), rows=rows, chosen=range(11)).fingerprint,
        made(EmbeddingSpec(), rows=rows, mean=first.mean).fingerprint,
        made(EmbeddingSpec(), rows=rows, model=frozen).fingerprint,
    }
    assert len(keys) == 7
    with torch.no_grad():
        frozen.get_parameter("base_model.model.model.layers.1.mlp.up_proj.weight")[5, 5] += 1e-3  # a frozen one
    assert made(EmbeddingSpec(), rows=rows, model=frozen).fingerprint not in keys
    half = SimpleNamespace(
        mixed_precision="bf16",
        num_processes=1,
        process_index=0,
        device=torch.device("cpu"),
        is_main_process=True,
        autocast=lambda: torch.autocast("cpu", torch.bfloat16),
    )
    assert made(EmbeddingSpec(), rows=rows, accelerator=half).fingerprint not in keys


def test_what_it_does_not_depend_on_is_not() -> None:
    rows, keys = ragged_pool(), set()
    for seed, budget, folder in ((1, 50, None), (2, 5000, Path("shared"))):
        context = make_context(rows, Pad(), seed=seed)
        keys.add(embed(tiny_qwen(), rows, range(12), PLAIN, context, token_budget=budget, folder=folder).fingerprint)
    assert len(keys) == 1
    assert len(list(Path("shared").glob("embeddings-*"))) == 1


def test_an_index_says_what_it_cost_whoever_made_it() -> None:
    first = made(EmbeddingSpec())
    again = made(EmbeddingSpec())
    assert (first.found, again.found) == (False, True)
    assert again.seconds == first.seconds > 0
    assert again.cpu_seconds == first.cpu_seconds > 0
    assert again.values is not None
    assert np.array_equal(first.values, again.values)
    (folder,) = Path("cache").glob("embeddings-*")
    facts = json.loads((folder / "meta.json").read_text())
    assert (facts["rows"], facts["width"], facts["spec"]["layers"]) == (12, 32, [-1])


def test_a_damaged_index_is_made_again(caplog: Any) -> None:
    first = made(EmbeddingSpec())
    (folder,) = Path("cache").glob("embeddings-*")
    (folder / "values.npy").write_bytes(b"no array")
    again = made(EmbeddingSpec())
    assert not again.found
    assert np.array_equal(first.values, again.values)
    assert "is damaged" in caplog.text


@pytest.mark.parametrize("batches", [1, 4])
def test_a_pass_that_was_killed_goes_on_and_ends_with_the_same_numbers(batches: int, tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=killed_after, args=(batches, str(tmp_path / "cache")))
    process.start()
    process.join()
    assert process.exitcode == -9
    (parts,) = (tmp_path / "cache").glob("*.parts")
    assert len(list(parts.glob("*.npz"))) == batches
    model: Any = tiny_qwen()
    ran: list[int] = []
    handle = model.model.layers[0].register_forward_pre_hook(lambda _, args: ran.append(len(args[0])))
    began = time.monotonic()
    resumed = made(EmbeddingSpec(), model=model, cache_dir=tmp_path / "cache", token_budget=64)
    handle.remove()
    assert time.monotonic() - began < 30  # the lock of a process of this machine that is gone is not waited for
    whole = made(EmbeddingSpec(), cache_dir=tmp_path / "another", token_budget=64)
    assert sum(ran) < len(LENGTHS)
    assert np.array_equal(resumed.values, whole.values)
    assert np.array_equal(resumed.mean, whole.mean)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [f"embeddings-{resumed.fingerprint}"]


def test_two_ranks_embed_what_one_does_to_the_last_bit(tmp_path: Path, fresh_accelerate: None) -> None:
    run_on_two_ranks(embed_on_a_rank, tmp_path)
    rows = ragged_pool(LENGTHS * 3)
    alone = made(EmbeddingSpec(), rows=rows, token_budget=64)
    assert np.array_equal(np.load(tmp_path / "values.npy"), alone.values)
    said = {(tmp_path / f"said{rank}.txt").read_text() for rank in (0, 1)}
    assert said == {f"True {alone.fingerprint} {alone.mean.tobytes().hex()}"}
    for rank in (0, 1):
        assert "Lower component_params.token_budget" in (tmp_path / f"error{rank}.txt").read_text()


@pytest.mark.parametrize(
    ("rows", "message"),
    [([], "list of indices"), ([12], "row 12 was to be embedded; .* 0 to 11"), ([-1], "row -1"), ([0.5], "float64")],
)
def test_rows_that_are_not_there_are_refused(rows: list[Any], message: str) -> None:
    with pytest.raises(ComponentError, match=message):
        made(chosen=rows)


def test_pictures_and_text_apart_need_a_model_that_tells_them_apart() -> None:
    with pytest.raises(ComponentError, match="no image_token_id"):
        made(EmbeddingSpec(modalities="split"))
    model: Any = tiny_qwen()
    model.config.image_token_id = 3
    rows = ragged_pool()
    for row in rows:
        row["input_ids"][0] = 3
    found = made(EmbeddingSpec(modalities="split", center=False), rows=rows, model=model)
    assert found.values is not None
    assert found.values.shape == (12, 64)
    np.testing.assert_allclose(np.linalg.norm(found.values[:, :32].astype(float), axis=1), 0.5**0.5, atol=1e-3)


def test_a_width_is_rounded_up_to_a_multiple_of_four() -> None:
    found = made(EmbeddingSpec(width=10))
    assert found.values is not None
    assert found.values.shape == (12, 12)


@pytest.mark.parametrize("more", [{"tokens": 0}, {"width": 0}])
def test_specs_of_nothing_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ComponentError):
        EmbeddingSpec(**more)
