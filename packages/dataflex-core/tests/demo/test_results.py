"""From the files of a run to the figures, and from the figures to sentences."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from dataflex.decisions import Decision, DecisionLog
from dataflex.demo import results, tables
from dataflex.demo.findings import findings
from dataflex.demo.results import Finished, RunResult
from dataflex.demo.row import Domain
from dataflex.errors import DataFlexError
from dataflex.spec import Kind

DOMAINS = [Domain.DOCSTRINGS, Domain.SOURCE, Domain.SOURCE, Domain.PACKAGES, Domain.LICENCES]


@pytest.fixture
def ended(tmp_path) -> Finished:
    """A finished run: 10 s in the Trainer, of which 3 s scored; 2 s of evaluation; two boundaries."""
    folder = tmp_path / "runs" / "random"
    (folder / "decisions").mkdir(parents=True)
    figures = {"train_runtime": 10.0, "eval_docstrings_loss": 4.5, "eval_docstrings_runtime": 1.5}
    figures |= {"eval_others_loss": 4.25, "eval_others_runtime": 0.5}
    (folder / "all_results.json").write_text(json.dumps(figures))
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 110}))
    for stage, (step, rows, seconds) in enumerate([(20, [0, 0, 1, 3], 1.0), (50, [4, 4, 4, 4], 2.0)], start=1):
        reference = f"decisions/step-{step}.npy"
        np.save(folder / reference, np.array(rows))
        facts = {"component": "random", "dist": "d", "version": "1", "params": {}, "seed": 42}
        DecisionLog(folder).append(
            Decision(step=step, stage=stage, kind=Kind.SELECTOR, seconds=seconds, result_ref=reference, **facts)
        )
    files = {"output_dir": folder, "run_file": tmp_path / "random.yaml", "log": tmp_path / "random.log"}
    return Finished(name="random", component="random", wall_seconds=20.0, **files)


def test_seconds_are_split_into_phases_that_sum_to_the_process(ended):
    result = results.read(ended, DOMAINS)
    assert (result.training_seconds, result.scoring_seconds, result.evaluation_seconds) == (7.0, 3.0, 2.0)
    assert result.starting_seconds == 8.0
    assert result.wall_seconds == 20.0


def test_shares_are_those_of_the_rows_the_decisions_name(ended):
    result = results.read(ended, DOMAINS)
    assert [choice.step for choice in result.choices] == [20, 50]
    assert result.choices[0].shares == {"docstrings": 0.5, "source": 0.25, "packages": 0.25, "licences": 0.0}
    assert result.choices[1].shares["licences"] == 1.0


def test_a_run_without_its_eval_losses_is_an_error_that_names_key_and_log(ended):
    (ended.output_dir / "all_results.json").write_text(json.dumps({"train_runtime": 1.0}))
    with pytest.raises(DataFlexError, match=r"eval_docstrings_loss.*random\.log"):
        results.read(ended, DOMAINS)


def run(name: str, component: str, steps: int, target: float, others: float, training: float, scoring: float):
    seconds = {"training_seconds": training, "scoring_seconds": scoring}
    seconds |= {"evaluation_seconds": 1.0, "starting_seconds": 9.0}
    texts = dict.fromkeys(("run_file", "log", "output_dir", "command"), "")
    losses = {"target_loss": target, "others_loss": others}
    return RunResult(name=name, component=component, steps=steps, choices=(), **losses, **seconds, **texts)


RANDOM = run("random", "random", 110, 4.657, 4.2, 9.0, 0.0)
LOSS = run("loss", "loss", 110, 4.581, 4.3, 9.0, 12.0)
LONG = run("random_long", "random", 440, 4.124, 4.0, 18.0, 0.0)


def test_each_sentence_says_what_the_table_says():
    sentences = findings([RANDOM, LOSS, LONG], "random")
    assert sentences[:2] == [
        "loss and random, the same 110 steps: loss is 0.076 better than random on docstrings and 0.100 worse than it "
        "on the other domains; scoring took 12.0 s beside 9.0 s of training.",
        "random_long, 440 steps: random_long is 0.457 better than loss on docstrings and 0.300 better than it on the "
        "other domains; training and scoring took 18.0 s, those of loss 21.0 s.",
    ]
    assert "single run" in sentences[2]


def test_a_loss_as_good_as_the_baselines_is_not_called_better():
    level = dataclasses.replace(LOSS, target_loss=4.6569)
    assert "level with random on docstrings" in findings([RANDOM, level], "random")[0]


def test_without_another_component_the_baselines_are_compared():
    assert "0.533 better than random" in findings([RANDOM, LONG], "random")[0]


def test_the_best_loss_of_each_column_is_marked():
    table = tables.losses([RANDOM, LOSS, LONG])
    assert list(table.columns[2].cells) == ["4.657", "4.581", "[bold]4.124[/]"]


def test_a_run_with_many_boundaries_gets_one_line_with_their_mean(ended):
    result = results.read(ended, DOMAINS)
    many = dataclasses.replace(result, choices=tuple(result.choices) * 4)
    table = tables.selections([many], results.shares(DOMAINS))
    assert list(table.columns[1].cells) == ["", "8 times, mean"]
    assert list(table.columns[2].cells) == ["20%", "25%"]
