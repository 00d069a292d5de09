"""The end of a rank: everything an interpreter does when it ends, but taking itself apart."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dataflex.cli.app import main

SCRIPT = """
import atexit, sys, threading, time
from dataflex.distributed import end_rank

class Global:
    def __del__(self):  # called when modules are taken apart, which a rank must not come to
        print("taken apart", flush=True)

kept = Global()
atexit.register(print, "atexit was called")
log = open(sys.argv[1], "w")
log.write("unflushed")
threading.Thread(target=lambda: (time.sleep(0.3), print("thread has ended"))).start()
print("before")
end_rank(int(sys.argv[2]))
print("still here")
"""


@pytest.mark.parametrize("rank", ["0", "1", None])
def test_a_rank_ends_with_its_code_after_threads_atexit_and_files(tmp_path, rank):
    environ = {key: value for key, value in os.environ.items() if key != "RANK"}
    if rank is not None:
        environ["RANK"] = rank
    log = tmp_path / "log.txt"
    command = [sys.executable, "-c", SCRIPT, str(log), "3"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
    assert log.read_text() == "unflushed"
    assert "thread has ended" in done.stdout and "atexit was called" in done.stdout
    if rank is None:  # one process ends as ever
        assert done.returncode == 0 and "still here" in done.stdout and "taken apart" in done.stdout
    else:
        assert done.returncode == 3 and "still here" not in done.stdout and "taken apart" not in done.stdout


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["train", "nowhere.yaml"], 2)])
def test_a_command_on_a_rank_ends_it_with_the_commands_code(monkeypatch, arguments, code):
    ended = []
    monkeypatch.setattr("dataflex.distributed.end_rank", ended.append)
    monkeypatch.setattr("sys.argv", ["dataflex", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == code and ended == []
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(SystemExit):
        main(arguments)  # called by a program of somebody's, which has more to do
    assert ended == []
    with pytest.raises(SystemExit):
        main()
    assert ended == [code]
