"""What a component may be called, and the ranges of its parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from doubles import IdleTrainer
from prepared_runs import prepared_run, run_facts

from dataflex.errors import PluginError
from dataflex.spec import ComponentSpec, Kind, Limits


def spec(name: str) -> ComponentSpec:
    return ComponentSpec(kind=Kind.SELECTOR, name=name, target="json:JSONDecoder", api=1)


@pytest.mark.parametrize("name", ["loss", "my_method", "less-2", "v1.5", "c++", "选择", "_private"])
def test_a_name_of_letters_digits_and_a_few_signs_is_accepted(name):
    assert spec(name).name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a b",
        "..",
        ".",
        "../x",
        "a/b",
        "/etc",
        "a\\b",
        "..\\x",
        "C:x",
        "a\0b",
        "a\nb",
        "loss\n",
        ".hidden",
        "-p",
    ],
)
def test_a_name_that_could_be_a_path_is_refused(name):
    with pytest.raises(PluginError, match="cannot be the name of a folder: use letters"):
        spec(name)


@dataclass
class Arguments:
    """As many of the ``TrainingArguments`` as a context is made of."""

    output_dir: str
    seed: int = 1


@pytest.mark.parametrize("name", ["a.b", "c++", "v1...5", "a" * 100])
def test_the_cache_of_a_component_lies_in_the_run(tmp_path: Path, name: str) -> None:
    from dataflex.trainers.context import run_context

    trainer, run = IdleTrainer(Arguments(str(tmp_path))), prepared_run(run_facts(spec(name)))
    folder = run_context(trainer, run, data_seed=None, global_batch=4).cache_dir
    assert folder.resolve().parent == (tmp_path / "cache").resolve()


def test_a_range_is_told_in_words():
    assert str(Limits(above=0, at_most=1)) == "above 0 and at most 1"
    assert str(Limits(at_least=1e-6, below=math.inf)) == "at least 1e-06 and finite"
    assert str(Limits(above=-math.inf, below=math.inf)) == "finite"
    assert str(Limits(at_least=1, choices=("auto",))) == "at least 1 or one of auto"


def test_no_range_is_false_and_leaves_nothing_outside():
    assert not Limits() and Limits(above=0) and Limits(choices=("a",))
    assert str(Limits()) == "" and list(Limits().outside([1, "a", {"b": None}])) == []


def test_what_lies_outside_a_range_is_told_with_its_place():
    values = {"web": [1, 5], "code": {"go": 0, "c": 2}, "chat": None}
    assert list(Limits(at_least=1, at_most=4).outside(values)) == [(".web[1]", 5), (".code.go", 0)]


def test_old_names_need_a_sentence_and_one_of_the_two_answers():
    made = ComponentSpec(kind=Kind.SELECTOR, name="mine", target="m:C", api=1, legacy={"eps": "It is 0."})
    assert (dict(made.legacy), dict(made.refused)) == ({"eps": "It is 0."}, {}) and hash(made)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"legacy": {"eps": " "}}, "legacy of component 'mine' says nothing of eps"),
        ({"legacy": {"eps": "a"}, "refused": {"eps": "b"}}, "both ignores and refuses eps"),
    ]
    for given, message in wrong:
        with pytest.raises(PluginError, match=message):
            ComponentSpec(kind=Kind.SELECTOR, name="mine", target="m:C", api=1, **given)
