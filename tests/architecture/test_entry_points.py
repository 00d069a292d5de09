"""Every first-party component package is found by its entry point, at no cost to those who only list it."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GROUP, COMMANDS = "dataflex.components", "dataflex.commands"
FAMILIES = {"quality": {"ifd", "perplexity", "deita", "column"}}
"""Packages of several methods, by folder: none of them has the folder's name."""

SECOND_KINDS = {"rho": {"dataflex-selectors"}}
"""Packages with a component of another kind too, by folder: rho weighs, and selects."""

HEAVY = ("torch", "numpy", "transformers", "accelerate", "peft", "datasets", "llamafactory")

PROBE = """
import importlib, json, sys
module = importlib.import_module(sys.argv[1])
specs = list(module.dataflex_components())
for spec in specs:
    if spec.params is not None:
        importlib.import_module(spec.params.partition(":")[0])
loaded = sorted(set(sys.argv[2:]) & set(sys.modules))
found = [[spec.kind, spec.name, spec.target, spec.summary] for spec in specs]
json.dump({"loaded": loaded, "specs": found}, sys.stdout)
"""


def _entry_points() -> list[tuple[str, str]]:
    """Pairs of package folder and the module its entry point names."""
    found = []
    orderers = ROOT / "packages" / "dataflex-orderers" / "pyproject.toml"
    for path in sorted([*ROOT.glob("packages/*/*/pyproject.toml"), orderers]):
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        points = project.get("entry-points", {})
        if COMMANDS in points and GROUP not in points:
            continue  # it brings a command alone
        modules = list(points.get(GROUP, {}).values())
        found += [(str(path.parent.relative_to(ROOT)), module) for module in modules] or [(path.parent.name, "")]
    return found


@pytest.mark.parametrize(("folder", "module"), _entry_points())
def test_an_entry_point_lists_components_without_a_heavy_import(folder: str, module: str) -> None:
    assert module, f"{folder} has no entry point in the group {GROUP}"
    command = [sys.executable, "-c", PROBE, module, *HEAVY]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["loaded"] == []
    assert seen["specs"], f"{module} lists no component"
    *_, group, own = Path(folder).parts
    kinds, names = {f"dataflex-{kind}s" for kind, *_ in seen["specs"]}, [name for _, name, *_ in seen["specs"]]
    if own.startswith("dataflex-"):  # one distribution for all of a kind
        group = own
    elif own in FAMILIES:
        assert set(names) == FAMILIES[own]
    else:
        assert own in [name.replace("_", "-") for name in names]  # a second name of its class may stand beside it
    assert kinds == {group} | SECOND_KINDS.get(own, set())
    for _, _, target, summary in seen["specs"]:
        assert target.startswith(module.partition(".")[0] + ".")
        assert summary


def test_importing_dataflex_imports_no_heavy_library() -> None:
    code = "import sys, dataflex; print(sorted(set(sys.argv[1:]) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
