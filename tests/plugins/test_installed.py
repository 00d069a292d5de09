"""The plugin system with the packages of this repository, as installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

HEAVY = ("torch", "numpy", "llamafactory", "transformers", "accelerate", "peft", "omegaconf")
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("DATAFLEX_")}


def dataflex(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dataflex", *arguments]
    return subprocess.run(command, env={**ENVIRONMENT, **environ}, capture_output=True, text=True, check=False)


def first_party(*arguments: str, **environ: str) -> list[dict]:
    done = dataflex("list-components", "--json", *arguments, **environ)
    assert done.returncode == 0, done.stderr
    return [row for row in json.loads(done.stdout) if row["dist"].startswith("dataflex-")]


@pytest.mark.parametrize("arguments", [["list-components"], ["list-components", "--json"], ["--help"], ["version"]])
def test_listing_imports_no_heavy_library(arguments):
    code = (
        "import json, sys\n"
        "from dataflex.cli.app import main\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert json.loads(done.stderr.splitlines()[-1]) == []
    if arguments[0] == "list-components":
        assert "dataflex-selectors-loss" in done.stdout


def test_first_party_selectors_are_installed_and_loaded():
    listed = {(row["kind"], row["name"]): row for row in first_party()}
    assert {("selector", "loss"), ("selector", "random")} <= set(listed)
    assert {row["status"] for row in listed.values()} == {"loaded"}


def test_every_first_party_component_can_be_shown_and_describes_itself():
    for row in first_party():
        done = dataflex("show-component", f"{row['dist']}/{row['name']}", "--kind", row["kind"], "--json")
        assert done.returncode == 0, done.stderr
        shown = json.loads(done.stdout)
        assert shown["summary"]
        assert all(info["help"] for info in shown["params"])


def test_no_plugins_reaches_a_process_of_its_own():
    assert {row["status"] for row in first_party(DATAFLEX_NO_PLUGINS="1")} == {"blocked"}
    states = {row["dist"]: row["status"] for row in first_party("-p", "no:dataflex-selectors-loss")}
    assert states["dataflex-selectors-loss"] == "blocked"
    assert states["dataflex-selectors-random"] == "loaded"


@pytest.mark.slow
def test_the_doctor_finds_this_environment_in_order():
    done = dataflex("doctor", "--json", OMP_NUM_THREADS="1")
    report = json.loads(done.stdout)
    failed = [check for check in report["checks"] if check["state"] == "failed"]
    assert (done.returncode, failed) == (0, [])
    assert {check["area"] for check in report["checks"]} == {"version", "plugin", "llamafactory", "device"}


@pytest.mark.slow
def test_llamafactorys_own_help_is_reached():
    done = dataflex("export", "--help", OMP_NUM_THREADS="1")
    assert done.returncode == 0
    assert "--export_dir" in done.stdout
