"""Twenty mutated run files that are accepted are trained: what the checks let through works."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from run_mutations import VALID
from tiny_runs import Workshop

from dataflex.decisions import DecisionLog
from dataflex.testing.tiny import tiny_rows, write_dataset, write_model

pytestmark = pytest.mark.slow
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


@pytest.mark.parametrize("seed", range(20))
def test_an_accepted_run_file_trains(tiny, tmp_path, train, seed):
    name, keys = mutated(seed)
    path = Workshop(tiny, tmp_path).run_file("run", **keys)
    train(path)
    out = tmp_path / "run"
    assert list(out.glob("*.safetensors")), (name, keys)
    decided = len(list(DecisionLog(out)))
    assert decided > 0 or name in ("weigh", "static mix"), (name, keys)
