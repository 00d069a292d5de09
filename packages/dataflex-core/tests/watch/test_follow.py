"""Following files that somebody else writes: half lines, resumes, plans, and what comes next."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from synthetic_runs import write_run

from dataflex.decisions import Decision, DecisionLog
from dataflex.errors import ConfigError
from dataflex.record.plans import plan_name, result_name
from dataflex.record.run import Ending, Logged, RunRecord
from dataflex.report.read import read_run
from dataflex.report.usage import UsageCounter
from dataflex.spec import Kind
from dataflex.watch.ahead import Ahead, ahead
from dataflex.watch.follow import Follower
from dataflex.watch.tail import Tail


def numbers(path: Path, parsed: list[str] | None = None) -> Tail[int]:
    def parse(line: str) -> int:
        if parsed is not None:
            parsed.append(line)
        return int(line)

    return Tail(path, parse, "a number")


def test_a_line_is_read_when_it_is_whole_and_only_once(tmp_path: Path) -> None:
    path, parsed = tmp_path / "lines", list[str]()
    tail = numbers(path, parsed)
    assert tail.read() is False and tail.records == []
    path.write_text("1\n2\n3")
    tail.read()
    assert tail.records == [1, 2]
    path.write_text("1\n2\n345\n6")
    tail.read()
    assert tail.records == [1, 2, 345] and parsed == ["1", "2", "345"]


def test_a_file_that_was_cut_and_written_on_is_read_anew_even_if_it_is_longer_now(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text("1\n2\n3\n")
    tail = numbers(path)
    tail.read()
    path.write_text("1\n2\n")
    assert tail.read() is True and tail.records == [1, 2]
    path.write_text("1\n7\n8\n9\n")
    assert tail.read() is True and tail.records == [1, 7, 8, 9]
    path.unlink()
    assert tail.read() is True and tail.records == []


def test_a_damaged_line_is_named_and_read_again_once_it_is_repaired(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text("1\nx\n3\n")
    tail = numbers(path)
    with pytest.raises(ConfigError, match="line 2 is not a number"):
        tail.read()
    path.write_text("1\n2\n3\n")
    tail.read()
    assert tail.records == [1, 2, 3]


def test_what_is_followed_bit_by_bit_is_what_a_report_reads_at_once(tmp_path: Path) -> None:
    for kind in (Kind.SELECTOR, Kind.MIXER, Kind.WEIGHTER):
        whole = write_run(tmp_path / f"whole-{kind}", kind)
        part = tmp_path / f"part-{kind}"
        follower, files = Follower(part, "run"), [DecisionLog(whole).path, RunRecord(whole).log_path]
        (part / "dataflex").mkdir(parents=True)
        (part / "decisions").symlink_to(whole / "decisions")
        for name in ("run.json", "samples.jsonl"):
            (part / "dataflex" / name).write_bytes((whole / "dataflex" / name).read_bytes())
        for share in (0.1, 0.35, 0.72, 1.0):
            for file in files:
                data = file.read_bytes()
                (part / file.relative_to(whole)).write_bytes(data[: int(len(data) * share)])
            followed = follower.read()
        once = read_run(whole, "run")
        assert followed is not None and followed.step == once.step
        assert list(followed.decisions) == list(once.decisions)
        assert {name: line.values.tolist() for name, line in followed.series.items()} == {
            name: line.values.tolist() for name, line in once.series.items()
        }
        assert (followed.usage is None) == (once.usage is None)
        if followed.usage is not None and once.usage is not None:
            assert followed.usage.rows_by_times.tolist() == once.usage.rows_by_times.tolist()
            assert followed.usage.coverage.values.tolist() == once.usage.coverage.values.tolist()


def test_usage_counts_the_rows_of_a_plan_that_goes_on(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", boundaries=1, update=2, pool=10, global_batch=2, done=3)
    np.save(folder / plan_name(0), np.array([0, 1, 2, 0]))
    np.save(folder / result_name(2), np.array([0, 5, 7, 7]))
    info, decisions = RunRecord(folder).info(), list(DecisionLog(folder))
    counter = UsageCounter(folder)
    found = [counter.count(info, decisions, step) for step in (1, 2, 3, 4)]
    shares = [usage.coverage.last for usage in found if usage is not None]
    # by hand: {0 1}; {0 1 2}; and of the second plan {5}, then {7}
    assert shares == [0.2, 0.3, 0.4, 0.5]
    assert found[-1] is not None and found[-1].rows_by_times.tolist() == [5, 3, 1, 1, 0, 0, 0, 0, 0, 0]


def test_a_run_that_goes_back_to_a_checkpoint_is_shown_from_there(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", done=22)
    follower = Follower(folder, "run")
    run = follower.read()
    assert run is not None and run.step == 22 and [each.step for each in run.decisions] == [5, 10, 15, 20]
    DecisionLog(folder).truncate(12)
    record = RunRecord(folder)
    record.truncate(sum(entry.step <= 12 for entry in record.log()))
    run = follower.read()
    assert run is not None and run.step == 12 and [each.step for each in run.decisions] == [5, 10]
    assert run.usage is not None and read_run(folder, "run").usage is not None
    assert run.usage.rows_by_times.tolist() == read_run(folder, "run").usage.rows_by_times.tolist()


def test_a_decision_that_is_half_written_is_shown_once_it_is_whole(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", done=12)
    follower = Follower(folder, "run")
    follower.read()
    line = next(iter(DecisionLog(folder))).to_json().replace('"step": 5', '"step": 15')
    with DecisionLog(folder).path.open("a") as file:
        file.write(line[:40])
    run = follower.read()
    assert run is not None and run.decisions[-1].step == 10
    with DecisionLog(folder).path.open("a") as file:
        file.write(line[40:] + "\n")
    run = follower.read()
    assert run is not None and run.decisions[-1].step == 15


def test_a_plan_that_is_half_written_leaves_the_usage_of_before(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", done=12)
    follower = Follower(folder, "run")
    before = follower.read()
    (folder / plan_name(12)).write_bytes(b"\x93NUMPY")
    RunRecord(folder).append(Logged(step=13, values={"loss": 1.0}))
    after = follower.read()
    assert before is not None and after is not None and after.step == 13
    assert after.usage is before.usage is not None


def test_of_thousands_of_decisions_only_new_ones_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_run(tmp_path / "run", Kind.MIXER, boundaries=2000, update=1, done=1990)
    follower = Follower(folder, "run")
    follower.read()
    read, parse = list[str](), Decision.from_json
    monkeypatch.setattr(Decision, "from_json", lambda line: read.append(line) or parse(line))
    last = DecisionLog(folder).path.read_text().splitlines()[-1]
    with DecisionLog(folder).path.open("a") as file:
        file.write(last.replace('"step": 1990', '"step": 1991') + "\n")
    run = follower.read()
    assert run is not None and run.step == 1991 and len(read) == 1


def test_nothing_is_read_while_nothing_changes(tmp_path: Path) -> None:
    follower = Follower(write_run(tmp_path / "run", done=12), "run")
    assert follower.read() is follower.read() and follower.changed == 1


def test_a_static_run_is_followed_by_llamafactorys_log_and_ended_by_the_trainers_state(tmp_path: Path) -> None:
    follower = Follower(tmp_path, "static")
    assert follower.read() is None
    log = tmp_path / "trainer_log.jsonl"
    log.write_text('{"current_steps": 3, "total_steps": 9, "loss": 2.5, "remaining_time": "1 day, 0:01:05"}\n{"curr')
    (tmp_path / "checkpoint-2").mkdir()
    (tmp_path / "checkpoint-2" / "trainer_state.json").write_text('{"log_history": [{"loss": 3.0, "step": 2}]}')
    run = follower.read()
    assert run is not None and (run.step, run.series["loss"].last) == (3, 2.5)
    assert ahead(run, follower.log, 0.0) == Ahead(total=9, end_in=86_465.0)
    history = [{"loss": 2.0, "step": 9}, {"train_runtime": 7.0, "step": 9}]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    run = follower.read()
    assert run is not None and run.series["loss"].last == 2.0


def entry(step: int, elapsed: float, decisions: float) -> Logged:
    return Logged(step=step, values={"loss": 1.0}, seconds={"elapsed": elapsed, "decisions": decisions})


def look_ahead(folder: Path, log: Sequence[Logged], age: float = 0.0) -> Ahead:
    return ahead(read_run(folder, "run"), log, age)


def test_the_next_boundary_and_the_end_are_reckoned_from_steps_and_decisions(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", boundaries=8, update=5, done=12)  # 45 steps, decisions of 0.2 s each
    log = [entry(2, 10.0, 1.0), entry(12, 51.0, 2.0)]
    # by hand: 10 steps in (51 - 2) - (10 - 1) = 40 s; 3 to step 15; 33 and six decisions to the end
    assert look_ahead(folder, log) == Ahead(
        total=45, boundary=15, boundary_in=12.0, end_in=33 * 4 + 6 * 0.2, step_seconds=4.0
    )
    assert look_ahead(folder, log, age=5.0).boundary_in == 7.0
    assert look_ahead(folder, log, age=500.0).boundary_in == 0.0
    assert look_ahead(folder, []) == Ahead(total=45, boundary=15)


def test_a_boundary_that_is_reached_is_being_decided(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", done=14)
    assert not look_ahead(folder, []).due
    RunRecord(folder).append(Logged(step=15, values={"loss": 1.0}))
    found = look_ahead(folder, [])
    assert found.due and found.boundary == 15


def test_a_weight_run_has_no_boundary_ahead(tmp_path: Path) -> None:
    assert look_ahead(write_run(tmp_path / "run", Kind.WEIGHTER, done=12), []) == Ahead(total=45)


def test_a_run_that_came_to_its_end_has_one(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", done=45)
    record = RunRecord(folder)
    info = record.info()
    assert info is not None
    record.write_info(type(info)(**{**vars(info), "ending": Ending(steps=45, metrics={})}))
    assert look_ahead(folder, []).boundary is None
