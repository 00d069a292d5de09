"""The end of a rank: everything an interpreter does when it ends, but taking itself apart."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import weakref

import pytest

from dataflex.cli.app import main
from dataflex.distributed import leave_group_at_exit

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


class Freed:
    """An accelerator."""

    times = 0

    def free_memory(self):
        self.times += 1


class Wrapping:
    """A trainer, whose wrapped model holds on to the group."""

    def __init__(self, model, model_wrapped):
        self.model, self.model_wrapped, self.accelerator = model, model_wrapped, Freed()


@pytest.mark.parametrize("kept", [True, False])
def test_a_script_that_ends_by_itself_lets_go_of_the_group_first(tmp_path, monkeypatch, kept):
    import torch
    from torch.nn.parallel import DistributedDataParallel

    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        model = torch.nn.Linear(2, 2)
        trainer = Wrapping(model, DistributedDataParallel(model))
        wrapped, accelerator = weakref.ref(trainer.model_wrapped), trainer.accelerator
        registered = []
        monkeypatch.setattr(atexit, "register", registered.append)
        leave_group_at_exit(trainer)
        (leave,) = registered
        if not kept:
            del trainer  # the script has let go of it already: nothing here may hold on to it
            assert wrapped() is None
        leave()
        assert not torch.distributed.is_initialized()
        assert wrapped() is None
        assert accelerator.times == (1 if kept else 0)
        leave()  # a second trainer's: nothing is left to do
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
