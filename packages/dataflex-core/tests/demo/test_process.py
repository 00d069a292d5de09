"""The runs of the demo as processes."""

from __future__ import annotations

from dataflex.demo import process


def test_the_tail_shows_only_the_last_state_of_a_progress_bar(tmp_path):
    log = tmp_path / "log"
    log.write_text("first\n 0%|\r 50%|\r100%|\n\nlast\n", newline="")
    assert process.tail(log) == "first\n100%|\nlast"
    assert process.tail(log, lines=1) == "last"


def test_what_the_user_set_in_the_environment_stays():
    found = process.defaults({"OMP_NUM_THREADS": "4"})
    assert "OMP_NUM_THREADS" not in found and found["HF_HUB_OFFLINE"] == "1"
