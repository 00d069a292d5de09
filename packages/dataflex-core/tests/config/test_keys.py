"""What is declared of each key is what reading a run file does with it."""

from __future__ import annotations

import pytest

from dataflex.config.keys import REQUIRED, RUN_KEYS
from dataflex.config.mixture import OnExhausted, Rule, Unit, read_mixture
from dataflex.config.run import read_run_file
from dataflex.errors import ConfigError
from dataflex.runs import TrainType

KEYS = {key.name: key for key in RUN_KEYS}
COMPLETE = {
    TrainType.SELECT: "component_name: loss\nwarmup_step: 4\nupdate_step: 3\nupdate_times: 2\n",
    TrainType.MIX: (
        "component_name: random\nwarmup_step: 4\nupdate_step: 3\nupdate_times: 2\ninit_mixture_proportions: [1]\n"
    ),
    TrainType.STATIC_MIX: "init_mixture_proportions: [1]\n",
    TrainType.WEIGHT: "component_name: loss\n",
}


def read(tmp_path, text):
    """Everything that reading a run file asks of its keys."""
    (tmp_path / "run.yaml").write_text(text)
    run = read_run_file(tmp_path / "run.yaml")
    run.steps()
    if run.train_type.kind is not None and "mix" in run.train_type:
        read_mixture(run)
    if run.train_type is not TrainType.STATIC_MIX:
        run.component_name()
    return run


@pytest.mark.parametrize(
    ("key", "choices"),
    [
        ("train_type", TrainType),
        ("mixture_sample_rule", Rule),
        ("mixture_unit", Unit),
        ("mixture_on_exhausted", OnExhausted),
    ],
)
def test_a_key_of_words_declares_all_of_them(key, choices):
    assert KEYS[key].type == " | ".join(choices)


@pytest.mark.parametrize("train_type", COMPLETE)
def test_exactly_the_keys_declared_as_required_may_not_be_left_out(train_type, tmp_path):
    lines = [f"train_type: {train_type}\n", *COMPLETE[train_type].splitlines(keepends=True)]
    read(tmp_path, "".join(lines))
    for line in lines[1:]:
        key = KEYS[line.partition(":")[0]]
        assert key.default.startswith(REQUIRED) and train_type in key.used_by
        with pytest.raises(ConfigError, match=f"^{key.name} is missing"):
            read(tmp_path, "".join(other for other in lines if other != line))


def test_what_is_declared_as_default_is_what_holds_without_the_key(tmp_path):
    run = read(tmp_path, "train_type: static_mix\ninit_mixture_proportions: [1]\n")
    steps, mixture = run.steps(), read_mixture(run)
    assert (steps.train, steps.warmup, mixture.max_epochs) == (0, 0, None)
    assert KEYS["mixture_sample_rule"].default == mixture.rule
    assert KEYS["mixture_on_exhausted"].default == mixture.on_exhausted
    assert float(KEYS["mixture_temperature"].default) == mixture.temperature
    (tmp_path / "bare.yaml").write_text("stage: sft\n")
    assert KEYS["train_type"].default == read_run_file(tmp_path / "bare.yaml").train_type
