"""Names in a run file: what YAML takes for something else, and data sets that are named twice."""

from __future__ import annotations

import json

import pytest
import yaml

from dataflex.config.checks import run_problems
from dataflex.config.run import read_run_file
from dataflex.config.run_warnings import warnings

WORDS = ("no", "yes", "on", "off", "true", "False", "NO", "null", "~", "2023", "012", "0x1F", "1_000", "1e3", "1.50")
"""Bare words that YAML 1.1 or OmegaConf reads as something else than a text."""
DATES = ("2023-01-31", "12:30:45")


@pytest.fixture
def read(tmp_path):
    def read(text, *overrides, name="run.yaml"):
        (tmp_path / name).write_text(text)
        return read_run_file(tmp_path / name, overrides)

    return read


@pytest.mark.parametrize("word", [*WORDS, *DATES])
def test_a_word_in_a_list_of_data_sets_is_the_name_that_was_written(read, word):
    run = read(f"dataset: [en, {word}]\neval_dataset:\n  - {word}\n  - de\n")
    assert run.llamafactory == {"dataset": ["en", word], "eval_dataset": [word, "de"]}
    typed = read("seed: 1\n", f"dataset=[en, {word}]")
    assert typed.llamafactory["dataset"] == ["en", word]


@pytest.mark.parametrize("word", [word for word in [*WORDS, *DATES] if word not in ("null", "~")])
def test_a_word_alone_is_a_name_too_but_null_leaves_the_key_out(read, word):
    run = read(f"dataset: {word}\ncomponent_name: {word}\ntemplate: {word}\noutput_dir: {word}\n")
    assert (run.llamafactory["dataset"], run.ours["component_name"]) == (word, word)
    assert (run.llamafactory["template"], run.llamafactory["output_dir"]) == (word, word)
    assert read("seed: 1\n", f"dataset={word}").llamafactory["dataset"] == word
    assert read("dataset: null\ntemplate: ~\n").llamafactory == {"dataset": None, "template": None}


@pytest.mark.parametrize("key", ["train_type", "mixture_unit", "stage", "optim", "report_to"])
def test_a_word_where_one_of_a_few_words_can_stand_is_the_one_that_was_written(read, key):
    run = read(f"{key}: no\n")
    assert {**run.ours, **run.llamafactory}[key] == "no"


@pytest.mark.parametrize("word", [*WORDS, *DATES])
def test_a_word_that_names_a_share_or_a_limit_is_the_name_that_was_written(read, word):
    if ":" in word:
        word = f'"{word}"'
    run = read(f"init_mixture_proportions: {{en: 0.7, {word}: 0.3}}\nmixture_max_epochs: {{{word}: 2}}\n")
    word = word.strip('"')
    assert run.ours == {
        "init_mixture_proportions": {"en": 0.7, word: 0.3},
        "mixture_max_epochs": {word: 2},
    }


@pytest.mark.parametrize("word", WORDS)
def test_a_word_of_the_command_line_takes_the_place_of_one_in_the_file(read, word):
    run = read("init_mixture_proportions: [0.5, 0.5]\n", f"init_mixture_proportions={{en: 0.7, {word}: 0.3}}")
    assert run.ours["init_mixture_proportions"] == {"en": 0.7, word: 0.3}


def test_names_that_are_one_value_to_yaml_stay_two_where_it_can_tell_them_apart(read):
    run = read("dataset: [off, no, 2023, 0x7E7]\n")
    assert run.llamafactory["dataset"] == ["off", "no", "2023", "0x7E7"]


def test_names_keep_their_places_in_mappings_that_are_merged(read):
    text = "base: &base {no: 0.25}\ninit_mixture_proportions:\n  <<: *base\n  en: 0.75\n"
    assert read(text).ours["init_mixture_proportions"] == {"no": 0.25, "en": 0.75}


def test_numbers_and_switches_stay_what_they_are(read):
    text = "seed: 012\nlearning_rate: 1e-4\ndo_train: yes\nmixture_max_epochs: 2\nresume_from_checkpoint: true\n"
    run = read(text)
    assert {**run.llamafactory, **run.ours} == {
        "seed": 10,
        "learning_rate": 1e-4,
        "do_train": True,
        "mixture_max_epochs": 2,
        "resume_from_checkpoint": True,
    }


@pytest.mark.parametrize("spelling", ["web,code,web", "web, web ,code", ["web", "code", "web"]])
@pytest.mark.parametrize("key", ["dataset", "eval_dataset"])
def test_a_data_set_that_is_named_twice_is_refused_by_its_name(read, spelling, key):
    (problem,) = run_problems(read(yaml.safe_dump({key: spelling})))
    assert problem.message.startswith(f"{key} (from run.yaml) names web more than once")
    assert "second name in dataset_info.json" in problem.fix
    assert ("init_mixture_proportions" in problem.fix) == (key == "dataset")


def test_a_static_run_is_warned_of_a_data_set_that_is_named_twice(read):
    (warning,) = warnings(read(json.dumps({"dataset": ["web", "web"]}), name="run.json"))
    assert warning.startswith("dataset (from run.json) names web more than once")
    assert list(warnings(read("dataset: web,code\n"))) == []


def test_a_value_of_the_command_line_may_refer_to_a_key_of_the_file(read):
    run = read("output_dir: runs/x\n", "logging_dir=${output_dir}/logs", "dataset=no")
    assert run.llamafactory == {"output_dir": "runs/x", "logging_dir": "runs/x/logs", "dataset": "no"}
