"""What a run's fingerprint sees: what its result depends on, and nothing else."""

from __future__ import annotations

import json

import pytest
import yaml

from dataflex.config.prepared import prepare
from dataflex.config.run import read_run_file
from dataflex.plugins.manager import PluginManager
from dataflex.plugins.options import PluginOptions
from dataflex.runs import TrainType
from dataflex.study.identity import alike, changes, fingerprint, identity
from dataflex.testing.tiny import tiny_rows, write_dataset

MINE = """
from dataflex import Selector, register_selector

@register_selector("mine")
class Mine(Selector):
    def __init__(self, dataset, accelerator, data_collator, cache_dir, share: float = 0.5, reference: str = ""):
        super().__init__(dataset, accelerator, data_collator, cache_dir)

    def select(self, model, step_id, num_samples, **kwargs):
        return list(range(num_samples))
"""
DEFAULTS = {"weight_decay": 0.0, "warmup_ratio": 0, "eval_dataset": None}


@pytest.fixture
def of(tmp_path):
    """The identity of a run file."""
    (tmp_path / "mine.py").write_text(MINE)
    write_dataset(tmp_path / "data", pool=tiny_rows(4), val=tiny_rows(2, seed=1))
    plugins = PluginManager.load(PluginOptions(files=(tmp_path / "mine.py",)))
    base = {
        "train_type": "dynamic_select",
        "component_name": "mine",
        "dataset": "pool",
        "eval_dataset": "val",
        "dataset_dir": str(tmp_path / "data"),
        "model_name_or_path": "hub/model",
        "do_train": True,
        "warmup_step": 2,
        "update_step": 3,
        "update_times": 2,
        "seed": 1,
    }

    def of(steps=8, **keys):
        path = tmp_path / "run.yaml"
        given = {key: value for key, value in {**base, **keys}.items() if value is not None}
        path.write_text(yaml.safe_dump(given))
        run = read_run_file(path)
        prepared = None if run.train_type is TrainType.STATIC else prepare(run, plugins)
        return identity(run, prepared, steps, DEFAULTS)

    return of


def model(folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(text * 100)
    return str(folder)


def test_a_number_that_decides_changes_it_and_is_told_with_both_values(of):
    before, now = of(learning_rate=1e-3), of(learning_rate=2e-3)
    assert fingerprint(before) != fingerprint(now)
    assert changes(before, now) == ["learning_rate was 0.001 and is now 0.002"]
    assert changes(of(), of(learning_rate=2e-3)) == ["learning_rate was not given and is now 0.002"]


@pytest.mark.parametrize(
    "keys",
    [
        {"output_dir": "elsewhere"},
        {"logging_steps": 3, "report_to": "tensorboard"},
        {"save_steps": 7, "cache_dir": "there"},
        {"weight_decay": 0.0, "warmup_ratio": 0.0},  # defaults, spelt out
        {"component_params": {"share": 0.5}},  # likewise
        {"component_params": {"cache_dir": "there"}},
        {"update_times": None, "train_step": 8},  # the same steps
    ],
)
def test_what_the_result_does_not_depend_on_changes_nothing(of, keys):
    assert of(**keys) == of()


@pytest.mark.parametrize(
    "keys",
    [
        {"component_params": {"share": 0.4}},
        {"seed": 2},
        {"steps": 9},
        {"warmup_step": 1},
        {"per_device_eval_batch_size": 3},
        {"dataset": "pool,val"},
        {"model_name_or_path": "hub/other"},
        {"something_of_a_later_version": 1},
    ],
)
def test_what_it_depends_on_changes_it(of, keys):
    assert of(**keys) != of()


def test_data_counts_by_content_wherever_it_lies(of, tmp_path):
    before = of()
    write_dataset(tmp_path / "moved", pool=tiny_rows(4), val=tiny_rows(2, seed=1))
    assert of(dataset_dir=str(tmp_path / "moved")) == before
    with (tmp_path / "moved" / "pool.jsonl").open("a") as file:
        file.write("\n")
    assert [line.partition(" was")[0] for line in changes(before, of(dataset_dir=str(tmp_path / "moved")))] == [
        "the content of pool"
    ]


def test_a_data_set_of_a_hub_counts_by_name_and_revision(of, tmp_path):
    folder = tmp_path / "data"
    info = json.loads((folder / "dataset_info.json").read_text())
    found = []
    for revision in ("a", "b"):
        info["far"] = {"hf_hub_url": "someone/set", "hub_revision": revision}
        (folder / "dataset_info.json").write_text(json.dumps(info))
        found.append(of(dataset="far"))
    assert found[0]["data:far"]["hub_revision"] == "a" and found[0] != found[1]


def test_a_model_counts_by_content_in_keys_and_in_parameters(of, tmp_path):
    one, copy, other = (model(tmp_path / name, text) for name, text in (("m", b"1"), ("copy", b"1"), ("other", b"2")))
    assert of(model_name_or_path=one) == of(model_name_or_path=copy) != of(model_name_or_path=other)
    with_params = [of(component_params={"reference": path}) for path in (one, copy, other)]
    assert with_params[0] == with_params[1] != with_params[2]


def test_a_static_run_has_one_too(of):
    keys = {"train_type": "static", "component_name": None, "warmup_step": None, "update_step": None}
    assert of(**keys, update_times=None) != of()


def test_arms_alike_but_for_their_names_are_found(of):
    found = {"random": of(), "same": of(component_params={"share": 0.5}), "other": of(component_params={"share": 0.1})}
    assert alike(found) == [("random", "same")]
