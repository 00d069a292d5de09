"""What differs between the keys of a checkpoint and those of the run that goes on from it."""

from __future__ import annotations

import json

import pytest

from dataflex.checkpoint_keys.compare import ModelFiles, RunKeys, compare, deciding_changes


def keys(given=None, **arguments):
    return RunKeys(arguments=arguments, given=sorted(arguments) if given is None else given, ranks=1)


def told(changes):
    return [str(change) for change in changes]


def test_equal_keys_are_no_change():
    found = compare(keys(learning_rate=1e-3, optim="sgd"), keys(learning_rate=1e-3, optim="sgd"))
    assert not any((*found.silent, *found.optimizer, *found.noted, *found.content, *found.refused, *found.unknown))


def test_each_changed_key_goes_to_its_class_with_both_values():
    before = keys(save_steps=2, learning_rate=1e-3, max_grad_norm=1.0, cutoff_len=128, optim="sgd", brand_new=1)
    now = keys(save_steps=6, learning_rate=1e-5, max_grad_norm=0.5, cutoff_len=96, optim="adafactor", brand_new=2)
    found = compare(before, now)
    assert told(found.silent) == ["save_steps was 2 and is now 6"]
    assert told(found.optimizer) == ["learning_rate was 0.001 and is now 1e-05"]
    assert told(found.noted) == ["max_grad_norm was 1.0 and is now 0.5"]
    assert told(found.content) == ["cutoff_len was 128 and is now 96"]
    assert told(found.refused) == ["optim was 'sgd' and is now 'adafactor'"]
    assert told(found.unknown) == ["brand_new was 1 and is now 2"]


def test_a_default_that_another_version_changed_is_no_change():
    before, now = keys([], optim="adamw_torch"), keys([], optim="adamw_torch_fused")
    assert compare(before, now).refused == []


@pytest.mark.parametrize(("then", "here"), [(["optim"], []), ([], ["optim"]), (["optim"], ["optim"])])
def test_a_key_that_was_given_then_or_now_is_compared(then, here):
    before, now = keys(then, optim="adamw_torch"), keys(here, optim="adamw_torch_fused")
    assert told(compare(before, now).refused) == ["optim was 'adamw_torch' and is now 'adamw_torch_fused'"]


def test_a_default_that_is_written_down_is_no_change():
    assert compare(keys([], lora_rank=8), keys(["lora_rank"], lora_rank=8)).refused == []


def test_a_key_that_a_version_does_not_have_is_named_and_never_refused():
    gone = compare(keys(use_dft_loss=True), keys())
    assert gone.refused == [] and "use_dft_loss was true" in told(gone.unknown)[0]
    assert "the installed version has no such key" in told(gone.unknown)[0]
    new = compare(keys(), keys(use_dft_loss=True))
    assert new.refused == [] and "the version of the checkpoint had no such key" in told(new.unknown)[0]
    assert compare(keys([], use_dft_loss=True), keys()).unknown == []
    assert compare(keys(save_only_model=True), keys()).unknown == [], "what is only saved needs no word"


@pytest.mark.parametrize(
    ("name", "then", "here"),
    [
        ("lora_target", ["q_proj", "v_proj"], ["v_proj", "q_proj"]),
        ("lora_target", "q_proj,v_proj", ["v_proj", "q_proj"]),
        ("lr_scheduler_kwargs", None, {}),
        ("warmup_steps", 0, 0.0),
    ],
)
def test_another_spelling_of_the_same_is_no_change(name, then, here):
    assert compare(keys(**{name: then}), keys(**{name: here})).refused == []


@pytest.mark.parametrize(("then", "here"), [(False, None), (0, None), (0.0, 0.1), ([], ["q_proj"])])
def test_nothing_is_not_taken_for_zero(then, here):
    assert len(compare(keys(lora_target=then), keys(lora_target=here)).refused) == 1


def own(ranks=1, models=None, **dataflex):
    return RunKeys(dataflex=dataflex, ranks=ranks, models=models or {})


def test_parameters_of_the_component_are_named_one_by_one():
    then = own(component_params={"a": 1, "b": {"x": 1}, "gone": 3})
    found = compare(then, own(component_params={"a": 1, "b": {"x": 2}, "new": 4}))
    assert [change.name for change in found.noted] == [
        "component_params.b",
        "component_params.gone",
        "component_params.new",
    ]


def test_length_ranks_and_repeats_are_noted():
    then = own(1, update_times=5, train_step=0, mixture_max_epochs=None)
    found = compare(then, own(2, update_times=-1, train_step=22, mixture_max_epochs={"web": 2.0}))
    assert [change.name for change in found.noted] == ["mixture_max_epochs", "train_step", "update_times", "ranks"]


def test_a_moved_model_is_no_change_and_another_one_under_the_same_path_is_refused():
    def at(path, identity):
        return RunKeys(models={"model_name_or_path": ModelFiles(path=path, identity=identity)})

    assert compare(at("a", "1"), at("b", "1")).refused == []
    assert told(compare(at("a", "1"), at("a", "2")).refused) == [
        "model_name_or_path was 'a' and is now 'a', another model by the content of its files"
    ]
    assert compare(at("org/a", ""), at("org/a", "")).refused == []
    assert compare(at("org/a", ""), at("org/a", "1")).refused == [], "by name where the files are known once only"
    assert told(compare(at("org/a", ""), at("org/b", "")).refused) == [
        "model_name_or_path was 'org/a' and is now 'org/b'"
    ]
    assert told(compare(at("", ""), at("b", "1")).refused) == ["model_name_or_path was null and is now 'b'"]


def test_a_model_that_a_parameter_names_is_known_by_content_too():
    def naming(path, identity):
        files = {"component_params.reference": ModelFiles(path=path, identity=identity)}
        return own(models=files, component_params={"reference": path})

    assert compare(naming("a", "1"), naming("b", "1")).noted == []
    assert "another model" in told(compare(naming("a", "1"), naming("a", "2")).noted)[0]
    assert compare(naming("a", "1"), naming("a", "2")).refused == [], "parameters may change"


def test_only_what_is_of_interest_is_compared():
    found = compare(
        keys(lora_rank=8, learning_rate=1.0, bf16=True),
        keys(lora_rank=4, learning_rate=2.0, bf16=False),
        of_interest=lambda group: group.model,
    )
    assert [change.name for change in found.refused] == ["lora_rank"] and not found.optimizer


def test_keys_come_back_from_json_as_they_were():
    whole = RunKeys(
        arguments={"learning_rate": 1e-3}, given=["learning_rate"], dataflex={"train_step": 3}, ranks=2,
        models={"model_name_or_path": ModelFiles(path="a", identity="1")}, paths={"place": "/x"},
    )  # fmt: skip
    record = json.loads(json.dumps(whole.to_json()))
    assert RunKeys.from_json({**record, "of_a_later_version": 1}) == whole
    with pytest.raises(ValueError, match="'ranks' is 'two'"):
        RunKeys.from_json({**record, "ranks": "two"})


def test_whole_runs_are_compared_by_what_decides_their_result():
    then = {"save_steps": 5, "learning_rate": 1e-3, "component_params": {"eta": 1.0, "cache_dir": "a"}}
    now = {"save_steps": 6, "learning_rate": 1e-4, "component_params": {"eta": 1.0, "cache_dir": "b"}, "fp16": True}
    assert deciding_changes(then, now, ["cache_dir"]) == [
        "fp16 was null and is now true",
        "learning_rate was 0.001 and is now 0.0001",
    ]


def test_other_eval_sets_are_told_of_where_the_component_decides_by_them():
    def of(names, **aims):
        return RunKeys(arguments={"eval_dataset": names}, given=["eval_dataset"], aims=aims)

    renamed = compare(of("val", eval="f0"), of("code", eval="f1"))
    assert told(renamed.noted) == ["eval_dataset was 'val' and is now 'code', which the component decides by"]
    edited = compare(of("val", eval="f0"), of("val", eval="f1"))
    assert told(edited.noted) == [
        "eval_dataset was 'val' and is now 'val' (with other rows), which the component decides by"
    ]
    for before, now in ((of("val"), of("code")), (of("val", eval="f0"), of("val", eval="f0"))):
        assert not compare(before, now).noted  # evaluated only; the same
    assert told(compare(of("val"), of("code")).silent) == ["eval_dataset was 'val' and is now 'code'"]
    assert not renamed.silent
