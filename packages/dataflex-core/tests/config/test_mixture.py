"""The keys of a mix run, as far as they can be checked without the data."""

from __future__ import annotations

import json

import pytest

from dataflex.config.mixture import OnExhausted, Rule, Unit, read_mixture
from dataflex.config.run import read_run_file
from dataflex.errors import ConfigError
from dataflex.made_from import RowsOf


@pytest.fixture
def read(tmp_path):
    def read(text, *overrides):
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return read_mixture(read_run_file(path, overrides))

    return read


STATIC = "train_type: static_mix\n"
DYNAMIC = "train_type: dynamic_mix\ncomponent_name: random\n"
HALVES = "init_mixture_proportions: [0.5, 0.5]\n"


def test_the_notes_keys_are_enough(read):
    settings = read(DYNAMIC + HALVES + "mixture_sample_rule: mixture\n")
    assert (settings.rule, settings.initial) == (Rule.MIXTURE, [0.5, 0.5])
    assert (settings.max_epochs, settings.on_exhausted) == (None, OnExhausted.REDISTRIBUTE)


@pytest.mark.parametrize(
    ("stage", "unit"), [("sft", Unit.SAMPLES), ("dpo", Unit.SAMPLES), ("pt", Unit.TOKENS)], ids=["sft", "dpo", "pt"]
)
def test_pretraining_counts_tokens_unless_told_otherwise(read, stage, unit):
    assert read(STATIC + HALVES + f"stage: {stage}\n").unit is unit
    assert read(STATIC + HALVES + f"stage: {stage}\nmixture_unit: samples\n").unit is Unit.SAMPLES


def test_limits_may_be_given_by_name(read):
    assert read(STATIC + HALVES + "mixture_max_epochs: {chat: 2, code: 0.5}\n").max_epochs == {"chat": 2, "code": 0.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DYNAMIC, r"init_mixture_proportions is missing from run.yaml; .* another rule \(stratified, uniform, temp"),
        (STATIC + "mixture_sample_rul: uniform\n", r"is missing .*Was it meant by 'mixture_sample_rul'\?"),
        (STATIC + "init_mixture_proportion: [1.0]\n", r"is missing .*Was it meant by 'init_mixture_proportion'\?"),
        (STATIC + HALVES + "mixture_sample_rule: uniform\n", r"init_mixture_proportions .* contradicts .*: uniform"),
        (DYNAMIC + "mixture_sample_rule: stratified\n", r"stratified keeps its proportions fixed.*random.*static_mix"),
        (STATIC + "mixture_sample_rule: unifrom\n", r"'unifrom' \(from run.yaml\) is not one of .* mean 'uniform'"),
        (STATIC + HALVES + "mixture_unit: words\n", r"mixture_unit: 'words' .* samples, tokens"),
        (STATIC + HALVES + "mixture_on_exhausted: halt\n", r"mixture_on_exhausted: 'halt' .* redistribute, stop"),
        (STATIC + "mixture_sample_rule: temperature\nmixture_temperature: 0\n", r"mixture_temperature: 0 .* above 0"),
        (
            STATIC + "mixture_sample_rule: temperature\nmixture_temperature: 1.0e-320\n",
            r"_temperature: .* at least 1e-06",
        ),
        (STATIC + HALVES + "mixture_max_epochs: {chat: -1}\n", r"mixture_max_epochs.chat: -1 .* above 0"),
        (STATIC + "mixture_sample_rule: unimax\nmixture_max_epochs: {a: 1}\n", r"one number for .*unimax"),
    ],
)
def test_a_wrong_key_is_named(read, text, message):
    with pytest.raises(ConfigError, match=message):
        read(text)


def test_an_override_is_named_as_the_origin(read):
    with pytest.raises(ConfigError, match=r"mixture_unit: 'words' \(from the command line\)"):
        read(STATIC + HALVES, "mixture_unit=words")


def test_a_file_that_names_a_domain_twice_is_refused(read, tmp_path):
    (tmp_path / "weights.json").write_text('{"names": ["web", "code", "web"], "average": [0.2, 0.5, 0.3]}')
    with pytest.raises(ConfigError, match=r"from:weights.json \(from run.yaml\) names 'web' twice"):
        read(STATIC + "init_mixture_proportions: from:weights.json\n")


def test_proportions_are_read_from_the_weights_of_an_earlier_run_by_name(read, tmp_path):
    (tmp_path / "weights.json").write_text('{"names": ["web", "code"], "average": [0.25, 0.75], "steps": 9}')
    settings = read(STATIC + "init_mixture_proportions: from:weights.json\n")
    assert settings.initial == {"web": 0.25, "code": 0.75}
    assert settings.found.rows == RowsOf(names=("web", "code"))


def test_what_proportions_were_found_on_is_read_with_them(read, tmp_path):
    record = {"names": ["web", "code"], "average": [0.25, 0.75], "data": {"cutoff_len": 96}, "hashes": {"pool": "f00"}}
    (tmp_path / "weights.json").write_text(json.dumps(record))
    found = read(STATIC + "init_mixture_proportions: from:weights.json\n").found
    assert found.rows == RowsOf(names=("web", "code"), keys={"cutoff_len": 96}, pool="f00")
    (tmp_path / "weights.json").write_text(json.dumps(record | {"data": 3, "hashes": []}))
    assert read(STATIC + "init_mixture_proportions: from:weights.json\n").found.rows.keys == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            None,
            r"from:weights.json \(from run.yaml\) names a file that does not exist; looked for .*Run what writes it",
        ),
        ("{", r"is not a file of weights.*JSONDecodeError"),
        ('{"names": ["web"]}', r"is not a file of weights.*'average'"),
        ('{"names": ["web"], "average": [0.5, 0.5]}', r"is not a file of weights: it needs `names` and `average`"),
    ],
    ids=["missing", "not json", "no average", "lengths"],
)
def test_a_file_that_holds_no_weights_is_refused(read, tmp_path, content, message):
    if content is not None:
        (tmp_path / "weights.json").write_text(content)
    with pytest.raises(ConfigError, match=message):
        read(STATIC + "init_mixture_proportions: from:weights.json\n")
