"""The Weight Trainer against the stock Trainer: equal weights change nothing, and no partition of a step does."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from gloo import run_on_two_ranks
from transformers import Trainer

from dataflex.errors import ComponentError, ConfigError

TOLERANCE = 1e-7


@pytest.fixture(autouse=True)
def runs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import weight_runs

    return weight_runs


def difference(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first - second).abs().max())


@pytest.mark.parametrize("accumulation", [1, 4])
def test_equal_weights_give_the_stock_parameters_bit_for_bit(runs, tmp_path, accumulation) -> None:
    keys = {"gradient_accumulation_steps": accumulation}
    stock = runs.trained(None, tmp_path / "stock", **keys)
    assert difference(stock, runs.trained({}, tmp_path / "ones", **keys)) == 0
    assert difference(stock, runs.trained({"component_name": "chunked"}, tmp_path / "chunked", **keys)) == 0
    assert difference(stock, runs.trained({"component_name": "pointwise"}, tmp_path / "pointwise", **keys)) > 1e-3


def test_equal_weights_with_label_smoothing_are_the_stock_smoothing(runs, tmp_path) -> None:
    keys = {"label_smoothing_factor": 0.1, "max_steps": 4, "double": True}  # in fp32 one ulp is above the tolerance
    stock = runs.trained(None, tmp_path / "stock", **keys)
    assert difference(stock, runs.trained({}, tmp_path / "ones", **keys)) <= TOLERANCE


def test_label_smoothing_under_accumulation_is_that_of_one_large_batch(runs, tmp_path) -> None:
    # The stock Trainer adds up the means of its micro-batches here, so it cannot be the yardstick.
    whole = {"label_smoothing_factor": 0.1, "max_steps": 3, "per_device_train_batch_size": 8, "double": True}
    parts = whole | {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    stock = runs.trained(None, tmp_path / "stock", **whole)
    assert difference(stock, runs.trained({}, tmp_path / "ones", **parts)) <= TOLERANCE
    assert difference(stock, runs.trained(None, tmp_path / "wrong", **parts)) > 1e-3


@pytest.mark.parametrize("rows", [21, 24])
@pytest.mark.parametrize("drop_last", [False, True])
def test_epochs_end_as_the_stock_trainers_do(runs, tmp_path, rows, drop_last) -> None:
    # 21 rows in micro-batches of 2: the last window of an epoch has 3 of 4, the last micro-batch 1 row
    keys = {
        "gradient_accumulation_steps": 4,
        "max_steps": -1,
        "num_train_epochs": 2.5,
        "dataloader_drop_last": drop_last,
    }
    stock = runs.trainer(None, tmp_path / "stock", rows=runs.pool(rows), **keys)
    stock.train()
    ours = runs.trainer({}, tmp_path / "ones", rows=runs.pool(rows), **keys)
    ours.train()
    assert ours.state.global_step == stock.state.global_step
    assert difference(runs.parameters(stock), runs.parameters(ours)) == 0
    same = ("loss", "learning_rate", "epoch", "step")
    logged = [
        [{key: entry[key] for key in same if key in entry} for entry in t.state.log_history] for t in (stock, ours)
    ]
    assert logged[0] == [pytest.approx(entry, rel=1e-5) for entry in logged[1]]


def test_a_model_that_does_not_take_num_items_gets_the_mean_over_micro_batches(runs, tmp_path) -> None:
    keys = {"gradient_accumulation_steps": 4, "max_steps": 4}
    results = []
    for config in (None, {}):
        made = runs.trainer(config, tmp_path / str(config), **keys)
        made.model_accepts_loss_kwargs = False
        made.train()
        results.append(runs.parameters(made))
    assert difference(*results) <= TOLERANCE


def test_a_pointwise_weight_gives_the_same_update_however_a_step_is_cut(runs, tmp_path) -> None:
    config = {"component_name": "pointwise", "warmup_step": 1}
    whole = {"per_device_train_batch_size": 8, "max_steps": 4, "double": True}
    parts = whole | {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    singles = whole | {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
    first = runs.trained(config, tmp_path / "whole", **whole)
    assert difference(first, runs.trained(config, tmp_path / "parts", **parts)) <= TOLERANCE
    assert difference(first, runs.trained(config, tmp_path / "singles", **singles)) <= TOLERANCE


def test_the_update_is_the_same_on_two_ranks(runs, tmp_path) -> None:
    single = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "max_steps": 4, "double": True}
    ranks = single | {"gradient_accumulation_steps": 2}
    singly = ranks | {"double": False}
    uneven = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": 8}
    pointwise = {"component_name": "pointwise", "warmup_step": 1}
    smooth = {"label_smoothing_factor": 0.1}
    jobs: Mapping[str, Any] = {
        "stock": {"config": None, "arguments": singly},
        "ones": {"config": {}, "arguments": singly},
        "pointwise": {"config": pointwise, "arguments": ranks},
        "smooth": {"config": {}, "arguments": ranks | smooth},
        "centred": {"config": {"component_name": "centred"}, "arguments": ranks},
        "uneven-stock": {"config": None, "arguments": uneven, "rows": 21},
        "uneven": {"config": {}, "arguments": uneven, "rows": 21},
    }
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    run_on_two_ranks(runs.train_rank, tmp_path)
    result = {name: runs.kept(tmp_path / name) for name in jobs}
    assert difference(result["stock"], result["ones"]) <= TOLERANCE
    assert difference(result["uneven-stock"], result["uneven"]) <= TOLERANCE
    assert difference(result["pointwise"], runs.trained(pointwise, tmp_path / "p", **single)) <= TOLERANCE
    assert difference(result["smooth"], runs.trained({}, tmp_path / "s", **single, **smooth)) <= TOLERANCE
    alone = runs.trainer(pointwise, tmp_path / "alone", **single)
    alone.train()
    names = (
        "dataflex/weight_ess",
        "dataflex/weight_min",
        "dataflex/weight_mean",
        "dataflex/weight_max",
        "dataflex/weighted_loss",
        "dataflex/unweighted_loss",
    )
    logged = json.loads((tmp_path / "pointwise.json").read_text())
    assert [key for key in names if key in logged[0]] == []  # the warm-up
    assert (
        difference(result["centred"], runs.trained({"component_name": "centred"}, tmp_path / "c", **single))
        <= TOLERANCE
    )
    told = json.loads((tmp_path / "centred-told.json").read_text())
    assert told[0] == told[1] and [len(losses) for _, losses, _ in told[0]] == [8] * 4
    for here, there in zip(alone.state.log_history[1:4], logged[1:4], strict=True):
        assert {key: here[key] for key in names} == pytest.approx({key: there[key] for key in names}, rel=1e-5)


def test_until_the_window_holds_64_samples_the_loss_is_the_plain_one(runs, tmp_path, caplog) -> None:
    # 8 samples a step, one of which never has a target: 63 after nine weighted steps, 70 after ten
    keys = {
        "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "max_steps": 13, "learning_rate": 0.05,
        "rows": runs.pool(8, masked=[3]), "save_strategy": "steps", "save_steps": 1,
    }  # fmt: skip
    config, taken = {"component_name": "patient", "warmup_step": 1}, {}
    with caplog.at_level("INFO", "dataflex"):
        whole = runs.trainer(config, tmp_path, **keys)
        whole.add_callback(_Snapshots(runs, whole, taken))
        whole.train()
    stock_taken: dict[int, torch.Tensor] = {}
    stock = runs.trainer(None, tmp_path / "stock", **keys)
    stock.add_callback(_Snapshots(runs, stock, stock_taken))
    stock.train()
    assert difference(taken[11], stock_taken[11]) == 0 < difference(taken[12], stock_taken[12])
    assert "the weights act from step 12 on; their window holds 70 samples" in caplog.text
    assert "until its window holds 64 samples with targets" in caplog.text and "They never" not in caplog.text
    entries = [entry for entry in whole.state.log_history if "dataflex/weight_ess" in entry]
    assert [entry["step"] for entry in entries if entry["dataflex/weight_ess"] == 1] == list(range(2, 12))

    for step in (4, 11):  # inside that phase, and where it ends
        again = runs.trainer(config, tmp_path, **keys)
        again.train(str(tmp_path / "out" / f"checkpoint-{step}"))
        assert difference(runs.parameters(whole), runs.parameters(again)) == 0


def test_weights_that_can_never_act_are_announced_before_the_first_step_and_at_the_end(runs, tmp_path, caplog) -> None:
    runs.trained({"component_name": "patient", "warmup_step": 1}, tmp_path, max_steps=4)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "the run ends after 4 steps, so its weights will not act, unless rows are packed" in said[0]
    assert "its window holds 6 samples with targets after step 4; weights act once it holds 64" in said[1]
    assert "Train more than 33 steps" in said[1]


def test_a_class_that_reduces_acts_from_the_first_step(runs, tmp_path) -> None:
    # mean over samples of their mean losses: not the stock token mean, and nothing is normalised that has to fill first
    keys = {"max_steps": 1, "per_device_train_batch_size": 4}
    reduced = runs.trained({"component_name": "reducing"}, tmp_path / "ours", **keys)
    assert difference(reduced, runs.trained(None, tmp_path / "stock", **keys)) > 1e-3


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_weighter_of_whole_steps_is_told_all_samples_before_any_is_weighed(runs, tmp_path, dropout) -> None:
    # With dropout, the losses are those of the training forwards all the same: the same masks are drawn in both.
    model = runs.model(torch.float64)
    model.config.attention_dropout = dropout
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = dropout
    model.config._attn_implementation = "eager"
    keys = {"gradient_accumulation_steps": 4, "max_steps": 3, "rows": runs.pool(21), "model": model}
    made = runs.trainer({"component_name": "steep"}, tmp_path / str(dropout), **keys)
    made.train()
    told, ended = made.component.told, made.component.ended
    assert [len(losses) for _, losses, _ in told] == [8, 8, 5]  # the last step of an epoch of 21 rows is a short one
    for (step, losses, tokens), stats in zip(told, ended, strict=True):
        assert stats.step == step + 1 and losses == stats.losses.tolist() and tokens == stats.tokens.tolist()
        asked = (stats.losses.astype("float32") - 3) ** 2
        mean = float(asked @ stats.tokens / stats.tokens.sum())
        assert stats.weights.tolist() == pytest.approx((asked / mean).tolist(), rel=1e-5)
        assert float(stats.weights @ stats.tokens / stats.tokens.sum()) == pytest.approx(1.0)


def test_statistics_of_a_step_do_not_depend_on_how_it_is_cut(runs, tmp_path) -> None:
    whole = {"per_device_train_batch_size": 8, "max_steps": 3, "double": True}
    found = [
        runs.trained({"component_name": "centred"}, tmp_path / str(size), **whole | cut)
        for size in (8, 2, 1)
        for cut in [{"per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size}]
    ]
    assert difference(found[0], found[1]) <= TOLERANCE and difference(found[0], found[2]) <= TOLERANCE


def test_forwards_ahead_leave_the_run_as_it_was(runs, tmp_path) -> None:
    # Equal weights, with dropout and accumulation: bit for bit the run in which no micro-batch ran twice.
    def with_dropout() -> Any:
        model = runs.model()
        for layer in model.model.layers:
            layer.self_attn.attention_dropout = 0.3
        model.config._attn_implementation = "eager"
        return model

    keys = {"gradient_accumulation_steps": 4, "max_steps": 3}
    once = runs.trained({}, tmp_path / "once", model=with_dropout(), **keys)
    twice = runs.trained({"component_name": "equal_steps"}, tmp_path / "twice", model=with_dropout(), **keys)
    assert difference(once, twice) == 0
    assert difference(once, runs.trained({}, tmp_path / "dry", **keys)) > 1e-3  # dropout there is


def test_a_row_without_targets_changes_nothing(runs, tmp_path) -> None:
    keys = {"per_device_train_batch_size": 3, "max_steps": 1, "train_sampling_strategy": "sequential", "double": True}
    with_it = runs.pool(3, masked=[1])
    without = [with_it[0], with_it[2]]
    config = {"component_name": "steep"}
    first = runs.trained(config, tmp_path / "with", rows=with_it, **keys)
    second = runs.trained(config, tmp_path / "without", rows=without, **keys)
    assert difference(first, second) <= TOLERANCE
    nothing = runs.trained(config, tmp_path / "nothing", rows=runs.pool(3, masked=[0, 1, 2]), **keys)
    assert difference(nothing, runs.trained(None, tmp_path / "no", max_steps=1, learning_rate=0.0)) == 0


def test_only_samples_with_a_weight_move_the_model(runs, tmp_path) -> None:
    keys = {"max_steps": 1, "train_sampling_strategy": "sequential"}
    rows = runs.pool(24)
    long, short = (
        next(r for r in rows if len(r["input_ids"]) - 2 >= 6),
        next(r for r in rows if len(r["labels"]) == 4),
    )
    config = {"component_name": "hardest"}
    both = runs.trained(config, tmp_path / "both", rows=[long, short], **keys)
    other = {**short, "labels": [-100, -100, 1, 2]}
    assert difference(both, runs.trained(config, tmp_path / "other", rows=[long, other], **keys)) == 0
    alone = runs.trained(config, tmp_path / "alone", rows=[short, short], **keys)
    assert difference(alone, runs.trained(None, tmp_path / "no", learning_rate=0.0, **keys)) == 0


def test_the_warm_up_is_stock_and_logs_no_weights(runs, tmp_path) -> None:
    made = runs.trainer({"component_name": "pointwise", "warmup_step": 3}, tmp_path / "ours")
    at_warmup = runs.trained(None, tmp_path / "stock", max_steps=3)
    snapshots = {}
    made.add_callback(_Snapshots(runs, made, snapshots))
    made.train()
    assert difference(at_warmup, snapshots[3]) == 0
    with_weights = [entry["step"] for entry in made.state.log_history if "dataflex/weight_ess" in entry]
    assert with_weights == [4, 5, 6]
    plain, entry = made.state.log_history[4:6]  # the window of 4 samples is full after two weighted steps
    assert plain["dataflex/weight_ess"] == 1 and plain["dataflex/weighted_loss"] == plain["dataflex/unweighted_loss"]
    assert (
        entry["dataflex/weight_min"] < entry["dataflex/weight_mean"] < entry["dataflex/weight_max"]
        and 0 < entry["dataflex/weight_ess"] < 1
    )
    assert entry["dataflex/weighted_loss"] == pytest.approx(entry["loss"], rel=1e-3)


def test_evaluation_is_not_weighted(runs, tmp_path) -> None:
    made = runs.trainer({"component_name": "pointwise"}, tmp_path)
    made.train()
    stock = runs.trainer(None, tmp_path / "stock", model=made.model)
    pool = runs.pool(6)
    assert made.evaluate(pool)["eval_loss"] == pytest.approx(stock.evaluate(pool)["eval_loss"], rel=1e-6)


def test_a_note_style_reduction_counts_as_a_mean(runs, tmp_path) -> None:
    # mean over samples of their mean losses: with one sample a micro-batch that is the stock token mean
    keys = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4, "max_steps": 4}
    stock = runs.trained(None, tmp_path / "stock", **keys)
    ours = runs.trained({"component_name": "reducing"}, tmp_path / "ours", **keys)
    assert difference(stock, ours) <= TOLERANCE


def test_a_training_step_of_the_components_own_is_called_for_every_micro_batch(runs, tmp_path) -> None:
    keys = {"gradient_accumulation_steps": 2, "max_steps": 3}
    made = runs.trainer({"component_name": "owning", "warmup_step": 2}, tmp_path / "ours", **keys)
    made.train()
    assert made.component.calls == [(step, None, step >= 2) for step in (0, 0, 1, 1, 2, 2)]
    stock = runs.trainer(None, tmp_path / "stock", **keys)
    stock.model_accepts_loss_kwargs = False  # then the stock loss is the mean over micro-batches, too
    stock.train()
    assert difference(runs.parameters(made), runs.parameters(stock)) <= TOLERANCE


def test_a_bad_weight_is_an_error_that_names_weighter_and_step(runs, tmp_path) -> None:
    message = r"'broken' of .*failed in weights\(\) at step 1: weights\(\) returned \[.*none may be negative"
    with pytest.raises(ComponentError, match=message):
        runs.trained({"component_name": "broken"}, tmp_path)


def test_the_steps_before_a_failure_are_kept_and_the_mended_run_is_the_whole_run(runs, tmp_path) -> None:
    config, keys = {"component_name": "fragile"}, {"gradient_accumulation_steps": 2}
    whole = runs.trained(config, tmp_path / "whole", **keys)
    broken = tmp_path / "out" / "broken.txt"
    broken.parent.mkdir()
    broken.touch()
    with pytest.raises(ComponentError, match=r"at step 3: ZeroDivisionError: it broke. Nothing is lost: .*point-3"):
        runs.trained(config, tmp_path, **keys)
    broken.unlink()
    mended = runs.trainer(config, tmp_path, **keys)
    mended.train(str(tmp_path / "out" / "checkpoint-3"))
    assert difference(whole, runs.parameters(mended)) == 0


@pytest.mark.parametrize("accumulation", [1, 4])
def test_the_router_loss_of_a_mixture_of_experts_counts_as_in_the_stock_trainer(runs, tmp_path, accumulation) -> None:
    # The stock loss goes through fp32 whatever the model's type; small steps keep that rounding below the tolerance.
    keys = {"gradient_accumulation_steps": accumulation, "max_steps": 3, "learning_rate": 0.05}
    stock, ours = (
        runs.trained(config, tmp_path / name, model=runs.mixture_of_experts(), **keys)
        for name, config in (("stock", None), ("ones", {}))
    )
    assert difference(stock, ours) <= TOLERANCE
    without = runs.mixture_of_experts()
    without.config.router_aux_loss_coef = without.router_aux_loss_coef = 0.0
    assert difference(stock, runs.trained(None, tmp_path / "without", model=without, **keys)) > 1e-4


def test_trls_trainer_is_weighted_as_the_stock_one(runs, tmp_path) -> None:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, runs.__file__, str(tmp_path)], check=True, env=environ)
    for kind in ("", "packed-"):
        stock, ones, pointwise = (runs.kept(tmp_path / f"{kind}{name}") for name in ("stock", "ones", "pointwise"))
        assert difference(stock, ones) <= TOLERANCE
        assert difference(stock, pointwise) > 1e-3
    assert "compute_loss_func of its own, which a weighter would replace" in (tmp_path / "dft.txt").read_text()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("failing_later", r"failed in on_step\(\) at step 1: ZeroDivisionError: in on_step"),
        ("overflowing", r"where the mean weight of the latest steps was 1e-38; none may be negative or infinite"),
        ("detached", r"at step 0: get_weighted_loss\(\) returned a number that does not depend on the losses"),
        ("not_a_number", r"failed in get_weighted_loss\(\) at step 0: get_weighted_loss\(\) returned nan for losses"),
        ("both", r"has both weights\(\) and training_step\(\)"),
        ("endless", r"its attribute window must be a whole number of at least 1, not None"),
        ("chunkless", r"its attribute chunk_tokens must be a whole number of at least 1, not -4"),
        ("silent", r"training_step\(\) returned NoneType; it must return the detached loss"),
    ],
)
def test_what_a_weighter_does_wrong_is_said_with_its_name(runs, tmp_path, name, message) -> None:
    with pytest.raises(ComponentError, match=rf"weighter '{name}' .*{message}"):
        runs.trained({"component_name": name}, tmp_path)


def test_a_step_whose_weights_are_all_zero_is_announced_once(runs, tmp_path, caplog) -> None:
    start = runs.parameters(runs.trainer({"component_name": "idle"}, tmp_path / "start"))
    with caplog.at_level("WARNING", "dataflex"):
        assert difference(start, runs.trained({"component_name": "idle"}, tmp_path / "idle")) == 0
    assert caplog.text.count("all 2 samples of step 1 had the weight 0") == 1 and "of step 2" not in caplog.text


def test_a_weighter_may_watch_the_warm_up_which_stays_stock(runs, tmp_path) -> None:
    keys = {"max_steps": 3, "gradient_accumulation_steps": 2}
    made = runs.trainer({"component_name": "watching", "warmup_step": 2}, tmp_path / "ours", **keys)
    made.train()
    assert difference(runs.parameters(made), runs.trained(None, tmp_path / "stock", **keys)) == 0
    alone = runs.trainer({"component_name": "watching"}, tmp_path / "all", **keys)
    alone.train()
    assert made.component.seen == alone.component.seen  # what the warm-up shows is what a weighted step shows
    assert [(step, weights) for step, _, weights in made.component.seen] == [(step, [1.0] * 4) for step in (1, 2, 3)]


def test_the_normaliser_looks_back_on_the_components_own_window(runs, tmp_path) -> None:
    made = runs.trainer({"component_name": "short_memory"}, tmp_path, per_device_train_batch_size=2, max_steps=6)
    made.train()
    last_two_steps = made.loss_shaper.state_dict()["window"]
    assert last_two_steps["lengths"] == [2, 2]
    weights, tokens = zip(*last_two_steps["values"], strict=True)
    mean = sum(w * t for w, t in zip(weights, tokens, strict=True)) / sum(tokens)
    assert made.loss_shaper.seam.normaliser == pytest.approx(mean, rel=1e-12)


def test_cross_entropy_is_taken_in_chunks_of_the_components_size(runs, tmp_path, monkeypatch) -> None:
    from dataflex.trainers.losses import step_loss

    asked, original = [], step_loss.token_losses
    monkeypatch.setattr(
        step_loss,
        "token_losses",
        lambda *args, **kwargs: asked.append(kwargs["chunk_tokens"]) or original(*args, **kwargs),
    )
    runs.trained({"component_name": "chunked"}, tmp_path / "chunked", max_steps=1)
    runs.trained({}, tmp_path / "ones", max_steps=1)
    assert asked == [3, 1024]


def test_the_samples_of_a_packed_row_weigh_what_they_weigh_alone(runs, tmp_path) -> None:
    # Batches of one row without a mask: transformers keeps the samples in it apart by their position ids.
    apart = runs.pool(4)
    packed = {name: [number for row in apart for number in row[name]] for name in ("input_ids", "labels")}
    packed["position_ids"] = [place for row in apart for place in range(len(row["input_ids"]))]
    keys = {"max_steps": 3, "double": True}
    config = {"component_name": "pointwise"}  # its window of 4 samples is full after the first step
    alone = runs.trained(config, tmp_path / "alone", rows=apart, per_device_train_batch_size=4, **keys)
    together = runs.trained(config, tmp_path / "packed", rows=[packed], per_device_train_batch_size=1, **keys)
    assert difference(alone, together) <= TOLERANCE
    stock = runs.trained(None, tmp_path / "stock", rows=[packed], per_device_train_batch_size=1, **keys)
    assert difference(stock, together) > 1e-3


def test_a_native_weighter_needs_no_base_class(runs, tmp_path) -> None:
    with_base, without = (runs.trained({"component_name": name}, tmp_path / name) for name in ("pointwise", "baseless"))
    assert difference(with_base, without) == 0


def test_a_class_that_weighs_nothing_is_refused(runs, tmp_path) -> None:
    with pytest.raises(ComponentError, match=r"weighs nothing: it has no weights\(\)"):
        runs.trained({"component_name": "nothing"}, tmp_path)


def test_a_model_without_logits_is_found_in_the_first_warm_up_step(runs, tmp_path) -> None:
    made = runs.trainer({"warmup_step": 4}, tmp_path)
    forward = made.model.forward

    def fused(**inputs: Any) -> dict[str, torch.Tensor]:
        return {"loss": forward(**inputs).loss}

    made.model.forward = fused
    with pytest.raises(ComponentError, match="returned no logits"):
        made.train()
    assert made.state.global_step == 0


def test_a_trainer_with_a_loss_function_of_its_own_is_refused(runs, tmp_path) -> None:
    made = runs.trainer({}, tmp_path)
    made.compute_loss_func = lambda outputs, labels, num_items_in_batch=None: outputs["logits"].sum()
    with pytest.raises(ConfigError, match="compute_loss_func of its own"):
        made.train()


@pytest.mark.parametrize("stop", [2, 3, 5])
def test_a_resumed_run_is_the_whole_run(runs, tmp_path, stop) -> None:
    # 21 rows: epochs end after 3 steps, with a short one; the log covers two steps, so some checkpoints fall between
    config = {"component_name": "pointwise", "warmup_step": 1}
    keys = {
        "gradient_accumulation_steps": 4, "max_steps": 7, "save_strategy": "steps", "save_steps": 1,
        "logging_steps": 2, "rows": runs.pool(21),
    }  # fmt: skip
    whole = runs.trainer(config, tmp_path, **keys)
    whole.train()
    again = runs.trainer(config, tmp_path, **keys)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / f"checkpoint-{stop}"))
    assert difference(runs.parameters(whole), runs.parameters(again)) == 0
    clock = ("runtime", "second", "flos")
    logged = [
        [{k: v for k, v in entry.items() if not any(word in k for word in clock)} for entry in made.state.log_history]
        for made in (whole, again)
    ]
    assert logged[0] == logged[1]


@pytest.mark.parametrize(
    ("rows", "accumulation", "drop_last", "total"),
    [(21, 4, False, 7), (10, 4, False, 6), (21, 4, True, 7), (7, 3, False, 5)],
)
def test_a_resume_inside_a_pass_whose_last_step_is_short_leaves_the_plans_of_the_whole_run(
    runs, tmp_path, rows, accumulation, drop_last, total
) -> None:
    keys = {
        "gradient_accumulation_steps": accumulation, "max_steps": total, "save_strategy": "steps", "save_steps": 1,
        "rows": runs.pool(rows), "dataloader_drop_last": drop_last,
    }  # fmt: skip
    whole = runs.trainer({}, tmp_path, **keys)
    whole.train()
    plans = plans_of(tmp_path / "out")
    assert len(plans) == math.ceil(total / math.ceil((rows - rows % 2 * drop_last) / (2 * accumulation)))
    for stop in range(1, total):
        again = runs.trainer({}, tmp_path, **keys)
        again.train(resume_from_checkpoint=str(tmp_path / "out" / f"checkpoint-{stop}"))
        assert plans_of(tmp_path / "out") == plans, stop
        assert difference(runs.parameters(whole), runs.parameters(again)) == 0


def plans_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "decisions").iterdir()}


def test_a_run_that_ended_inside_a_pass_and_is_extended_is_the_longer_run(runs, tmp_path) -> None:
    keys = {"gradient_accumulation_steps": 4, "rows": runs.pool(21), "save_strategy": "steps", "save_steps": 5}
    longer = runs.trained({}, tmp_path / "longer", max_steps=8, **keys)
    runs.trained({}, tmp_path, max_steps=5, **keys)
    extended = runs.trainer({}, tmp_path, max_steps=8, **keys)
    extended.train(resume_from_checkpoint=True)
    assert difference(longer, runs.parameters(extended)) == 0


def test_a_changed_warm_up_is_not_resumed(runs, tmp_path) -> None:
    keys = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    runs.trained({"warmup_step": 1}, tmp_path, **keys)
    with pytest.raises(ConfigError, match="at step 2: warmup_step was 1 and is now 2"):
        runs.trainer({"warmup_step": 2}, tmp_path, **keys).train(str(tmp_path / "out" / "checkpoint-2"))


class _Snapshots:
    def __new__(cls, runs: Any, made: Trainer, kept: dict[int, torch.Tensor]) -> Any:
        from transformers import TrainerCallback

        class Snapshots(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                kept[state.global_step] = runs.parameters(made)

        return Snapshots()
