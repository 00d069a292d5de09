"""What a component may be called."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dataflex.errors import PluginError
from dataflex.spec import ComponentSpec, Kind


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


@pytest.mark.parametrize("name", ["a.b", "c++", "v1...5", "a" * 100])
def test_the_cache_of_a_component_lies_in_the_run(tmp_path, name):
    from dataflex.trainers.run_context import run_context

    args = SimpleNamespace(output_dir=str(tmp_path), seed=1)
    trainer = SimpleNamespace(
        args=args, train_dataset=[], eval_dataset=None, data_collator=None, accelerator=None, model=None
    )
    plan = SimpleNamespace(component=spec(name), stage="sft", scores_only=False)
    folder = run_context(trainer, SimpleNamespace(run=SimpleNamespace(plan=plan)), 4).cache_dir
    assert folder.resolve().parent == (tmp_path / "cache").resolve()
