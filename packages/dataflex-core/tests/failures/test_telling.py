"""Errors of other libraries become a sentence and exit code 2; our own keep their traceback."""

from __future__ import annotations

import errno
import multiprocessing
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from dataflex.errors import ConfigError, OneRankError
from dataflex.failures import error_log, place
from dataflex.failures.foreign import foreign, foreign_cause, is_foreign
from dataflex.failures.room import is_about_room
from dataflex.failures.rows import find_unreadable
from dataflex.failures.saying import is_out_of_memory, said
from dataflex.failures.telling import tell


def module(name: str, source: str, **names: object) -> types.ModuleType:
    """A module of that name, as another library or as one of ours."""
    made = types.ModuleType(name)
    made.__dict__.update(names)
    exec(compile(source, f"{name}.py", "exec"), made.__dict__)  # noqa: S102 - the name of a module is the point
    return made


LIBRARY = module("library", "def run(call=None):\n    if call is None: raise ValueError('theirs')\n    return call()\n")
OURS = module("dataflex.some.callback", "def called(value=None):\n    return {}[value]\n")
COMPONENT = module("dataflex_selectors_x.selector", "def called():\n    raise KeyError('x')\n")
USERS = module("dataflex_inline_mine_0123456789ab", "def called():\n    raise KeyError('x')\n")  # given with -p


def caught(body, *arguments) -> Exception:
    try:
        with foreign():
            body(*arguments)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_what_a_library_raises_is_marked_and_keeps_its_type():
    error = caught(LIBRARY.run)
    assert is_foreign(error) and type(error) is ValueError


@pytest.mark.parametrize("callback", [OURS.called, COMPONENT.called])
def test_what_our_code_raises_when_a_library_calls_it_back_is_not(callback):
    assert not is_foreign(caught(LIBRARY.run, callback))


def test_what_a_library_raises_that_our_callback_has_called_is_marked_where_the_callback_says_so():
    plain = module("dataflex.plain", "def called(): return run()", run=LIBRARY.run)
    under = module(
        "dataflex.under", "def called():\n    with foreign(): return run()", run=LIBRARY.run, foreign=foreign
    )
    assert not is_foreign(caught(LIBRARY.run, plain.called))
    assert is_foreign(caught(LIBRARY.run, under.called))


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_and_an_exit_are_no_errors(kind):
    def stop():
        raise kind

    with pytest.raises(kind) as stopped, foreign():
        stop()
    assert not is_foreign(stopped.value)


def test_a_foreign_error_is_a_sentence():
    told = tell(caught(LIBRARY.run))
    assert told.sentence == "the command failed: ValueError: theirs." and not told.is_bug


def test_an_error_of_ours_keeps_its_traceback_and_asks_for_a_report():
    told = tell(caught(LIBRARY.run, OURS.called))
    assert told.is_bug
    assert told.sentence.startswith("unexpected KeyError: None. This is an error inside DataFlex (")
    assert "dataflex.some.callback" in told.sentence and "report it" in told.sentence


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.EACCES, "Fix its permissions"),
        (errno.EROFS, "Fix its permissions"),
        (errno.ENOTDIR, "Correct the path"),
        (errno.EEXIST, "Correct the path"),
        (errno.ENOSPC, "Make room there"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_no_error_of_ours(code, advice):
    told = tell(OSError(code, "as the system says", "there/report.html"))
    assert not told.is_bug
    assert told.sentence == f"there/report.html cannot be used: as the system says. {advice}, or name another place."
    assert tell(OSError(code, "as the system says")).is_bug  # of no file
    assert tell(FileNotFoundError(errno.ENOENT, "gone", "decisions.jsonl")).is_bug


def test_an_error_of_somebody_that_our_code_had_called_names_both():
    plain = module("dataflex.plain", "def called(): return run()", run=LIBRARY.run)
    sentence = tell(caught(LIBRARY.run, plain.called)).sentence
    assert "dataflex.plain had called library. If that is a component or plugin, tell its author" in sentence


def test_an_error_in_a_file_of_the_users_is_not_taken_for_one_of_ours():
    told = tell(caught(LIBRARY.run, USERS.called))
    assert told.sentence == "the command failed: KeyError: 'x'." and not told.is_bug
    plain = module("dataflex.plain", "def called(): return run()", run=USERS.called)
    sentence = tell(caught(LIBRARY.run, plain.called)).sentence
    assert "dataflex.plain had called dataflex_inline_mine_0123456789ab.py. If that is a component" in sentence


def test_an_error_that_is_a_sentence_already_stays_it():
    assert tell(ConfigError("x is wrong.")).sentence == "x is wrong."
    assert tell(OneRankError("x is wrong.")).alone


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ValueError("one\n  two"), "ValueError: one two"),
        (StopIteration(), "StopIteration"),
        (KeyError("instruction"), "KeyError: 'instruction'"),
        (KeyError("no such key: x"), "KeyError: no such key: x"),
        (RuntimeError("columns ['text', '_dataflex_origin']."), "RuntimeError: columns ['text']"),
        (ValueError("{'a': Value('null'), '_dataflex_origin': Value('int64')}"), "ValueError: {'a': Value('null')}"),
        (
            ValueError(
                "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
                '  File "x.py", line 1, in f\n    g()\nValueError: deep\nindeed'
            ),
            "ValueError: deep indeed",
        ),
    ],
)
def test_what_an_error_says_is_one_line_without_our_columns_or_a_traceback(raised, expected):
    assert said(raised) == expected


def test_what_an_error_says_holds_its_cause_but_not_a_workers_traceback():
    outer = RuntimeError("while generating")
    outer.__cause__ = TypeError("Expected a string")
    assert said(outer) == "RuntimeError: while generating (TypeError: Expected a string)"
    outer.__cause__ = type("RemoteTraceback", (Exception,), {})("Traceback (most recent call last): ...")
    assert said(outer) == "RuntimeError: while generating"


def test_what_an_error_says_is_cut():
    assert len(said(ValueError("x" * 100_000))) < 1000


def test_a_lack_of_memory_says_what_to_lower_whoever_ran_out_of_it():
    def ours():
        raise MemoryError

    class OutOfMemoryError(RuntimeError):
        """As torch's."""

    assert is_out_of_memory(OutOfMemoryError("CUDA"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
    assert not is_out_of_memory(RuntimeError("the size of tensor a"))
    told = tell(caught(ours))
    assert not told.is_bug and "per_device_train_batch_size" in told.sentence


CALLBACKS = module(
    "transformers.trainer_callback",
    "def call_event(event, callback): return getattr(callback, event)()",
)
TRAINER = module(
    "transformers.trainer",
    "class Trainer:\n"
    "    def train(self): return self.work()\n"
    "    def evaluate(self, metric_key_prefix='eval'): return self.work()\n",
)


class Broken:
    def on_log(self):
        raise ValueError("no disk for the log")


@dataclass
class State:
    """How far a Trainer has come, as transformers' ``TrainerState`` says it."""

    global_step: int
    max_steps: int = 12


def at_step(step: int, work: Callable[[], Any]) -> Any:
    trainer = TRAINER.Trainer()
    trainer.state = State(step)
    trainer.work = work
    return trainer


def test_a_callback_is_named_with_its_event_and_the_step():
    error = caught(at_step(7, lambda: CALLBACKS.call_event("on_log", Broken())).train)
    assert place.of(error).what == "the callback Broken failed in on_log at step 7"


def test_an_evaluation_is_named_with_its_set():
    error = caught(at_step(4, LIBRARY.run).evaluate, "eval_val")
    assert place.of(error).what == "the evaluation on val failed at step 4"


def test_an_optimizer_is_named():
    class Strange:
        param_groups = ()

        def zero_grad(self):
            pass

        def step(self):
            raise ValueError("no such moment")

    error = caught(at_step(2, Strange().step).train)
    assert place.of(error).what == "the step of the optimizer Strange failed at step 2"


def test_workers_that_cannot_be_started_are_told_with_the_way_out():
    context = multiprocessing.get_context("spawn")
    error = caught(context.Process(target=lambda: None).start)
    assert place.starts_workers(error)
    assert "dataloader_num_workers: 0" in tell(error).sentence


class Pool(list):
    def __getitem__(self, row):
        if row == 3:
            raise OSError("gone")
        return super().__getitem__(row)


def test_a_row_is_named_only_if_it_fails_alone():
    def collate(rows):
        if "bad" in rows or len(rows) > 1:
            raise TypeError

    assert find_unreadable(Pool("abcde"), [0, 3, 4]).row == 3
    found = find_unreadable(["a", "b", "bad"], [1, 2], collate)
    assert (found.row, found.what) == (2, "collated")
    assert find_unreadable(["a", "b"], [0, 1], collate) is None


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (RuntimeError("Error while serializing: I/O error: File too large (os error 27)"), True),
        (RuntimeError("[enforce fail] PytorchStreamWriter failed writing file data/1: file write failed"), True),
        (RuntimeError("Some tensors share memory, this will lead to duplicate memory on disk"), False),
        (OSError(errno.EACCES, "Permission denied"), False),
        (KeyError("eval_loss"), False),
    ],
)
def test_advice_about_room_is_given_only_where_room_was_the_cause(error, expected):
    assert is_about_room(error) is expected


def deep(levels: int) -> None:
    if not levels:
        raise ValueError("at the bottom")
    deeper(levels - 1)


def deeper(levels: int) -> None:
    deep(levels - 1)


def test_the_last_five_calls_are_kept_and_named_in_the_sentence(tmp_path, monkeypatch):
    monkeypatch.delenv("DATAFLEX_DEBUG", raising=False)
    with pytest.raises(ValueError) as error, error_log.kept_in(tmp_path / "dataflex"), foreign():
        deep(20)
    log = (tmp_path / "dataflex" / "error.log").read_text()
    assert log.count("  File ") == 5 and log.count(", in deep") == 5
    assert "ValueError: at the bottom" in log
    assert f"{tmp_path / 'dataflex' / 'error.log'}; --debug shows them all" in tell(error.value).sentence


def test_the_log_is_replaced_and_holds_the_cause_of_what_was_told(tmp_path, monkeypatch):
    monkeypatch.delenv("DATAFLEX_DEBUG", raising=False)
    for text in ("first", "second"):
        with pytest.raises(ConfigError) as told, error_log.kept_in(tmp_path):
            raise ConfigError("the data set bad") from caught(LIBRARY.run, lambda text=text: int(text))
        assert foreign_cause(told.value) is told.value.__cause__
    log = (tmp_path / "error.log").read_text()
    assert log.count("ValueError: invalid literal") == 1 and "'second'" in log and "'first'" not in log


@pytest.mark.parametrize("case", ["ours", "asked", "debug", "unwritable"])
def test_no_log_is_written_or_named(tmp_path, monkeypatch, case):
    monkeypatch.setenv("DATAFLEX_DEBUG", "1" if case == "debug" else "0")
    error = {"ours": ConfigError("x"), "asked": KeyError("x")}.get(case) or caught(LIBRARY.run)
    folder = tmp_path / "file" / "dataflex" if case == "unwritable" else tmp_path / "dataflex"
    (tmp_path / "file").write_text("")
    with pytest.raises(type(error)), error_log.kept_in(folder):
        raise error
    assert not (tmp_path / "dataflex").exists()
    assert error_log.path_of(error) is None and "error.log" not in tell(error).sentence


def test_each_rank_has_a_log_of_its_own(tmp_path, monkeypatch):
    monkeypatch.delenv("DATAFLEX_DEBUG", raising=False)
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(ValueError), error_log.kept_in(tmp_path), foreign():
        LIBRARY.run()
    assert [path.name for path in tmp_path.iterdir()] == ["error.rank3.log"]
