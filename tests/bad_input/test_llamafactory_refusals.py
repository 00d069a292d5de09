"""What LlamaFactory's own parser refuses is an error of ours, for dynamic and for static runs, before a model loads."""

from __future__ import annotations

import pytest
import yaml
from run_mutations import VALID

RUNS = {"dynamic": VALID["select by loss"], "static": {"train_type": "static"}, "no train type": {}}
REFUSED = {
    "two sources of an eval set": (
        {"val_size": 0.1, "eval_dataset": "val"},
        "Cannot specify `val_size` if `eval_dataset` is not None. It is about eval_dataset: 'val', val_size: 0.1.",
    ),
    "an optimizer that is not there": ({"optim": "nope"}, "nope is not a valid OptimizerNames"),
    "a seed out of range": ({"seed": 10**30}, "Seed must be between 0 and 2**32 - 1"),
    "a key of its loader that is not there": (
        {"accelerator_config": {"even": True}},
        "TypeError: AcceleratorConfig.__init__() got an unexpected keyword argument 'even'",
    ),
    "JSON that is cut short": ({"ray_init_kwargs": "{"}, "JSONDecodeError: Expecting property name"),
}


@pytest.fixture
def started(stage, folder, rest):
    def started(keys, **changes):
        (folder / "run.yaml").write_text(yaml.safe_dump({**rest, **keys, **changes}))
        return stage.start(folder / "run.yaml")

    return started


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize(
    "what", [pytest.param(w, marks=pytest.mark.bad_input(w, file="LlamaFactory's keys")) for w in REFUSED]
)
def test_what_llamafactory_refuses_is_told_without_a_traceback(started, kind, what, seen):
    changes, reason = REFUSED[what]
    run = started(RUNS[kind], **changes)
    assert run.code == 2 and "Traceback" not in run.told
    message = seen(run.told) if kind == "dynamic" else run.told
    assert "LlamaFactory refuses the keys of run.yaml: " in message and reason in message


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.bad_input("an output_dir that holds another model", file="LlamaFactory's keys")
def test_an_output_directory_with_a_model_in_it_is_refused(started, folder, kind, seen):
    (folder / "taken").mkdir(exist_ok=True)
    (folder / "taken" / "adapter_model.safetensors").touch()
    run = started(RUNS[kind], output_dir=str(folder / "taken"))
    assert run.code == 2
    assert "Output directory already exists and is not empty." in seen(run.told)
    assert f"It is about output_dir: '{folder / 'taken'}'" in run.told


def test_a_secret_is_not_repeated(started):
    run = started({}, hub_token="s3cret-value", hub_strategy="s3cret-value")
    assert run.code == 2
    assert "hub_token: '(hidden)'" in run.told or "hub_token" not in run.told


@pytest.mark.parametrize("key", ["stage", "finetuning_type"])
def test_a_word_that_is_none_of_llamafactorys_is_refused_before_it_is_asked(started, key):
    run = started(RUNS["static"], **{key: "ful"})
    assert run.code == 2 and run.arguments is None
    assert f"{key}: 'ful' (from run.yaml) is not one of " in run.told


def test_parsing_is_llamafactorys_own(stage, started):
    from llamafactory.train import tuner

    before = tuner.get_train_args
    run = started(RUNS["static"], learning_rate=3e-4)
    assert run.code == 0 and run.arguments["learning_rate"] == 3e-4
    assert tuner.get_train_args is before


LATER = {
    "learning_rate": float("nan"),
    "logging_steps": -3,
    "do_train": "yes",
    "cutoff_len": 0,
    "warmup_ratio": 7.0,
    "lora_target": "nowhere",
    "adapter_name_or_path": "nowhere/adapter",
    "weight_decay": float("nan"),
    "eval_steps": -2,
}
"""What LlamaFactory looks at only after it has parsed the keys; docs/configuration.md lists it."""


@pytest.mark.parametrize("key", LATER)
def test_what_is_listed_as_checked_later_passes_the_parser(started, key):
    assert started(RUNS["static"], **{key: LATER[key]}).code == 0
