"""The linter refuses what could run code that a file brings along, and no source file is excepted."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("packages/*/src/**/*.py"), *ROOT.glob("packages/*/*/src/**/*.py")])
ANYWHERE = ("packages/dataflex-core/src/dataflex/made_up.py", "tools/made_up.py", "tests/test_made_up.py")
RULES = r"\b(S\d{3}|TID251)\b"

REFUSED = {
    "import pickle": "TID251",
    "from pickle import loads": "TID251",
    "import joblib": "TID251",
    "from cloudpickle import dumps": "TID251",
    "import dill": "TID251",
    "import shelve": "TID251",
    "import marshal": "TID251",
    "import torch\n\ntorch.load('x.pt')": "TID251",
    "import torch\n\ntorch.load('x.pt', weights_only=False)": "TID251",
    "from torch import load\n\nload('x.pt')": "TID251",
    "import pandas as pd\n\npd.read_pickle('x')": "S301",
    "import yaml\n\nyaml.load('a', Loader=yaml.Loader)": "TID251",
    "import yaml\n\nyaml.unsafe_load('a')": "TID251",
    "import jinja2\n\njinja2.Environment()": "S701",
    "eval('1')": "S307",
    "exec('1')": "S102",
    "import subprocess\n\nsubprocess.run('ls', shell=True)": "S602",
    "import tarfile\n\ntarfile.open('x').extractall('y')": "S202",
}


def refusals(code: str, path: str) -> set[str]:
    """Rules that the repository's linter finds broken in a file of that name."""
    command = [sys.executable, "-m", "ruff", "check", "--stdin-filename", path, "--output-format", "concise", "-"]
    done = subprocess.run(command, cwd=ROOT, input=f"{code}\n", capture_output=True, text=True, check=False)
    return set(re.findall(rf": {RULES}", done.stdout))


@pytest.mark.parametrize(("code", "rule"), REFUSED.items())
def test_the_linter_refuses_what_could_run_code(code: str, rule: str) -> None:
    assert [path for path in ANYWHERE if rule not in refusals(code, path)] == []


@pytest.mark.parametrize(
    "code",
    [
        "import yaml\n\nyaml.safe_load('a')",
        "from safetensors.torch import load_file\n\nload_file('x')",
        "import jinja2\n\njinja2.Environment(autoescape=True)",
    ],
)
def test_the_linter_lets_the_safe_way_pass(code: str) -> None:
    assert refusals(code, ANYWHERE[0]) == set()


def test_no_source_file_is_excepted_from_these_rules() -> None:
    excepted = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in SOURCES
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(rf"# noqa(?!:)|# noqa:.*{RULES}|# ruff: noqa", line)
    ]
    assert excepted == []
