"""What is impossible is refused from the run file alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from dataflex.config.checks import problems, static_problems
from dataflex.config.run import read_run_file
from dataflex.config.run_warnings import checkpoint_warnings, warnings
from dataflex.runs import RunFacts, Steps, TrainType
from dataflex.spec import ComponentSpec, Kind, Need


def plan(*, stage="sft", steps=None, needs=(), **arguments) -> RunFacts:
    return RunFacts(
        train_type=TrainType.SELECT,
        stage=stage,
        component=ComponentSpec(kind=Kind.SELECTOR, name="mine", target="m:M", api=1, needs=frozenset(needs)),
        dist="d",
        version="1",
        params={},
        steps=steps or Steps(warmup=4, update=3, times=2),
        output_dir=Path("out"),
        arguments={"do_train": True, **arguments},
        source="run.yaml",
    )


def messages(made: RunFacts) -> str:
    return "\n".join(f"{problem.message} {problem.fix}" for problem in problems(made))


def test_an_ordinary_run_has_no_problem():
    assert messages(plan(max_steps=10)) == ""
    assert messages(plan(model_name_or_path="Qwen/Qwen2.5-0.5B", resume_from_checkpoint=True)) == ""


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"streaming": True}, "streaming: true is not possible here: a streamed data set has no rows to choose from."),
        ({"use_ray": True}, "use_ray: true is not possible here"),
        ({"use_mca": True}, "use_mca: true is not possible here"),
        ({"use_hyper_parallel": True}, "use_hyper_parallel: true is not possible here"),
        ({"auto_find_batch_size": True}, "auto_find_batch_size: true"),
        ({"ignore_data_skip": True}, "ignore_data_skip: true"),
        ({"accelerator_config": {"split_batches": True}}, "accelerator_config.split_batches: true"),
        ({"accelerator_config": {"dispatch_batches": True}}, "accelerator_config.dispatch_batches: true"),
        ({"save_only_model": True, "resume_from_checkpoint": "true"}, "save_only_model keeps no optimizer state"),
        ({"stage": "ppo"}, "stage: ppo has no data order to choose. Use one of pt, sft, dpo, rm, kto."),
        ({"do_train": False}, "do_train is not set"),
        ({"max_steps": 11}, "max_steps=11 differs from the 10 steps of warmup_step=4 + update_step=3 x update_times=2"),
        (
            {"steps": Steps(warmup=4, update=3, train=4)},
            "train_step=4 ends the run before the first boundary at warmup",
        ),
        (
            {"model_name_or_path": "/absent/model"},
            "model_name_or_path: /absent/model is not a directory",
        ),
        ({"resume_from_checkpoint": "absent"}, "resume_from_checkpoint: absent is not a directory"),
        ({"sp_size": 2}, "sp_size > 1: sequence parallelism is not supported"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(keys, message):
    assert message in messages(plan(**keys))


def test_an_eval_set_is_asked_for_only_where_it_is_needed():
    assert "needs an eval set and run.yaml names none" in messages(plan(needs=[Need.EVAL_SET]))
    assert messages(plan(needs=[Need.EVAL_SET], eval_dataset="val")) == ""
    assert messages(plan(needs=[Need.EVAL_SET], val_size=0.1)) == ""


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"steps": Steps(warmup=0, update=3, times=2)}, "empty at warmup_step: 0"),
        ({"optim": "sgd"}, "needs Adam's moments; optim: sgd has none"),
        ({"optim": "adamw_8bit"}, "needs Adam's moments; optim: adamw_8bit has none"),
        ({"optim": "adafactor"}, "optim: adafactor has none"),
    ],
)
def test_optimizer_state_needs_a_warmup_and_adam(keys, message):
    assert message in messages(plan(needs=[Need.OPTIMIZER_STATE], **keys))
    assert messages(plan(needs=[Need.OPTIMIZER_STATE])) == ""


@pytest.mark.parametrize("need", [Need.DOMAIN_LOSSES, Need.SAMPLE_LOSSES])
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"stage": "dpo"}, "reads the training loss of single tokens, and stage: dpo (from run.yaml) has another"),
        ({"use_asft_loss": True}, "cannot see the losses of use_asft_loss"),
        ({"enable_liger_kernel": True}, "needs the model's logits, which enable_liger_kernel keeps to itself"),
    ],
)
def test_losses_are_only_seen_where_there_are_any(need, keys, message):
    assert message in messages(plan(needs=[need], **keys))
    assert messages(plan(needs=[need])) == messages(plan(needs=[need], stage="pt")) == messages(plan(**keys)) == ""


def test_a_selector_has_no_domains():
    assert "only a run with a mixer has" in messages(plan(needs=[Need.DOMAINS]))


def warned(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return "\n".join(warnings(read_run_file(path)))


def test_a_static_run_names_the_keys_it_ignores(tmp_path):
    assert "ignored: component_name, warmup_step." in warned(tmp_path, "component_name: loss\nwarmup_step: 3\n")
    assert warned(tmp_path, "train_type: static\nseed: 3\n") == ""


def test_a_static_run_over_an_old_one_is_told_that_the_old_checkpoints_stay(tmp_path):
    def told(text):
        path = tmp_path / "run.yaml"
        path.write_text(f"output_dir: {tmp_path / 'out'}\n{text}")
        return "\n".join(checkpoint_warnings(read_run_file(path)))

    anew = "overwrite_output_dir: true\n"
    assert told(anew) == ""
    (tmp_path / "out" / "checkpoint-12").mkdir(parents=True)
    assert "holds checkpoints of an earlier run (checkpoint-12), and this static run" in told(anew)
    assert told("") == told("train_type: dynamic_select\n" + anew) == ""  # resumed; put aside


def test_the_learning_rates_warmup_is_not_taken_for_ours(tmp_path):
    assert "warmup_steps warms up the learning rate" in warned(
        tmp_path, "train_type: dynamic_select\nwarmup_steps: 3\n"
    )


def test_ignored_settings_are_named(tmp_path):
    text = "train_type: dynamic_select\ndisable_shuffling: true\nnum_train_epochs: 3\n"
    assert "disable_shuffling has no effect" in warned(tmp_path, text)
    assert "num_train_epochs is ignored" in warned(tmp_path, text)
    assert "num_train_epochs" not in warned(tmp_path, text + "update_times: -1\n")


def test_a_mix_names_the_settings_that_do_nothing(tmp_path):
    text = "train_type: static_mix\nmix_strategy: interleave_under\ninterleave_probs: 0.5,0.5\ncomponent_name: random\n"
    for key in ("mix_strategy", "interleave_probs"):
        assert f"{key} has no effect" in warned(tmp_path, text)
    assert "component_name is ignored" in warned(tmp_path, text)


def test_the_epochs_of_a_static_mix_count_unless_steps_are_given(tmp_path):
    text = "train_type: static_mix\nnum_train_epochs: 3\n"
    assert warned(tmp_path, text) == ""
    for more in ("max_steps: 8\n", "train_step: 8\n", "warmup_step: 2\nupdate_step: 3\nupdate_times: 2\n"):
        assert "num_train_epochs is ignored" in warned(tmp_path, text + more)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("dataloader_drop_last: true", "dataloader_drop_last has no effect: every step of a plan is full"),
        ("train_sampling_strategy: group_by_length", "train_sampling_strategy: group_by_length has no effect"),
        ("accelerator_config: {even_batches: false}", "accelerator_config.even_batches has no effect"),
        ("accelerator_config: {use_seedable_sampler: false}", "accelerator_config.use_seedable_sampler has no effect"),
    ],
)
def test_keys_of_the_loader_that_a_plan_replaces_are_named(tmp_path, keys, told):
    for train_type in ("dynamic_select", "dynamic_mix", "static_mix"):
        assert told in warned(tmp_path, f"train_type: {train_type}\n{keys}\n")
    assert "has no effect" not in warned(tmp_path, f"train_type: dynamic_weight\n{keys}\n")
    assert "has no effect" not in warned(tmp_path, "train_type: dynamic_select\ntrain_sampling_strategy: random\n")


def test_every_key_of_the_stock_loader_is_dealt_with():
    """A key that a new transformers gives its loader shows up here: honour it, refuse it, or warn of it."""
    from dataclasses import fields

    from transformers import TrainingArguments

    from dataflex.config import checks, run_warnings

    warned_of = {*run_warnings._IGNORED, run_warnings._SAMPLING}
    refused = {key for key, *_ in checks._REFUSED} | {"accelerator_config", "parallelism_config"}
    at_work = {"seed", "data_seed", "remove_unused_columns", "label_names", "length_column_name"}
    at_work |= {f"dataloader_{name}" for name in ("num_workers", "pin_memory", "persistent_workers", "prefetch_factor")}
    of_the_loader = {
        field.name
        for field in fields(TrainingArguments)
        if field.name.startswith(("dataloader_", "accelerator_")) or "sampl" in field.name or field.name == "data_seed"
    }
    assert of_the_loader <= warned_of | refused | at_work


def test_every_key_that_is_looked_for_is_a_key_of_the_installed_llamafactory():
    """A misspelt or vanished key in a check would never be found."""
    from dataflex.bridge.llamafactory import known_keys
    from dataflex.config import checks, needs, run_warnings

    known = set(known_keys())
    # The first is of transformers 4, which the oldest LlamaFactory runs on; the second is a variable by now.
    vanished = {"group_by_length", "use_ray"}
    looked_for = {key for key, *_ in checks._REFUSED} | {*checks._COUNTS, *needs._OTHER_LOSSES}
    looked_for |= {*run_warnings._IGNORED, run_warnings._SAMPLING, run_warnings.COUNTS_WHOLE_POOL}
    looked_for |= {*run_warnings._MIXED_BY_LLAMAFACTORY}
    assert looked_for - known <= vanished


def test_ray_is_refused_by_its_variable_too(monkeypatch):
    monkeypatch.setenv("USE_RAY", "1")
    (problem,) = [one for one in problems(plan()) if "Ray" in one.message]
    assert "USE_RAY (of the environment) is not possible here" in problem.message and "FORCE_TORCHRUN" in problem.fix


@pytest.mark.parametrize("most", [0, -1])
def test_a_number_of_rows_that_leaves_none_is_named_and_no_data_set(tmp_path, most):
    assert f"max_samples: {most} leaves no row of any data set" in messages(plan(max_samples=most))
    path = tmp_path / "run.yaml"
    path.write_text(f"max_samples: {most}\n")
    assert [problem.message for problem in static_problems(read_run_file(path))] == [
        f"max_samples: {most} leaves no row of any data set."
    ]
    assert messages(plan(max_samples=1)) == messages(plan(max_samples=None)) == ""


def test_a_problem_names_the_command_line_where_the_value_came_from_it():
    made = dataclasses.replace(plan(max_steps=11), origins={"max_steps": "the command line"})
    assert "update_step=3 x update_times=2 (from run.yaml and the command line)" in messages(made)
    made = dataclasses.replace(
        plan(steps=Steps(warmup=4, update=3, train=4)), origins={"train_step": "the command line"}
    )
    assert "warmup_step=4 (from the command line and run.yaml)" in messages(made)
