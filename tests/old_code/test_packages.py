"""The component packages of earlier commits, unchanged, train under this core: the promise of one API number.

``make_packages.py`` made the archives. They come first on the import path, as if they were installed over the metadata
that asks for their own core.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from tiny_runs import NOTE_MIX, NOTE_SELECT, NOTE_WEIGHT, call, weights_digest

from dataflex.decisions import DecisionLog

pytestmark = pytest.mark.slow

ARCHIVES = sorted(Path(__file__).parent.glob("packages-*.zip"))
NO_FILE = {"components_cfg_file": None}
WITH_EVAL = {"eval_dataset": "val", "per_device_eval_batch_size": 4}
RUNS = {
    "random": NOTE_SELECT | NO_FILE,
    "loss": NOTE_SELECT | NO_FILE | {"component_name": "loss"},
    "less": NOTE_SELECT | NO_FILE | WITH_EVAL | {"component_name": "less"},
    "mix-random": NOTE_MIX | NO_FILE,
    "mix-loss": NOTE_MIX | NO_FILE | {"component_name": "loss"},
    "mix-schedule": NOTE_MIX
    | NO_FILE
    | {
        "component_name": "schedule",
        "component_params": {"points": {0: {"tiny": 0.7, "other": 0.3}, 9: {"tiny": 0.2, "other": 0.8}}},
    },
    "mix-doremi": NOTE_MIX | NO_FILE | {"component_name": "doremi"},
    "weight-loss": NOTE_WEIGHT | NO_FILE,
}
TRAIN = """
import sys
import zipfile
from pathlib import Path
import dataflex
from dataflex.cli.train import run_train

for run_file in map(Path, sys.argv[1:]):
    run_train(run_file, [], [])
archive = next(path for path in sys.path if path.endswith(".zip") and "packages-" in path)
old = {name.partition("/")[0] for name in zipfile.ZipFile(archive).namelist()}
for name, module in sys.modules.items():
    if name.startswith("dataflex_") and name.partition(".")[0] in old:
        assert ".zip" in str(module.__file__), module
assert "dataflex_selectors_less.selector" in sys.modules and "dataflex_selectors_less" in old
"""


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.stem)
def test_packages_of_an_earlier_commit_train_under_this_core(workshop, archive):
    runs = {name: workshop.run_file(name, **_keys(name, workshop.folder)) for name in RUNS}
    first = os.pathsep.join([str(archive), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    done = call(sys.executable, "-c", TRAIN, *map(str, runs.values()), PYTHONPATH=first)
    assert done.returncode == 0
    for name, keys in RUNS.items():
        folder = workshop.out / name
        assert weights_digest(folder)
        records = list(DecisionLog(folder))
        if keys["train_type"] != "dynamic_weight":
            assert [record.step for record in records][:2] == [keys["warmup_step"], keys["warmup_step"] + 3]


def _keys(name: str, folder: Path) -> dict:
    keys = RUNS[name]
    return keys | {"component_params": {"reference": str(folder / "model")}} if name == "mix-doremi" else keys
