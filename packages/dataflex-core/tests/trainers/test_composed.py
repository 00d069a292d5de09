"""Several components in one run: shares met whatever is selected, weights by domain, and one run across any break."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dataflex.errors import ComponentError, ConfigError
from dataflex.record.plans import plan_name, result_name
from dataflex.report.page import write_report

DOMAINS = {"a": 12, "b": 20}  # those of composed_runs
HALVES = {"init_mixture_proportions": [0.5, 0.5]}


@pytest.fixture(autouse=True)
def runs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import composed_runs

    return composed_runs


def decisions(folder: Path) -> list[dict[str, Any]]:
    import composed_runs

    return composed_runs.decisions(folder)


def plans(folder: Path) -> dict[str, list[int]]:
    import composed_runs

    return composed_runs.plans(folder)


def trained(runs: Any, folder: Path, keys: dict[str, Any], **more: Any) -> Any:
    return runs.trained(folder, keys, **more)


def test_every_global_batch_has_the_domains_it_would_have_without_a_selector(runs, tmp_path) -> None:
    for name, components in {"mix": {"mixer": "tilts"}, "both": {"mixer": "tilts", "selector": "draws"}}.items():
        trained(runs, tmp_path, {"components": components, **HALVES}, out=name)
    for step in (0, 1, 3, 5):
        mixed, both = (np.load(tmp_path / name / plan_name(step)).reshape(-1, 4) for name in ("mix", "both"))
        assert ((mixed >= 12).sum(axis=1) == (both >= 12).sum(axis=1)).all()
        assert step == 0 or mixed.tolist() != both.tolist()
    shares = [each["metrics"] for each in decisions(tmp_path / "both") if each["kind"] == "mixer"]
    assert [each["samples"] for each in shares] == [each["metrics"]["samples"] for each in decisions(tmp_path / "mix")]


@pytest.mark.parametrize(
    ("alone", "components"),
    [
        ({"train_type": "dynamic_select", "component_name": "draws"}, {"selector": "draws"}),
        ({"train_type": "dynamic_mix", "component_name": "halves", **HALVES}, {"mixer": "halves"}),
    ],
    ids=["selector", "mixer"],
)
def test_one_component_under_dynamic_trains_as_under_its_own_train_type(runs, tmp_path, alone, components) -> None:
    mixture = {key: alone[key] for key in HALVES if key in alone}
    single = trained(runs, tmp_path, alone, out="single", rows=24, domains={"a": 10, "b": 14})
    both = trained(runs, tmp_path, {"components": components, **mixture}, out="both", domains={"a": 10, "b": 14})
    assert torch.equal(runs.weights(single), runs.weights(both))
    assert plans(tmp_path / "single") == plans(tmp_path / "both")
    assert decisions(tmp_path / "single") == decisions(tmp_path / "both")


def test_a_weighter_alone_under_dynamic_keeps_the_stock_epochs(runs, tmp_path) -> None:
    keys = {"update_step": 7, "train_step": 5}
    single = {"train_type": "dynamic_weight", "component_name": "easy", **keys}
    one = trained(runs, tmp_path, single, out="single", domains=None)
    two = trained(runs, tmp_path, {"components": {"weighter": "easy"}, **keys}, out="dynamic", domains=None)
    assert torch.equal(runs.weights(one), runs.weights(two))


def test_a_selector_within_the_only_domain_chooses_what_it_would_of_the_pool(runs, tmp_path) -> None:
    trained(runs, tmp_path, {"train_type": "dynamic_select", "component_name": "draws"}, out="pool", domains=None)
    components = {"mixer": "static", "selector": "draws"}
    keys = {"components": components, "mixture_sample_rule": "uniform"}
    trained(runs, tmp_path, keys, out="domain", domains={"only": 24})
    for step in (1, 3, 5):
        selected = np.load(tmp_path / "pool" / result_name(step)).reshape(-1, 4)
        planned = np.load(tmp_path / "domain" / plan_name(step)).reshape(-1, 4)
        assert np.sort(selected).tolist() == np.sort(planned).tolist()


def test_no_two_domains_draw_alike(runs, tmp_path) -> None:
    keys = {"components": {"mixer": "static", "selector": "draws"}, **HALVES}
    trained(runs, tmp_path, keys, domains={"a": 16, "b": 16})
    for step in (0, 1, 3, 5):
        rows = np.load(tmp_path / "out" / plan_name(step))
        one, two = (sorted(rows[(rows >= first) & (rows < first + 16)] - first) for first in (0, 16))
        assert one != two


def test_a_selector_is_asked_for_the_rows_until_its_next_turn_and_keeps_its_own_state(runs, tmp_path) -> None:
    keys = {"components": {"mixer": "tilts", "selector": {"name": "first", "every": 2}}, **HALVES}
    made = trained(runs, tmp_path, keys)
    calls = [call for call in made.parts.opened["selector@a"].component.select.__func__.__globals__["CALLS"]]
    asked = [call[1:] for call in calls if call[0] == "select"]
    # Boundary 0 at a share of .4, for the 16 samples of two stages; boundary 2 at .2, for the 8 of the last one.
    assert asked == [("a", 1, 6, 12), ("b", 1, 10, 20), ("a", 5, 1, 12), ("b", 5, 7, 20)]
    assert [call[1] for call in calls if call[0] == "mix"] == [1, 3, 5]
    assert {name: asking.state_dict() for name, asking in made.parts.opened.items()} == {
        "mixer": {"moved": 3}, "selector@a": {"at": 7}, "selector@b": {"at": 17},
    }  # fmt: skip
    kinds = [(each["step"], each["kind"], bool(each["plan_ref"])) for each in decisions(tmp_path / "out")]
    assert kinds == [
        (1, "mixer", False), (1, "selector", True), (3, "mixer", True), (5, "mixer", False), (5, "selector", True),
    ]  # fmt: skip
    info = json.loads((tmp_path / "out" / "dataflex" / "run.json").read_text())
    assert [(each["kind"], each["component"], each["every"], each["keep"]) for each in info["components"]] == [
        ("mixer", "tilts", 1, "stage"), ("selector", "first", 2, "stage"),
    ]  # fmt: skip


def test_a_share_of_each_domain_is_kept_and_all_of_it_served_before_any_comes_again(runs, tmp_path) -> None:
    selector = {"name": "draws", "keep": 0.25, "every": 3}
    trained(runs, tmp_path, {"components": {"mixer": "static", "selector": selector}, **HALVES})
    chosen = np.load(tmp_path / "out" / result_name(1, "selector"))
    assert len(chosen) == len(set(chosen)) == 3 + 5
    rows = np.concatenate([np.load(tmp_path / "out" / plan_name(step)) for step in (1, 3, 5)])
    for first, end, size in ((0, 12, 3), (12, 32, 5)):
        kept = {int(row) for row in chosen if first <= row < end}
        served = [int(row) for row in rows if first <= row < end]
        times = [served.count(row) for row in kept]
        assert len(kept) == size and set(served) <= kept and max(times) - min(times) <= 1
    with pytest.raises(ComponentError, match=r"domain a.*returned row 0 more than once, where a share"):
        selector = {"name": "twice", "keep": 0.25}
        trained(runs, tmp_path, {"components": {"mixer": "static", "selector": selector}, **HALVES}, out="twice")


def test_a_domain_with_fewer_rows_than_asked_gives_whole_passes_and_the_rest(runs, tmp_path) -> None:
    keys = {"components": {"mixer": "static", "selector": "first"}, **HALVES}
    trained(runs, tmp_path, {**keys, "update_step": 7, "update_times": 1}, domains={"a": 6, "b": 26})
    rows = np.load(tmp_path / "out" / result_name(1, "selector"))
    of_a = rows[rows < 6]
    assert np.bincount(of_a, minlength=6).tolist() == [3, 3, 2, 2, 2, 2]  # 14 = 2 passes and the first two


def test_candidates_are_handed_to_one_instance_for_all_domains(runs, tmp_path) -> None:
    made = trained(runs, tmp_path, {"components": {"mixer": "tilts", "selector": "whole"}, **HALVES})
    calls = made.parts.opened["selector"].component.select.__func__.__globals__["CALLS"]
    assert [call for call in calls if call[0] == "whole"] == [
        ("whole", 8, (3, 5)), ("whole", 8, (3, 5)), ("whole", 8, (1, 7)),
    ]  # fmt: skip
    assert np.load(tmp_path / "out" / result_name(5, "selector")).tolist() == [0, *range(12, 19)]


def test_weights_of_chosen_rows_come_into_the_loss_beside_a_mixer(runs, tmp_path) -> None:
    keys = {"components": {"mixer": "static", "selector": "pruned"}, **HALVES}
    made = trained(runs, tmp_path, keys, save_strategy="steps", save_steps=2)
    plan = np.load(tmp_path / "out" / plan_name(1))
    kept = np.load(tmp_path / "out" / "checkpoint-2" / "dataflex" / "plan_weights.npy")
    assert kept.tolist() == np.where(np.isin(plan, (0, 12)), 3.0, 1.0).tolist()
    plain = trained(runs, tmp_path, {"components": {"mixer": "static", "selector": "whole"}, **HALVES}, out="plain")
    assert not torch.equal(runs.weights(made), runs.weights(plain))


FOUR = {"components": {"mixer": "halves", "selector": {"name": "breaks", "every": 2}, "weighter": "easy"}, **HALVES}
SAVES = {"save_strategy": "steps", "save_steps": 1}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A run of three parts that nothing befell, and its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        import composed_runs

        folder = tmp_path_factory.mktemp("whole")
        return trained(composed_runs, folder, FOUR), folder / "out"


@pytest.mark.parametrize("step", [1, 3, 4, 5])
def test_a_run_of_three_parts_that_is_stopped_anywhere_ends_as_one_that_is_not(runs, tmp_path, whole, step) -> None:
    first = runs.trainer(tmp_path, FOUR, domains=DOMAINS, **SAVES)
    first.add_callback(runs.StopAt(step))
    first.train()
    resumed = runs.trainer(tmp_path, FOUR, domains=DOMAINS, **SAVES)
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(runs.weights(whole[0]), runs.weights(resumed))
    assert decisions(whole[1]) == decisions(tmp_path / "out")
    assert plans(whole[1]) == plans(tmp_path / "out")


@pytest.mark.parametrize(
    ("planted", "named"),
    [
        ("select 5 b", r"selector 'breaks' .*\(domain b\) failed in select\(\) at step 5: OSError: planted"),
        ("select 5 a", r"selector 'breaks' .*\(domain a\) failed in select\(\) at step 5: OSError: planted"),
        ("mixer 4 ", r"mixer 'halves' .* failed in on_step\(\) at step 4: OSError: planted"),
        ("weighter 4 ", r"weighter 'easy' .* failed in on_step\(\) at step 4: OSError: planted"),
    ],
)
def test_a_part_that_fails_leaves_all_as_they_were_so_that_the_repaired_run_is_one(
    runs, tmp_path, whole, planted, named
) -> None:
    (tmp_path / "broken").write_text(planted)
    with pytest.raises(ComponentError, match=named):
        trained(runs, tmp_path, FOUR)
    (tmp_path / "broken").unlink()
    repaired = runs.trainer(tmp_path, FOUR, domains=DOMAINS)
    repaired.train(resume_from_checkpoint=True)
    assert torch.equal(runs.weights(whole[0]), runs.weights(repaired))
    for name, asking in whole[0].parts.opened.items():
        assert asking.state_dict() == repaired.parts.opened[name].state_dict()
    assert decisions(whole[1]) == decisions(tmp_path / "out")


def test_the_warm_up_is_what_the_selector_says_within_each_domain(runs, tmp_path) -> None:
    keys = {"components": {"mixer": "static", "selector": "opens"}, **HALVES, "warmup_step": 2}
    made = trained(runs, tmp_path, keys)
    calls = made.parts.opened["selector@a"].component.select.__func__.__globals__["CALLS"]
    (a, b) = [call[1:] for call in calls if call[0] == "warmup"]
    assert (a[:3], b[:3]) == (("a", 4, 12), ("b", 4, 20))
    assert [Path(each[3]).parts[-2:] for each in (a, b)] == [("opens", "a"), ("opens", "b")]  # a folder for each
    assert sorted(np.load(tmp_path / "out" / plan_name(0))) == [8, 9, 10, 11, 28, 29, 30, 31]


def test_as_many_stages_as_the_pool_has_rows_for(runs, tmp_path) -> None:
    keys = {"components": {"mixer": "tilts", "selector": "draws"}, **HALVES, "update_times": -1}
    made = runs.trainer(tmp_path, keys, domains=DOMAINS, num_train_epochs=1)
    alone = {"train_type": "dynamic_select", "component_name": "draws", "update_times": -1}
    single = runs.trainer(tmp_path, alone, out="single", rows=32, num_train_epochs=1)
    for each in (made, single):
        each.train()
    assert made.state.global_step == single.state.global_step


def test_a_checkpoint_names_all_parts_and_has_their_parameters_and_plans_by_kind(runs, tmp_path) -> None:
    orderer = {"name": "folds", "params": {"by": "length"}}
    keys = {"components": {"mixer": "halves", "selector": "hears", "orderer": orderer, "weighter": "easy"}, **HALVES}
    trained(runs, tmp_path, keys, **SAVES)
    folder = tmp_path / "out" / "checkpoint-4" / "dataflex"
    engine = json.loads((folder / "engine.json").read_text())
    assert engine["component"] == "mixer halves + selector hears + orderer folds + weighter easy"
    assert list(engine["params"]) == ["mixer", "selector", "orderer", "weighter"]
    assert engine["params"]["orderer"]["by"] == "length"
    assert set(engine["planner"]) >= {"mixer", "selector"}
    kept = (folder / "component.json").read_text()
    assert all(f'"{name}' in kept for name in ("mixer/seen", "selector@a/times", "selector@b/times", "weighter/seen"))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"weighter": "equal"}, r"mixer halves \+ orderer folds \+ weighter easy.* weighter equal"),
        ({"weighter": None}, r"mixer halves \+ orderer folds \+ weighter easy"),
    ],
    ids=["another component", "one part less"],
)
def test_no_part_may_change_at_a_resume(runs, tmp_path, other, said) -> None:
    orderer = {"name": "folds", "params": {"by": "length"}}
    keys = {"components": {"mixer": "halves", "orderer": orderer, "weighter": "easy"}, **HALVES, "update_times": 1}
    trained(runs, tmp_path, keys, **SAVES)
    changed = {**keys, "components": {**keys["components"], **other}, "update_times": 2}
    with pytest.raises(ConfigError, match=said):
        runs.trainer(tmp_path, changed, domains=DOMAINS).train(resume_from_checkpoint=True)


def test_every_and_keep_may_not_change_at_a_resume(runs, tmp_path) -> None:
    first = runs.trainer(tmp_path, FOUR, domains=DOMAINS, **SAVES)
    first.add_callback(runs.StopAt(2))
    first.train()
    other = {**FOUR, "components": {**FOUR["components"], "selector": {"name": "breaks", "every": 3}}}
    with pytest.raises(ConfigError, match=r"components was .*'breaks', 2, 'stage'.* and is now .*'breaks', 3"):
        runs.trainer(tmp_path, other, domains=DOMAINS).train(resume_from_checkpoint=True)


def test_a_longer_run_goes_on_in_the_middle_of_a_stage(runs, tmp_path) -> None:
    keys = {**FOUR, "train_step": 4}
    runs.trainer(tmp_path, keys, domains=DOMAINS, **SAVES).train()
    longer = runs.trainer(tmp_path, {**FOUR, "train_step": 7}, domains=DOMAINS)
    longer.train(resume_from_checkpoint=True)
    assert longer.state.global_step == 7
    rows = np.concatenate([np.load(tmp_path / "out" / plan_name(step)) for step in (4, 5)])
    assert (rows[:4] >= 12).sum() == 2 and len(rows) == 4 + 8


@pytest.mark.parametrize(
    "components",
    [
        {"mixer": "tilts", "orderer": {"name": "folds", "params": {"by": "loss"}}},
        {"mixer": "halves", "selector": {"name": "first", "every": 2}, "orderer": "folds", "weighter": "easy"},
        {"selector": "first", "orderer": "folds"},
    ],
    ids=["mixer and orderer", "all four", "selector and orderer"],
)
def test_an_orderer_changes_no_batchs_mixture_and_the_run_goes_on_from_anywhere(runs, tmp_path, components) -> None:
    keys = {"components": components, **(HALVES if "mixer" in components else {})}
    whole = trained(runs, tmp_path, keys, out="whole")
    first = runs.trainer(tmp_path, keys, domains=DOMAINS, **SAVES)
    first.add_callback(runs.StopAt(2))  # before a boundary at which a selector of every second one is not asked
    first.train()
    resumed = runs.trainer(tmp_path, keys, domains=DOMAINS)
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(runs.weights(whole), runs.weights(resumed))
    assert decisions(tmp_path / "whole") == decisions(tmp_path / "out")
    others = {kind: value for kind, value in components.items() if kind != "orderer"}
    trained(runs, tmp_path, {**keys, "components": others}, out="unordered")
    for step in (1, 3, 5):
        ordered = np.load(tmp_path / "whole" / plan_name(step)).reshape(-1, 4)
        name = plan_name(step) if "mixer" in components else result_name(step)
        plain = np.load(tmp_path / "unordered" / name).reshape(-1, 4)
        if "mixer" in components:
            assert ((ordered >= 12).sum(axis=1) == (plain >= 12).sum(axis=1)).all()
        if "selector" in components and "mixer" not in components:
            assert np.sort(ordered, axis=None).tolist() == np.sort(plain, axis=None).tolist()
        assert step == 5 or ordered.tolist() != plain.tolist()


def test_a_report_shows_what_each_part_did(runs, tmp_path) -> None:
    orderer = {"name": "folds", "params": {"by": "length"}}
    keys = {"components": {"mixer": "tilts", "selector": "first", "orderer": orderer, "weighter": "equal"}, **HALVES}
    trained(runs, tmp_path, {**keys, "update_times": 5})
    write_report([tmp_path / "out"], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    shown = re.findall(r"<h[1-4][^>]*>(.*?)</h", page)
    parts = {
        "mixer": ["Proportions asked for", "Samples realised"],
        "selector": ["Scores of the pool and of the chosen rows", "Overlap with the selection before"],
        "orderer": ["Scores along the order", "rank_correlation", "Parameters of the orderer"],
        "weighter": ["Weights of samples", "Weighted and unweighted loss"],
    }
    assert {kind: [each for each in headings if each not in shown] for kind, headings in parts.items()} == {
        kind: [] for kind in parts
    }
