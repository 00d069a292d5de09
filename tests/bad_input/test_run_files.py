"""A run file that somebody got wrong makes the run it asks for, or an error that says which key and where it stands."""

from __future__ import annotations

import pytest
from asked_runs import differences
from hypothesis import HealthCheck, given, settings
from run_mutations import ODD, VALID, Mutated, mutated_run_files, with_value

from dataflex.config.run import OUR_KEYS

pytestmark = pytest.mark.slow  # thousands of run files, through LlamaFactory's parser

CASES = 1400
PARAMETERS = sorted(
    {f"component_params.{name}" for keys in VALID.values() for name in keys.get("component_params", ())}
)


def start(stage, folder, run):
    """Start a run file; check that it is accepted as it says or refused by name; the exit code."""
    (folder / "run.yaml").write_text(run.text, encoding="utf-8")
    started = stage.start(folder / "run.yaml")
    if started.code == 0:
        assert run.twice is None, run.what  # the last value would have won
        assert list(differences(started, run.asked)) == [], run.what
        return 0
    assert started.code == 2 and "Error: " in started.told and "Traceback" not in started.told
    assert "run.yaml" in started.told, (run.what, started.told)
    assert "cannot be read" in started.told or run.is_named_in(started.told), (run.what, started.told)
    return 2


@pytest.mark.parametrize("name", VALID)
def test_the_files_that_are_mutated_are_accepted_and_say_what_they_ask(stage, folder, rest, name):
    assert start(stage, folder, Mutated(name, {**rest, **VALID[name]}, ())) == 0


@pytest.mark.parametrize("key", OUR_KEYS)
def test_every_odd_value_of_a_key_is_taken_as_it_is_or_refused_with_the_key(stage, folder, rest, key):
    codes = {start(stage, folder, with_value(key, value, rest)) for value in ODD}
    assert 2 in codes


@pytest.mark.parametrize("place", range(len(PARAMETERS)))
def test_odd_values_of_a_parameter_are_taken_as_they_are_or_refused_with_its_name(stage, folder, rest, place):
    for value in ODD[place % 4 :: 4]:  # together they see every value
        start(stage, folder, with_value(PARAMETERS[place], value, rest))


@pytest.mark.parametrize("cases", [CASES // 20, pytest.param(CASES, marks=pytest.mark.long)])
def test_every_mutated_run_file_is_taken_as_it_says_or_refused_with_the_key(stage, folder, rest, cases):
    seen, twice = {0: set(), 2: set()}, {"at top level": set(), "inside a value": set()}

    @settings(
        max_examples=cases, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(run=mutated_run_files(rest))
    def every_one(run):
        seen[start(stage, folder, run)].add(run.text)
        if run.twice is not None:
            twice["inside a value" if len(run.twice[0]) > 1 else "at top level"].add(run.text)

    every_one()
    assert len(seen[0] | seen[2]) >= cases // 2
    assert len(seen[0]) >= cases // 20
    assert min(map(len, twice.values())) >= cases // 50
