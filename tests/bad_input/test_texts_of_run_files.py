"""What the text of a run file may be before it is keys and values, and what may stand on the command line."""

from __future__ import annotations

import json

import pytest
import yaml
from run_mutations import VALID

RUN = VALID["select by loss"]
MIX = VALID["mix at random"]


def lines(rest, keys, **changes):
    return yaml.safe_dump({**rest, **keys, **changes})


@pytest.fixture
def started(stage, folder):
    """Start a run from the bytes of its file."""

    def started(data, *overrides, name="run.yaml"):
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
        return stage.start(folder / name, *overrides)

    return started


UNREADABLE = {
    "a key that stands twice": ("{run}update_step: 4\n", "duplicate key update_step"),
    "a number that stands twice among keys": (
        "{run}mixture_max_epochs: {{0: 1, 0x0: 2}}\n",
        "found duplicate key 0x0",
    ),
    "two documents": ("{run}---\n{run}", "expected a single document"),
    "a list": ("- update_step: 3\n", "holds a list, not keys and values"),
    "a text": ("dynamic_select\n", "unknown key dynamic_select"),
    "a Python object": ("{run}run_name: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
    "an alias without an anchor": ("{run}run_name: *gone\n", "undefined alias"),
    "a value that contains itself": ("{run}plot_loss: &a [*a]\n", "recursive aliases are not supported"),
    "ten thousand brackets": ("{run}plot_loss: " + "[" * 10_000, "maximum nesting depth"),
    "a tab": ("{run}\tplot_loss: true\n", "found a tab character"),
    "an interpolation of nothing": ("{run}run_name: ${{nope}}\n", "Interpolation key 'nope' not found"),
    "a value that is to be filled in": ("{run}run_name: ???\n", "Missing mandatory value"),
    "a NUL": ("{run}run_name: a\x00b\n", "control characters are not allowed"),
}


@pytest.mark.parametrize("what", [pytest.param(w, marks=pytest.mark.bad_input(w, file="run file")) for w in UNREADABLE])
def test_a_text_that_is_not_keys_and_values_is_refused_with_the_reason(started, rest, what, seen):
    text, reason = UNREADABLE[what]
    run = started(text.format(run=lines(rest, RUN)))
    assert run.code == 2 and "Traceback" not in run.told
    assert reason.replace(" ", "") in seen(run.told).replace(" ", "") and "run.yaml" in run.told


@pytest.mark.bad_input("bytes that are not UTF-8", file="run file")
def test_bytes_that_are_not_utf8_are_refused(started, rest, seen):
    run = started(lines(rest, RUN).encode() + "run_name: café\n".encode("latin-1"))
    assert run.code == 2
    assert "run.yaml cannot be read" in seen(run.told)


@pytest.mark.bad_input("an empty file", file="run file")
def test_an_empty_file_asks_for_nothing_that_llamafactory_could_train(started, seen):
    run = started("")
    assert run.code == 2
    assert "LlamaFactory refuses the keys of run.yaml: Please provide `model_name_or_path`" in seen(run.told)


@pytest.mark.parametrize(
    "text", ['{"seed": 1, "seed": 2}', "[1]", "5", '"seed: 1"', "null", "{", "\ufeff{}", "[" * 10**5]
)
def test_json_that_is_not_one_object_is_refused(started, text):
    run = started(text, name="run.json")
    assert run.code == 2 and "run.json" in run.told and "Traceback" not in run.told


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: "%YAML 1.1\n---\n" + text + "...\n",
        lambda text: text.replace("update_step: 3", "update_step: &three 3") + "logging_steps: *three\n",
        lambda text: text.replace("update_step: 3", "update_step: !!int '3'"),
        lambda text: text.replace("update_step: 3", "update_step: 0x3"),
        lambda text: text.replace("update_step: 3", "logging_steps: 3\nupdate_step: ${logging_steps}"),
    ],
    ids=["CRLF", "BOM", "a document with its marks", "an anchor", "a tag", "hexadecimal", "interpolation"],
)
def test_other_spellings_of_the_same_keys_are_the_same_run(started, rest, change):
    run = started(change(lines(rest, RUN)))
    assert run.code == 0, run.told
    assert run.session.run.facts.steps.update == 3


def test_a_json_file_is_the_same_run(started, rest):
    run = started(json.dumps({**rest, **RUN}), name="run.json")
    assert run.code == 0, run.told
    assert run.session.run.facts.params["focus"] == "low"


TAKEN = {
    "update_step=4": lambda plan: plan.steps.update == 4,
    "component_params.focus=high": lambda plan: plan.params["focus"] == "high",
    "component_params.temperature=1e1": lambda plan: plan.params["temperature"] == 10.0,
    "component_params={focus: medium}": lambda plan: plan.params["focus"] == "medium",
    "run_name=a=b=c": lambda plan: plan.arguments["run_name"] == "a=b=c",
    "run_name=数据": lambda plan: plan.arguments["run_name"] == "数据",
}


@pytest.mark.parametrize("override", TAKEN)
def test_an_override_is_taken_as_it_stands(started, rest, override):
    run = started(lines(rest, RUN), override)
    assert run.code == 0, run.told
    assert TAKEN[override](run.session.run.facts)


REFUSED = {
    "=x": "'=x' on the command line is not an override",
    "update_step": "'update_step' on the command line is not an override",
    "--update_step=4": "--update_step=4",
    "update_step=": "update_step is missing",
    "update_step=4=5": "update_step: '4=5' (from the command line) must be a whole number",
    "update_step=[4]": "update_step: [4] (from the command line)",
    "update_step=1e1": "update_step: 10.0 (from the command line)",
    "update_step=${nope}": "Interpolation key 'nope' not found",
    "update_step.x=4": "update_step: {'x': 4} (from the command line)",
    "component_params.=1": "'component_params.=1' on the command line has no name before or after a dot",
    ".x=1": "'.x=1' on the command line has no name before or after a dot",
    "component_params.focsu=low": "no parameter 'focsu' (from the command line). Did you mean 'focus'?",
    "component_params=low": "component_params: 'low' (from the command line) must be a mapping",
    "component_params.quantiles[0]=0.3": "component_params.quantiles[0]=0.3 on the command line, over",
    "mixture_max_epochs={0: 1, 0: 2}": "the command line cannot be read: while constructing a mapping",
    "upd\u0430te_step=4": "unknown key upd\u0430te_step (from the command line)",
    "plot_loss=[": "the command line cannot be read",
    "plot_loss=" + "[" * 10**4: "the command line cannot be read",
}


@pytest.mark.parametrize(
    "override", [pytest.param(o, id=o[:40], marks=pytest.mark.bad_input(o[:40], file="override")) for o in REFUSED]
)
def test_an_override_that_cannot_be_taken_is_refused_by_name(started, rest, override, seen):
    run = started(lines(rest, RUN), override)
    assert run.code == 2 and "Traceback" not in run.told
    assert REFUSED[override] in seen(run.told)


NOTEWORTHY = {
    "true for a number": ({"update_step": True}, "update_step: True (from run.yaml) must be a whole number"),
    "an enormous number": ({"update_times": 10**30}, "update_times: 1" + "0" * 30 + " (from run.yaml) is more than"),
    "steps that are too many together": (
        {"update_step": 10**7, "update_times": 10**7},
        "warmup_step=2 + update_step=10000000 x update_times=10000000 (from run.yaml) is more than",
    ),
    "a number as a text": ({"warmup_step": "3"}, "warmup_step: '3' (from run.yaml) must be a whole number"),
    "letters that look alike": ({"component_name": "l\u043ess"}, "component_name: 'l\u043ess' (from run.yaml): no"),
    "an empty list for parameters": (
        {"component_params": []},
        "component_params: [] (from run.yaml) must be a mapping",
    ),
    "true for a parameter that is a number": (
        {"component_params": {"focus_weight": True}},
        "component_params.focus_weight: True (from run.yaml): True is not a number",
    ),
    "1 for a parameter that is true or false": (
        {"component_params": {"replacement": 1}},
        "component_params.replacement: 1 (from run.yaml): 1 is not true or false",
    ),
    "a parameter that is not a number": (
        {"component_params": {"focus_weight": float("nan")}},
        "component_params.focus_weight: nan (from run.yaml) must be above 0 and finite.",
    ),
    "no samples in a step": ({"per_device_train_batch_size": 0}, "per_device_train_batch_size: 0 leaves an optimizer"),
    "endless epochs": (
        {"update_times": -1, "num_train_epochs": float("inf")},
        "num_train_epochs: inf sets the length of this run",
    ),
    "a word for LlamaFactory's number": ({"max_steps": "many"}, "max_steps: 'many' (from run.yaml) must be a whole"),
    "an empty output_dir": ({"output_dir": ""}, "output_dir: '' is not the path of a folder"),
}


@pytest.mark.parametrize("what", [pytest.param(w, marks=pytest.mark.bad_input(w, file="run file")) for w in NOTEWORTHY])
def test_a_value_that_means_something_else_is_refused(started, rest, what, seen):
    changes, reason = NOTEWORTHY[what]
    run = started(lines(rest, RUN, **changes))
    assert run.code == 2
    assert reason in seen(run.told)


@pytest.mark.parametrize(
    "shares", [[True, False], ["0.7", "0.3"], [10**400, 0], [float("nan"), 1], {"tiny": True, "other": 0}, "0.7,0.3", 1]
)
def test_proportions_are_finite_numbers(started, rest, shares):
    text = json.dumps({**rest, **MIX, "init_mixture_proportions": shares})
    run = started(text, name="run.json")
    assert run.code == 2
    assert "init_mixture_proportions: " in run.told and "(from run.json) must be a list of finite numbers" in run.told
