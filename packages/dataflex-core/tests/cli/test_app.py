"""The program as a whole: help, exit codes, where ``-p`` may stand, what is handed to whom."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dataflex.cli.app import main
from dataflex.errors import ConfigError
from dataflex.failures.foreign import foreign

OWN = [
    *(
        "train",
        "study",
        "score",
        "watch",
        "webui",
        "report",
        "demo",
        "list-components",
        "show-component",
        "check-component",
        "check-run",
        "new-component",
        "doctor",
        "version",
    ),
]
THEIRS = ["export", "chat", "api", "webchat", "env"]
WITH_PLUGINS = [
    "train run.yaml",
    "study study.yaml",
    "score run.yaml --out x",
    "list-components",
    "show-component x",
    "check-component x",
    "check-run run.yaml",
    "doctor",
    "webui",
]


@pytest.fixture
def started(monkeypatch):
    """What the commands would have started, as calls."""
    calls = []

    def record(name, result=None):
        return lambda *arguments: calls.append((name, *arguments)) or result

    monkeypatch.setitem(sys.modules, "dataflex.cli.train", SimpleNamespace(run_train=record("train")))
    score = SimpleNamespace(run_score=record("score"), ScoreOptions=dict)
    monkeypatch.setitem(sys.modules, "dataflex.cli.score", score)
    checked = SimpleNamespace(check_runs=record("check-run"))
    monkeypatch.setitem(sys.modules, "dataflex.cli.check_run", checked)
    monkeypatch.setitem(sys.modules, "dataflex.cli.webui", SimpleNamespace(run_webui=record("webui")))
    monkeypatch.setitem(sys.modules, "dataflex.cli.demo", SimpleNamespace(run_demo=record("demo")))
    monkeypatch.setitem(
        sys.modules, "dataflex.bridge.llamafactory", SimpleNamespace(run_command=record("llamafactory"))
    )
    components = SimpleNamespace(list_components=record("list"), show_component=record("show"))
    monkeypatch.setattr("dataflex.cli.components.list_components", components.list_components)
    monkeypatch.setattr("dataflex.cli.components.show_component", components.show_component)
    monkeypatch.setattr("dataflex.cli.check.check_component", record("check", result=True))
    monkeypatch.setattr("dataflex.cli.doctor.doctor", record("doctor", result=True))
    monkeypatch.setattr("dataflex.cli.study.run_study", record("study", result=0))
    return calls


@pytest.mark.parametrize("command", [[], *([name] for name in OWN)])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help(run, command, flag):
    outcome = run(*command, flag)
    assert outcome.code == 0
    assert "Usage:" in outcome.out


def test_no_arguments_print_the_help(run):
    outcome = run()
    assert outcome.code == 0
    for name in OWN + THEIRS:
        assert f" {name} " in outcome.out


@pytest.mark.parametrize(("typed", "meant"), [("trian", "train"), ("list-component", "list-components")])
def test_a_mistyped_command_gets_the_nearest(run, typed, meant):
    outcome = run(typed)
    assert outcome.code == 2
    assert f"No such command '{typed}'. Did you mean" in outcome.err
    assert f"'{meant}'" in outcome.err


def test_train_gets_file_overrides_and_plugins_from_both_sides(run, started):
    outcome = run("-p", "./a.py", "-p", "no:x", "train", "run.yaml", "update_step=5", "-p", "./b.py", "lr=-1", "key=")
    assert outcome.code == 0
    overrides = ["update_step=5", "lr=-1", "key="]
    assert started == [("train", Path("run.yaml"), overrides, ["./a.py", "no:x", "./b.py"])]


@pytest.mark.parametrize("command", WITH_PLUGINS)
def test_p_stands_before_or_after_the_command(run, started, command):
    assert run("--plugin", "./a.py", *command.split()).code == 0
    assert run(*command.split(), "--plugin", "./a.py").code == 0
    before, after = started
    assert before == after
    assert ["./a.py"] in before


def test_train_without_a_file_says_what_is_missing(run):
    outcome = run("train")
    assert outcome.code == 2
    assert "Missing argument 'RUN_FILE'" in outcome.err


def test_train_with_a_file_that_does_not_exist_is_an_error_without_traceback(run, tmp_path):
    outcome = run("train", str(tmp_path / "gone.yaml"))
    assert outcome.code == 2
    assert f"Error: run file {tmp_path}/gone.yaml does not exist" in outcome.err
    assert "Traceback" not in outcome.err


def test_demo_gets_its_options(run, started):
    assert run("demo", "--out", "some where", "--seed", "7", "--quick").code == 0
    assert run("demo").code == 0
    assert run("demo", "--prepare-only").code == 0
    assert started == [
        ("demo", Path("some where"), 7, True, False),
        ("demo", Path("dataflex-demo"), 42, False, False),
        ("demo", Path("dataflex-demo"), 42, False, True),
    ]


@pytest.mark.parametrize("command", ["demo", "version", "export"])
def test_a_command_without_plugins_does_not_swallow_p(run, started, command):
    outcome = run("-p", "./a.py", command)
    assert outcome.code == 2
    assert f"{command} takes no plugins; leave out -p ./a.py" in outcome.err
    assert started == []


DEAF = ["env"]  # LlamaFactory starts it whatever it is asked for
ARGUMENTS = ["conf.yaml", "--export_dir", "a b", "-p", "x", "key=1", "--", "--json", "--flag=1", ""]


@pytest.mark.parametrize(
    ("command", "arguments"),
    [(command, arguments) for command in THEIRS for arguments in ([], ARGUMENTS)]
    + [(command, [flag]) for command in THEIRS if command not in DEAF for flag in ("-h", "--help")],
)
def test_llamafactorys_commands_get_every_argument_untouched(run, started, command, arguments):
    assert run(command, *arguments).code == 0
    assert started == [("llamafactory", [command, *arguments])]


@pytest.mark.parametrize("command", DEAF)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_commands_that_ignore_help_are_helped(run, started, command, flag):
    done = run(command, flag)
    assert done.code == 0 and started == []
    assert "LlamaFactory" in done.out


def test_our_errors_are_printed_whole_and_without_traceback(run, started, monkeypatch):
    message = "key [red]x[/red] (from " + "a/very/long/path/" * 20 + "run.yaml).\nSecond line."

    def fail(*_):
        raise ConfigError(message)

    monkeypatch.setattr(sys.modules["dataflex.cli.train"], "run_train", fail)
    monkeypatch.setenv("COLUMNS", "40")
    outcome = run("train", "run.yaml")
    assert outcome.code == 2
    assert f"Error: {message}\n" in outcome.err
    assert outcome.out == ""


def failing_with(monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(sys.modules["dataflex.cli.train"], "run_train", fail)


def test_other_exceptions_keep_their_traceback(site, started, monkeypatch):
    failing_with(monkeypatch, ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError, match="a bug") as error:
        main(["train", "run.yaml"])
    (note,) = error.value.__notes__
    assert note.startswith("unexpected ZeroDivisionError: a bug.") and "please report it" in note


def test_an_error_of_another_library_is_a_sentence_with_exit_code_2(run, started, monkeypatch):
    error = ZeroDivisionError("theirs")
    with contextlib.suppress(ZeroDivisionError), foreign("the model could not be loaded"):
        raise error
    failing_with(monkeypatch, error)
    outcome = run("train", "run.yaml")
    assert (outcome.code, outcome.err) == (2, "Error: the model could not be loaded: ZeroDivisionError: theirs.\n")


WITH_DEBUG = [*WITH_PLUGINS, "report x", "watch x", "demo", "new-component selector x", "version"]


@pytest.mark.parametrize("asked", [["--debug", "train", "run.yaml"], ["train", "run.yaml", "--debug"], "variable"])
def test_with_debug_the_traceback_follows_the_sentence(run, started, monkeypatch, asked):
    monkeypatch.setenv("DATAFLEX_DEBUG", "1" if asked == "variable" else "0")
    failing_with(monkeypatch, ConfigError("x is wrong."))
    outcome = run(*(["train", "run.yaml"] if asked == "variable" else asked))
    assert outcome.code == 2
    sentence, _, traceback = outcome.err.partition("Traceback (most recent call last)")
    assert sentence == "Error: x is wrong.\n" and "ConfigError: x is wrong." in traceback


@pytest.mark.parametrize("command", WITH_DEBUG)
def test_every_command_of_ours_takes_debug_and_hands_it_on_to_what_it_starts(run, started, monkeypatch, command):
    monkeypatch.setenv("DATAFLEX_DEBUG", "0")
    assert "--debug" in run(command.split()[0], "--help").out
    run("--debug", command.split()[0], "--help")
    assert os.environ["DATAFLEX_DEBUG"] == "1"


def test_ranks_that_fail_alike_say_a_sentence_once_and_an_error_of_one_rank_says_which(run, started, monkeypatch):
    for name, value in (("RANK", "1"), ("LOCAL_RANK", "1"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    failing_with(monkeypatch, ConfigError("x is wrong."))
    assert run("train", "run.yaml").err == ""
    failing_with(monkeypatch, MemoryError("no more"))
    outcome = run("train", "run.yaml")
    assert outcome.code == 2 and outcome.err.startswith("Error: rank 1: the command failed: MemoryError: no more")


def test_an_exit_code_of_a_command_is_kept(run, started, monkeypatch):
    monkeypatch.setattr(sys.modules["dataflex.cli.train"], "run_train", lambda *_: sys.exit(17))
    assert run("train", "run.yaml").code == 17


def test_version_names_core_and_llamafactory(run):
    outcome = run("version")
    assert outcome.code == 0
    assert outcome.out.startswith("dataflex-core 0.2.0 (llamafactory ")


def test_the_rival_distribution_is_reported_with_the_repair_by_every_command(run, started, fake_dist):
    fake_dist("dataflex", "", version="1.1.0", module="unused", entry_points="")
    for command in [*WITH_PLUGINS, "demo", "version", *THEIRS]:
        outcome = run(*command.split())
        assert "Warning: PyPI's other distribution dataflex 1.1.0 is installed too." in outcome.err
        repair = "pip uninstall -y dataflex && pip install --force-reinstall --no-deps dataflex-core"
        assert repair in outcome.err


def test_the_module_and_both_scripts_are_one_program():
    import importlib_metadata

    scripts = importlib_metadata.distribution("dataflex-core").entry_points.select(group="console_scripts")
    assert {script.name: script.value for script in scripts} == {
        "dataflex": "dataflex.cli.app:main",
        "dataflex-cli": "dataflex.cli.app:main",
    }
    done = subprocess.run([sys.executable, "-m", "dataflex", "version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("dataflex-core 0.2.0")
