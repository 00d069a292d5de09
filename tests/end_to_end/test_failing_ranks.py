"""A rank that fails, dies or decides otherwise stops the others, and the first error is what the user reads."""

from __future__ import annotations

import subprocess

import pytest
from tiny_runs import NOTE_SELECT, NOTE_WEIGHT, Workshop, call, script

pytestmark = pytest.mark.slow

UNEVEN = """
import os

import numpy as np
from dataflex import Selector, register_selector
from dataflex.distributed import gather_scores

@register_selector("uneven")
class Uneven(Selector):
    def select(self, model, step_id, num_samples, **kwargs):
        pool, rank = len(self.dataset), self.accelerator.process_index
        if step_id == 5 and rank == 1:
            {on_rank_1}
        rows = np.arange(rank, pool, 2)
        scores = gather_scores(rows, rows, pool, self.accelerator)
        {everywhere}
        return scores.argsort()[:num_samples]
"""


BREAKING = """
import os

import torch
from dataflex import Weighter, register_weighter

@register_weighter("breaking")
class Breaking(Weighter):
    def weights(self, losses_B, context):
        if os.environ["RANK"] == "1" and context.step == 2:
            raise LookupError("no such neighbour")
        return torch.ones_like(losses_B)
"""


def run_two_ranks(
    workshop: Workshop, *, on_rank_1: str = "pass", everywhere: str = "pass", **keys: object
) -> subprocess.CompletedProcess[str]:
    """Run a selector on two ranks that does something of its own before or after the ranks exchange their scores."""
    plugin = workshop.out / "uneven.py"
    plugin.write_text(UNEVEN.format(on_rank_1=on_rank_1, everywhere=everywhere))
    run = workshop.run_file(**NOTE_SELECT | {"component_name": "uneven", "gradient_accumulation_steps": 1} | keys)
    command = (script("dataflex-cli"), "-p", str(plugin), "train", str(run))
    return call(*command, FORCE_TORCHRUN="1", NPROC_PER_NODE="2")


@pytest.mark.fault("a component raises on one rank of two", kept="a checkpoint of the step it was asked at")
def test_a_selector_that_fails_on_one_rank_stops_the_other_that_waits_for_its_scores(workshop, seen):
    done = run_two_ranks(workshop, on_rank_1='raise LookupError("no such neighbour")')
    assert done.returncode != 0
    message = said(done)
    assert "failed in select() at step 5: LookupError: no such neighbour (on rank 1). Nothing is lost" in message
    seen(message[message.index("Error: ") :].partition(" [")[0][:600])
    assert (workshop.out / "run" / "checkpoint-5" / "dataflex" / "COMPLETE").is_file()


def test_a_selector_that_hangs_on_one_rank_is_ended_while_the_other_waits_for_its_scores(workshop):
    done = run_two_ranks(workshop, on_rank_1='__import__("time").sleep(600)', component_timeout=3)
    assert done.returncode != 0
    message = "failed in select() at step 5: it took longer than component_timeout: 3 seconds, and was at"
    assert message in said(done) and "(on rank 1). Nothing is lost" in said(done)
    assert (workshop.out / "run" / "checkpoint-5" / "dataflex" / "COMPLETE").is_file()


def test_a_weighter_that_fails_on_one_rank_is_named_by_that_rank(workshop):
    plugin = workshop.out / "breaking.py"
    plugin.write_text(BREAKING)
    run = workshop.run_file(**NOTE_WEIGHT | {"component_name": "breaking"})
    command = (script("dataflex-cli"), "-p", str(plugin), "train", str(run))
    done = call(*command, FORCE_TORCHRUN="1", NPROC_PER_NODE="2")
    assert done.returncode != 0
    assert "rank 1: weighter 'breaking' of" in said(done)
    assert "failed in weights() at step 2: LookupError: no such neighbour" in said(done)


@pytest.mark.fault("a rank dies", kept="the checkpoints before; the other ranks are ended")
def test_a_rank_that_dies_takes_the_other_down(workshop, seen):
    done = run_two_ranks(workshop, on_rank_1="os._exit(7)", num_train_epochs=3)
    assert done.returncode != 0
    assert said(done).count("num_train_epochs is ignored") == 1  # by the command, and not by each rank again
    message = "rank : 1 (local_rank: 1) exitcode : 7"
    assert message in said(done)  # torchrun's report of the first failure
    seen(message)


def test_a_selector_that_draws_from_a_generator_of_each_ranks_own_is_told_where_to_draw_from(workshop):
    done = run_two_ranks(workshop, everywhere="scores = np.random.default_rng().permutation(pool)")
    assert done.returncode != 0
    assert "the plan made at step 2 on rank 1 differs from rank 0's" in said(done)
    assert "Draw from context.rng(step), never from a global generator" in said(done)


def said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join(done.stderr.split())
