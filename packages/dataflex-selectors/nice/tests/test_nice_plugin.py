from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from importlib_metadata import entry_points

from dataflex import ConfigError
from dataflex.runs import RunFacts, Steps, TrainType
from dataflex.spec import API, Kind
from dataflex.testing import make_context
from dataflex.testing.subject import Subject, bind_values
from dataflex_selectors_nice import plugin
from dataflex_selectors_nice.params import NiceParams

SPEC = plugin.dataflex_components()[0]
OVERLAP = "dataflex_selectors_nice.rewards:overlap"


def facts(*, stage: str = "sft", arguments: Any = None, **params: Any) -> RunFacts:
    return RunFacts(
        train_type=TrainType.SELECT,
        stage=stage,
        component=SPEC,
        dist="dataflex-selectors-nice",
        version="0.1.0",
        params=dataclasses.asdict(NiceParams(**{"reward": OVERLAP, **params})),
        steps=Steps(warmup=5, update=10, times=3),
        output_dir=Path("out"),
        arguments={"per_device_train_batch_size": 2, **(arguments or {})},
        source="run.yaml",
    )


def bound(**values: Any) -> Any:
    return bind_values(Subject(name="nice", kind=Kind.SELECTOR).find(), values)


def test_the_entry_point_names_the_plugin() -> None:
    points = [point for point in entry_points(group="dataflex.components") if point.value == plugin.__name__]
    assert [point.load() for point in points] == [plugin]


def test_plugin_and_params_import_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, dataflex_selectors_nice.plugin as p, dataflex_selectors_nice.params\n"
        "p.dataflex_components()\n"
        "print(sorted({'torch', 'numpy', 'rich', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_the_spec_names_what_exists() -> None:
    assert SPEC.api == API
    for reference in (SPEC.target, SPEC.params):
        assert reference is not None
        module, name = reference.split(":")
        assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("stage", ["dpo", "rm", "kto", "pt"])
def test_stages_without_prompts_and_single_answers_are_refused(stage: str) -> None:
    (problem,) = plugin.dataflex_check_run(facts(stage=stage))
    assert f"stage: {stage} (from run.yaml)" in problem.message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fsdp": "full_shard auto_wrap"}, "every token is an exchange"),
        ({"optim": "sgd"}, "needs Adam's moments"),
        ({"train_on_prompt": True}, "labels do not tell them from answers"),
        ({"neat_packing": True}, "packed rows hold several"),
    ],
)
def test_runs_it_cannot_serve_are_refused(arguments: Any, message: str) -> None:
    (problem,) = plugin.dataflex_check_run(facts(arguments=arguments))
    assert message in problem.message


@pytest.mark.parametrize(
    ("reward", "message"),
    [("no_such_module:f", "cannot be found"), ("no.such.module:f", "cannot be found"), ("./nowhere", "does not exist")],
)
def test_a_reward_that_cannot_be_found_is_told_before_the_model_loads(reward: str, message: str) -> None:
    (problem,) = plugin.dataflex_check_run(facts(reward=reward))
    assert message in problem.message


@pytest.mark.parametrize("reward", [OVERLAP, "exact_match", "someone/a-reward-model"])
def test_other_rewards_are_not_refused(reward: str) -> None:
    assert plugin.dataflex_check_run(facts(reward=reward)) == []
    assert plugin.dataflex_check_run(facts(reward=reward, preconditioner="sgd", arguments={"optim": "sgd"})) == []


def test_names_of_older_files_are_understood_left_out_or_refused() -> None:
    given = {"gradient_type": "adam", "reward_model_path": "judge", "mc_samples": 2, "save_interval": 8}
    left_out = {"reward_model_backend": "api", "reward_backend_params": {}, "max_prompt_length": 256}
    assert bound(**given, **left_out).params == NiceParams(reward="judge", preconditioner="adam", mc_samples=2)
    with pytest.raises(ConfigError, match="sampled from the model in training"):
        bound(reward=OVERLAP, policy_model_path="other")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "reward"),
        ({"reward": " "}, "reward is empty"),
        ({"reward": "a", "mc_samples": 1}, "mc_samples: 1 .* must be at least 2"),
        ({"reward": "a", "top_p": 0}, "top_p"),
        ({"reward": "a", "targets": []}, "names no eval set"),
    ],
)
def test_parameters_out_of_range_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bound(**given)


def test_every_parameter_has_a_help_text() -> None:
    assert all(field.metadata["help"] for field in dataclasses.fields(NiceParams))


def test_a_classifier_judges_and_a_language_model_is_none(tmp_path: Path) -> None:
    """dataflex 1.1.0 drew the missing head at random and said nothing."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    from dataflex.testing.tiny import write_model
    from dataflex_selectors_nice.judging import Judge

    language = write_model(tmp_path / "language")
    context = make_context([], list)
    with pytest.raises(ConfigError, match=r"is no trained classifier: it has no weights for score\.weight"):
        Judge(str(language), context).rewards("Q", ["a"], "b")
    config = AutoConfig.from_pretrained(language, num_labels=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForSequenceClassification.from_config(config).save_pretrained(language)
    before = torch.get_rng_state()
    judge = Judge(str(language), context)
    first, second = judge.rewards("Question", ["short", "a longer answer"], "reference")
    assert first != second
    assert judge.rewards("Question", ["a longer answer"], "another") == [second]  # whatever stands beside it
    assert torch.equal(torch.get_rng_state(), before)
    judge.free()
