"""``doctor``: what is broken is shown, counted, and decides the exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import importlib_metadata
import pytest

from dataflex.bridge.llamafactory import SeamCheck


@dataclass
class Machine:
    """LlamaFactory's seams, and who is asked for them."""

    seams: list[SeamCheck]
    seam_report: Callable[[], list[SeamCheck]]
    checked: Callable[[object], list[SeamCheck]]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """LlamaFactory's seams and torch's devices, as a test wants them."""
    seams, board = [SeamCheck("sft: trainer", True)], [SeamCheck("webui: Popen", True)]
    made = Machine(seams, lambda: seams, lambda seams: board)
    cuda = SimpleNamespace(is_available=lambda: True, device_count=lambda: 2, get_device_name=lambda i: f"GPU {i}")
    torch = SimpleNamespace(
        get_num_threads=lambda: 3,
        cuda=cuda,
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: False)),
    )
    monkeypatch.setitem(sys.modules, "dataflex.bridge.llamafactory", made)
    monkeypatch.setitem(sys.modules, "torch", torch)
    return made


def checks(outcome):
    report = json.loads(outcome.out)
    return report["ok"], {(check["area"], check["name"]): check for check in report["checks"]}


def test_all_is_well(run, machine):
    outcome = run("doctor", "-p", "no:nothing", "--json")
    ok, found = checks(outcome)
    assert (outcome.code, ok) == (0, True)
    assert found["version", "dataflex-core"]["detail"] == "0.2.0"
    assert found["version", "llamafactory"]["detail"] == importlib_metadata.version("llamafactory")
    assert found["llamafactory", "sft: trainer"]["state"] == found["llamafactory", "webui: Popen"]["state"] == "ok"
    assert found["device", "cuda:1"]["detail"] == "GPU 1"
    for library in ("python", "transformers", "torch", "accelerate", "peft"):
        assert found["version", library]["state"] == "ok"
    assert run("doctor").out.endswith("Everything is in order.\n")


def test_a_broken_plugin_fails_the_check(run, machine, fake_dist):
    fake_dist("acme-bad", "1 / 0", version="0.3")
    outcome = run("doctor")
    assert outcome.code == 1
    (line,) = [line for line in outcome.out.splitlines() if "acme-bad 0.3" in line]
    assert "failed" in line
    assert "broken: ZeroDivisionError: division by zero" in line
    assert "1 of " in outcome.out


def test_a_plugin_that_was_switched_off_is_no_failure(run, machine, fake_dist):
    fake_dist("acme-bad", "1 / 0", version="0.3")
    outcome = run("doctor", "-p", "no:acme-bad", "--json")
    _, found = checks(outcome)
    assert (outcome.code, found["plugin", "acme-bad 0.3"]["state"]) == (0, "off")


def test_a_seam_that_moved_fails_the_check(run, machine):
    machine.seams.append(SeamCheck("dpo: trainer", False, "run_dpo no longer uses it"))
    outcome = run("doctor")
    assert outcome.code == 1
    assert "run_dpo no longer uses it" in outcome.out


def test_without_gradio_the_page_alone_is_missing(run, machine, monkeypatch):
    monkeypatch.setattr("dataflex.bridge.board_seams.gradio_misfit", lambda: "gradio is not installed")
    outcome = run("doctor", "-p", "no:nothing", "--json")
    ok, found = checks(outcome)
    check = found["llamafactory", "webui"]
    assert ok and (check["state"], check["detail"]) == (
        "off", "gradio is not installed: `dataflex webui` will not start"
    )  # fmt: skip


@pytest.mark.parametrize("error", [ImportError("transformers is too new"), SystemExit("transformers is too new")])
def test_a_llamafactory_that_cannot_be_imported_is_reported_not_raised(run, machine, error):
    def fail():
        print("a banner")
        raise error

    machine.seam_report = fail
    outcome = run("doctor", "--json")
    ok, found = checks(outcome)
    assert (outcome.code, ok) == (1, False)
    expected = f"{type(error).__name__}: transformers is too new"
    assert found["llamafactory", "import"] == {
        "area": "llamafactory", "name": "import", "state": "failed", "detail": expected
    }  # fmt: skip


def test_a_library_that_is_not_installed_fails_the_check(run, machine, monkeypatch):
    original = importlib_metadata.version

    def version(name):
        if name == "peft":
            raise importlib_metadata.PackageNotFoundError(name)
        return original(name)

    monkeypatch.setattr("importlib_metadata.version", version)
    outcome = run("doctor", "--json")
    assert outcome.code == 1
    assert checks(outcome)[1]["version", "peft"]["detail"] == "not installed. Repair: pip install peft"


def test_versions_that_do_not_fit_together_fail_the_check(run, machine, monkeypatch):
    monkeypatch.setattr("dataflex.bridge.versions.TESTED", {importlib_metadata.version("llamafactory"): ("4.0", "4.1")})
    outcome = run("doctor", "--json")
    check = checks(outcome)[1]["version", "together"]
    assert (outcome.code, check["state"]) == (1, "failed")
    assert "was tested with transformers 4.0 to 4.1, not with" in check["detail"]


def test_the_rival_distribution_fails_the_check_with_the_repair(run, machine, fake_dist):
    fake_dist("dataflex", "", version="1.1.0", module="unused", entry_points="")
    outcome = run("doctor", "--json")
    assert outcome.code == 1
    check = checks(outcome)[1]["version", "dataflex"]
    assert check["state"] == "failed"
    repair = "pip uninstall -y dataflex && pip install --force-reinstall --no-deps dataflex-core"
    assert repair in check["detail"]
