"""Names that LlamaFactory would look up later are looked up before anything loads."""

from __future__ import annotations

import pytest

from dataflex.bridge.lookups import find_datasets, find_template
from dataflex.errors import ConfigError


def look(names, folder):
    for name in names:
        if name not in ("web", "code"):
            raise ValueError(f"Undefined dataset {name} in dataset_info.json.")


@pytest.mark.parametrize("given", ["web,code", ["web", "code"], " web , code"])
def test_the_names_are_those_of_the_run_file_in_order(given):
    assert find_datasets(look, {"dataset": given}, "run.yaml") == ["web", "code"]


def test_every_unknown_name_of_both_keys_is_told():
    with pytest.raises(ConfigError) as caught:
        find_datasets(look, {"dataset": "web,one,two", "eval_dataset": "three", "dataset_dir": "d"}, "run.yaml")
    first, second = str(caught.value).splitlines()
    assert first.startswith("LlamaFactory cannot find dataset: web, one, two (from run.yaml) in dataset_dir: d: ")
    assert "Undefined dataset one" in first and "Undefined dataset two" in first
    assert "cannot find eval_dataset: three (from run.yaml)" in second


def test_whatever_a_broken_description_makes_of_itself_is_told():
    with pytest.raises(
        ConfigError, match=r"in dataset_dir: data: web: KeyError: 'file_name'\. Look at its entry in dataset_info"
    ):
        find_datasets(lambda names, folder: {}["file_name"], {"dataset": "web"}, "run.yaml")


def test_data_that_was_tokenised_and_data_of_a_hub_is_not_looked_up(tmp_path):
    (tmp_path / "state.json").write_text("{}")
    assert find_datasets(look, {"dataset": "one", "tokenized_path": str(tmp_path)}, "run.yaml") == ["one"]
    assert find_datasets(look, {"dataset": "one", "dataset_dir": "REMOTE:org/sets"}, "run.yaml") == ["one"]
    with pytest.raises(ConfigError, match="Undefined dataset one"):
        find_datasets(look, {"dataset": "one", "tokenized_path": str(tmp_path / "empty")}, "run.yaml")


def test_an_unknown_template_is_told_with_the_nearest():
    find_template({"qwen": 1}, {"template": "qwen"}, "run.yaml")
    find_template({"qwen": 1}, {"template": None}, "run.yaml")
    with pytest.raises(ConfigError, match=r"template: 'quen' \(from run.yaml\) is none .* Did you mean 'qwen'\?"):
        find_template({"qwen": 1}, {"template": "quen"}, "run.yaml")
