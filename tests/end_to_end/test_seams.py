"""The seams to LlamaFactory are checked before they are used, and left as they were."""

from __future__ import annotations

import logging
import sys

import pytest
from tiny_runs import NOTE_SELECT

from dataflex.errors import IncompatibleError

pytestmark = pytest.mark.slow


def test_every_seam_of_the_tested_version_is_in_place():
    from dataflex.bridge.llamafactory import seam_report

    checks = seam_report()
    assert len(checks) == 11 and all(check.ok for check in checks)


def test_a_workflow_that_no_longer_uses_its_trainer_is_named(workshop, train, monkeypatch):
    import llamafactory.train.sft.workflow as workflow

    monkeypatch.setattr(workflow, "run_sft", lambda *args: None)
    with pytest.raises(IncompatibleError, match=r"run_sft in .*workflow.py no longer uses CustomSeq2SeqTrainer"):
        train(workshop.run_file(**NOTE_SELECT))


def test_a_get_dataset_of_another_signature_is_named(workshop, train, monkeypatch):
    import llamafactory.train.sft.workflow as workflow

    def get_dataset(template, model_args):
        return {}

    monkeypatch.setattr(workflow, "get_dataset", get_dataset)
    with pytest.raises(IncompatibleError, match=r"get_dataset in .*workflow.py no longer takes data_args, processor"):
        train(workshop.run_file(**NOTE_SELECT))


def test_llamafactory_is_left_as_it_was(workshop, train):
    import llamafactory.train.sft.workflow as workflow

    before = workflow.CustomSeq2SeqTrainer, workflow.get_dataset
    train(workshop.run_file(**NOTE_SELECT))
    assert (workflow.CustomSeq2SeqTrainer, workflow.get_dataset) == before


def test_another_version_is_tried_with_a_warning(workshop, train, monkeypatch, caplog):
    from dataflex.bridge import versions

    monkeypatch.setattr(versions, "TESTED", {"0.0.1": ("4.0", "4.1")})
    with caplog.at_level(logging.WARNING, "dataflex"):
        train(workshop.run_file(**NOTE_SELECT))
    assert "was not tested with this release" in caplog.text and "llamafactory==0.0.1 with" in caplog.text


def test_a_llamafactory_that_cannot_be_imported_is_refused_with_what_to_install(workshop, train, monkeypatch):
    monkeypatch.setitem(sys.modules, "llamafactory.hparams", None)  # importing it raises
    message = r"llamafactory \S+ with transformers \S+ cannot be imported \(.*\)\. Install versions that were tested"
    with pytest.raises(IncompatibleError, match=message):
        train(workshop.run_file(**NOTE_SELECT))


def test_a_metric_that_would_count_the_whole_data_set_is_left_out(workshop, train, caplog):
    with caplog.at_level(logging.WARNING, "dataflex"):
        train(workshop.run_file(**NOTE_SELECT, include_effective_tokens_per_second=True))
    assert "include_effective_tokens_per_second would count the whole data set" in caplog.text
    assert "effective_tokens_per_sec" not in (workshop.out / "run" / "all_results.json").read_text()
