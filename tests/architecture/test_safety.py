"""The linter refuses what could run code that a file brings along, no source file is excepted; numpy uses no pickle."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("packages/*/src/**/*.py"), *ROOT.glob("packages/*/*/src/**/*.py")])
FOLDERS = ("packages", "tools", "tests", "benchmarks", "docs", "examples")
FILES = sorted([*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in ROOT.glob(f"{folder}/**/*.py"))])
ANYWHERE = ("packages/dataflex-core/src/dataflex/made_up.py", "tools/made_up.py", "tests/test_made_up.py")
RULES = r"\b(S\d{3}|TID251)\b"

REFUSED = {
    "import pickle": "TID251",
    "from pickle import loads": "TID251",
    "import _pickle": "TID251",
    "from _pickle import loads": "TID251",
    "import joblib": "TID251",
    "from cloudpickle import dumps": "TID251",
    "import dill": "TID251",
    "import shelve": "TID251",
    "import marshal": "TID251",
    "import torch\n\ntorch.load('x.pt')": "TID251",
    "import torch\n\ntorch.load('x.pt', weights_only=False)": "TID251",
    "from torch import load\n\nload('x.pt')": "TID251",
    "import torch\n\ntorch.serialization.load('x.pt')": "TID251",
    "from torch.serialization import load\n\nload('x.pt')": "TID251",
    "import torch\n\ntorch.jit.load('x.pt')": "TID251",
    "import pandas as pd\n\npd.read_pickle('x')": "S301",
    "import yaml\n\nyaml.load('a', Loader=yaml.Loader)": "TID251",
    "import yaml\n\nyaml.unsafe_load('a')": "TID251",
    "import yaml\n\nyaml.full_load('a')": "TID251",
    "import yaml\n\nyaml.load_all('a', yaml.Loader)": "TID251",
    "import yaml\n\nyaml.unsafe_load_all('a')": "TID251",
    "import yaml\n\nyaml.full_load_all('a')": "TID251",
    "import yaml\n\nyaml.UnsafeLoader('a').get_data()": "TID251",
    "from yaml import CLoader": "TID251",
    "import jinja2\n\njinja2.Environment()": "S701",
    "import jinja2\n\njinja2.Template('x')": "TID251",
    "from jinja2 import Template": "TID251",
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


def unpickling(code: str) -> Iterator[int]:
    """Lines whose calls may let numpy read or write a pickle: the linter cannot refuse an argument."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call):
            given = [keyword.value for keyword in node.keywords if keyword.arg == "allow_pickle"]
            if ast.unparse(node.func) in {"np.load", "numpy.load", "np.save", "numpy.save"}:
                given += node.args[2:3]
            yield from (node.lineno for value in given if ast.unparse(value) != "False")


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


@pytest.mark.parametrize(
    "code",
    [
        "np.load('x', allow_pickle=True)",
        "np.load('x', allow_pickle=trusted)",
        "np.load('x', None, True)",
        "np.savez('x', a, allow_pickle=True)",
        "partial(np.load, allow_pickle=1)",
    ],
)
def test_the_scan_finds_calls_that_let_numpy_use_pickle(code: str) -> None:
    assert list(unpickling(code)) == [1]


def test_no_file_of_the_repository_lets_numpy_use_pickle() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in FILES} >= set(FOLDERS)
    found = [
        f"{path.relative_to(ROOT)}:{line}" for path in FILES for line in unpickling(path.read_text(encoding="utf-8"))
    ]
    assert found == []
