"""The lock on an output directory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dataflex.errors import ConfigError
from dataflex.record.lock import hold, require_writable


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """Root may write anywhere: be somebody else for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_directory_is_held_once_and_nothing_is_left_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with hold(folder, "dataflex"):
        held = rf"another run writes to output_dir: .* \(process {os.getpid()} on "
        with pytest.raises(ConfigError, match=held), hold(folder, "dataflex"):
            pass
        with hold(tmp_path / "other", "dataflex"):
            pass
    assert not folder.exists()
    with hold(folder, "dataflex"):
        (folder / "model").write_text("kept")
    assert [path.name for path in folder.iterdir()] == ["model"]


def test_a_process_that_is_killed_lets_go(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from dataflex.record.lock import hold\n"
        "with hold(Path(sys.argv[1]), 'dataflex'):\n    print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=f"process {process.pid} on "), hold(tmp_path, "dataflex"):
            pass
        process.kill()
    with hold(tmp_path, "dataflex"):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes without exec")
def test_a_worker_that_outlives_a_killed_run_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from dataflex.record.lock import hold\n"
        "with hold(Path(sys.argv[1]), 'dataflex'):\n"
        "    worker = os.fork()\n"
        "    os.write(1, f'worker {worker}\\n'.encode() if worker else b'begun\\n')  # lines stay whole\n"
        "    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = sorted((process.stdout.readline(), process.stdout.readline()))
        worker = int(lines[1].split()[1])
        process.kill()
        process.wait()
        try:
            with hold(tmp_path, "dataflex"):
                pass
        finally:
            os.kill(worker, signal.SIGKILL)


def test_a_lock_on_a_file_that_its_holder_has_just_deleted_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deleted_meanwhile(descriptor: int) -> bool:
        (tmp_path / "dataflex" / "lock").unlink()
        return True

    monkeypatch.setattr("dataflex.record.lock._locked", deleted_meanwhile)
    with pytest.raises(ConfigError, match="another run writes to output_dir"), hold(tmp_path, "dataflex"):
        pass


def test_a_record_of_the_holder_that_was_cut_short_does_not_matter(tmp_path: Path) -> None:
    with hold(tmp_path, "dataflex"):
        (tmp_path / "dataflex" / "lock").write_text("{")
        with (
            pytest.raises(ConfigError, match=r"another run writes to output_dir: [^(]*\. Give"),
            hold(tmp_path, "dataflex"),
        ):
            pass


@pytest.mark.fault("the output directory may not be written to", kept="nothing has begun")
def test_a_directory_that_may_not_be_written_to_is_refused_by_its_name(
    tmp_path: Path, seen: Callable[[str], str]
) -> None:
    folder = tmp_path / "readonly"
    folder.mkdir(mode=0o555)
    with without_privileges(), pytest.raises(ConfigError) as refused, hold(folder, "dataflex"):
        pass
    assert "readonly cannot be written to (Permission denied" in seen(str(refused.value))


@pytest.mark.parametrize("name", ["", "deeper", "deeper/still"])
def test_what_could_not_be_written_to_is_found_without_writing(name: str, tmp_path: Path) -> None:
    closed, taken, free = tmp_path / "closed", tmp_path / "taken", tmp_path / "free"
    closed.mkdir(mode=0o555)
    taken.write_text("in the way")
    with without_privileges(), pytest.raises(ConfigError, match=rf"{closed / name} .*\(Permission denied: "):
        require_writable(closed / name)
    with pytest.raises(ConfigError, match=rf"{taken / name} cannot be written to \(Not a directory: {taken}\)"):
        require_writable(taken / name)
    require_writable(free / name)
    assert not free.exists()


def test_a_link_to_nowhere_and_a_name_that_is_too_long_are_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("dangling", "x" * 300):
        with pytest.raises(ConfigError, match=r"cannot be written to \("):
            require_writable(tmp_path / name)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    require_writable(tmp_path / "link")
    with hold(tmp_path / "link", "dataflex"):
        pass
