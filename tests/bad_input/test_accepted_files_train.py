"""Twenty mutated run files that are accepted are trained: what the checks let through works.

Eight are the first ones the fuzzer makes that the checks accept; twelve are drawn from lists of values at the edges.
Left out are those that would take long, with more than 20 steps, a ``component_timeout`` that the machine's speed
decides about, ordinary runs, and those that are a valid file once more.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import yaml
from asked_runs import stage_without_model
from hypothesis import HealthCheck, Phase, given, settings
from run_mutations import VALID, Mutated, mutated_run_files
from tiny_runs import Workshop

from dataflex.decisions import DecisionLog
from dataflex.testing.tiny import tiny_rows, write_dataset, write_model

pytestmark = pytest.mark.slow
FUZZED, DRAWN = 8, 12
LONGEST = 20  # optimizer steps
PARAMETERS = {
    "select by loss": {
        "focus": ["low", "medium", "high"],
        "focus_weight": [1e-300, 3, 1e6],
        "quantiles": [[0, 1], [0.5, 0.500001]],
        "temperature": [1e-6, 0.5, "2", 1e12],
        "replacement": [True, False],
        "max_candidates": [None, 30, 40.0, 2**31],
    },
    "select at random": {"replacement": [True, False], "seed": [0, 7, 2**31]},
    "mix on schedule": {
        "points": [{0: {"tiny": 1, "other": 0}}, {3: {"tiny": 0.5, "other": 0.5}, 10**9: {"tiny": 0.1, "other": 0.9}}]
    },
    "mix at random": {"concentration": [1e-3, 1, 10**6], "seed": [0, 2**31]},
    "static mix": {},
    "weigh": {"strategy": ["uniform", "focal", "trim", "cvar"], "window": [1, 4096], "t": [-50, 0, 3], "gamma": [0, 9]},
}
KEYS = {
    "warmup_step": [1, 2],
    "update_step": [1, 3],
    "update_times": [1, 2, -1],
    "train_step": [0, 4, 6],
    "mixture_unit": ["samples", "tokens"],
    "mixture_on_exhausted": ["redistribute", "stop"],
    "mixture_max_epochs": [None, 50, 1e9],
    "component_timeout": [None, 99.5, 10**7],
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_model(folder / "model")
    write_dataset(folder / "data", tiny=tiny_rows(64), other=tiny_rows(24, seed=2))
    return folder


def mutated(seed):
    """A valid run file in which some values are others that are accepted."""
    draw = random.Random(seed)
    name = sorted(PARAMETERS)[seed % len(PARAMETERS)]
    keys = dict(VALID[name]) | {"num_train_epochs": draw.choice([0.2, 0.5])}
    for key, values in KEYS.items():
        if draw.random() < 0.5 and ("mix" in name or not key.startswith("mixture")):
            keys[key] = draw.choice(values)
    if PARAMETERS[name]:
        params = {each: draw.choice(values) for each, values in PARAMETERS[name].items() if draw.random() < 0.7}
        keys["component_params"] = {**keys.get("component_params", {}), **params}
    if keys.get("train_step"):
        keys["train_step"] = max(keys["train_step"], keys.get("warmup_step", 0) + 1)
    return name, keys


class Enough(Exception):
    """Ends the search."""


@pytest.fixture(scope="module")
def accepted(folder, rest):
    """The first mutated run files that the checks accept, with what is DataFlex's in them."""
    found, keys = {}, {**rest, "num_train_epochs": 0.5}

    @settings(
        max_examples=1000, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(run=mutated_run_files(keys))
    def look(run):
        ours = {key: value for key, value in run.keys.items() if key not in keys or value != keys[key]}
        if run.twice is not None or ours in VALID.values() or ours.get("train_type") in (None, "static"):
            return
        (folder / "run.yaml").write_text(run.text, encoding="utf-8")
        if stage.start(folder / "run.yaml").code == 0 and stage.session is not None and is_short(stage.session.run):
            found[run.text] = Mutated(run.what, ours, run.touched)
        if len(found) == FUZZED:
            raise Enough

    with stage_without_model() as stage, pytest.raises(Enough):
        look()
    return list(found.values())


def is_short(run):
    steps = run.facts.steps
    planned = max(steps.train, steps.warmup + steps.update * max(steps.times, 0))
    return planned <= LONGEST and (run.timeout is None or run.timeout >= 60)


@pytest.mark.parametrize("place", range(FUZZED))
def test_a_file_of_the_fuzzer_that_is_accepted_trains(accepted, tiny, tmp_path, train, place):
    run = accepted[place]
    path = Workshop(tiny, tmp_path).run_file("run", num_train_epochs=0.5)
    rest = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(Mutated(run.what, {**rest, **run.keys}, ()).text, encoding="utf-8")
    train(path)
    assert list((tmp_path / "run").glob("*.safetensors")), run.what


@pytest.mark.parametrize("seed", range(DRAWN))
def test_an_accepted_run_file_trains(tiny, tmp_path, train, seed):
    name, keys = mutated(seed)
    path = Workshop(tiny, tmp_path).run_file("run", **keys)
    train(path)
    out = tmp_path / "run"
    assert list(out.glob("*.safetensors")), (name, keys)
    decided = len(list(DecisionLog(out)))
    assert decided > 0 or name in ("weigh", "static mix"), (name, keys)
