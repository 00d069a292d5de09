"""The demo itself: tokenizer, model, real runs."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from dataflex.cli.demo import run_demo
from dataflex.decisions import DecisionLog
from dataflex.demo import chat, pretrain, tokenizer_model, tour
from dataflex.demo.row import Domain, Row
from dataflex.demo.runs import BASELINE, RUNS, DemoRun
from dataflex.demo.settings import CUTOFF, Settings
from dataflex.errors import ConfigError

QUICK = Settings.choose(3, quick=True)


def long_row(index: int) -> Row:
    return Row(Domain.SOURCE, "m", f"Write the function m.f{index}.", " ".join(f"größe_{index + k}" for k in range(40)))


def test_rows_are_shortened_to_the_cutoff_and_short_ones_left_alone():
    rows = [long_row(index) for index in range(5)]
    tokenizer = tokenizer_model.train_tokenizer(rows)
    short = Row(Domain.SOURCE, "m", "Write it.", "def f(): return 1")
    assert chat.fit(short, tokenizer, CUTOFF) == short
    for row in rows:
        fitted = chat.fit(row, tokenizer, 60)
        assert 0 < len(chat.token_ids(fitted, tokenizer)) <= 60
        assert row.answer.startswith(fitted.answer)
        assert fitted.answer


def test_a_prompt_that_fills_the_cutoff_is_an_error_not_an_empty_answer():
    tokenizer = tokenizer_model.train_tokenizer([long_row(0)])
    with pytest.raises(ValueError, match="does not fit"):
        chat.fit(long_row(0), tokenizer, 5)


def test_pretraining_lowers_the_loss_and_leaves_the_global_random_state_alone():
    import torch

    rows = [long_row(index) for index in range(8)]
    tokenizer = tokenizer_model.train_tokenizer(rows)
    before = torch.get_rng_state()
    model = tokenizer_model.new_model(tokenizer, seed=0)
    seen: list[float] = []
    pretrain.pretrain(
        model,
        [chat.token_ids(row, tokenizer) for row in rows],
        steps=8,
        batch=4,
        rate=3e-3,
        seed=0,
        report=lambda step, loss: seen.append(loss),
    )
    assert torch.equal(before, torch.get_rng_state())
    assert seen[0] == pytest.approx(np.log(tokenizer_model.VOCABULARY), abs=0.5)  # a random model guesses
    assert seen[-1] < seen[0] - 0.5
    assert not model.training


def test_a_run_whose_selector_is_not_installed_is_left_out():
    usable, missing = tour.installed([BASELINE, DemoRun(name="x", component="no_such_selector")])
    assert usable == [BASELINE]
    assert missing == ["no_such_selector"]


def test_without_the_baseline_there_is_no_demo(monkeypatch):
    monkeypatch.setenv("DATAFLEX_NO_PLUGINS", "1")
    with pytest.raises(ConfigError, match="random"):
        tour.installed(RUNS)


@pytest.mark.slow
def test_data_and_model_alone_are_made_for_a_study(tmp_path, capsys):
    run_demo(tmp_path / "seed", QUICK.seed, True, prepared_only=True)
    said = capsys.readouterr().out
    assert f"dataset_dir: {tmp_path / 'seed' / 'data'}" in said and (tmp_path / "seed/model/config.json").is_file()
    assert not (tmp_path / "seed" / "runs").exists()


@pytest.fixture(scope="module")
def quick_demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("parent") / "a demo"
    run_demo(out, QUICK.seed, True)
    return out


@pytest.mark.slow
@pytest.mark.xdist_group("quick_demo")
def test_every_run_of_the_demo_trained_and_was_measured(quick_demo):
    summary = json.loads((quick_demo / "summary.json").read_text())
    assert summary["quick"] is True
    assert {run["name"]: run["steps"] for run in summary["runs"]} == {
        "random": 6,
        "loss": 6,
        "lexical": 6,
        "less": 6,
        "random@4": 24,
    }
    for run in summary["runs"]:
        results = json.loads((quick_demo / "runs" / run["name"] / str(QUICK.seed) / "all_results.json").read_text())
        assert run["target_loss"] == results["eval_docstrings_loss"]
        assert run["others_loss"] == results["eval_others_loss"]
        assert 0 < run["target_loss"] < 8


@pytest.mark.slow
@pytest.mark.xdist_group("quick_demo")
def test_it_ends_with_the_page_of_a_study_and_a_report_of_each_run(quick_demo):
    page = (quick_demo / "report.html").read_text()
    assert "<title>DataFlex study: demo</title>" in page
    for run in ("random", "loss", "lexical", "less", "random@4"):
        assert f'href="runs/{run}/{QUICK.seed}/report.html"' in page
    assert "Scores of the pool over time" in (quick_demo / f"runs/loss/{QUICK.seed}/report.html").read_text()


@pytest.mark.slow
@pytest.mark.xdist_group("quick_demo")
def test_it_can_be_gone_on_with_as_a_study(quick_demo):
    from dataflex.cli.study import tools_with
    from dataflex.study.dry_run import dry_run
    from dataflex.study.file import read_study_file

    found = dry_run(read_study_file(quick_demo / "demo.yaml", [f"seeds=[{QUICK.seed},4]"]), tools_with([]))
    assert [row["state"] for row in found.rows] == ["done"] * 5 + ["to train"] * 5 and found.left == 5


def test_the_shares_shown_are_those_of_the_rows_that_were_chosen(quick_demo):
    lines = (quick_demo / "data" / "pool.jsonl").read_text().splitlines()
    of_answer = {
        json.loads(line)["output"]: domain.value
        for domain in Domain
        for line in (quick_demo / "data" / f"pool_{domain}.jsonl").read_text().splitlines()
    }
    summary = json.loads((quick_demo / "summary.json").read_text())
    for run in summary["runs"]:
        folder = quick_demo / "runs" / run["name"] / str(QUICK.seed)
        for choice, decision in zip(run["choices"], DecisionLog(folder), strict=True):
            rows = np.load(folder / decision.result_ref)
            assert len(rows) == QUICK.update * QUICK.batch
            counts = Counter(of_answer[json.loads(lines[row])["output"]] for row in rows)
            assert choice["step"] == decision.step
            assert choice["shares"] == {domain.value: counts[domain.value] / len(rows) for domain in Domain}


@pytest.mark.slow
@pytest.mark.xdist_group("quick_demo")
def test_llamafactory_keeps_every_row_whole_and_in_order(quick_demo):
    """Its own tokenizer, template and processor, on the files of the demo."""
    from llamafactory.data.processor.processor_utils import infer_seqlen
    from llamafactory.data.template import TEMPLATES
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(quick_demo / "model")
    template = TEMPLATES[chat.TEMPLATE]
    template.fix_special_tokens(tokenizer)
    for name in ("pool", "docstrings", "others", "validation"):
        for line in (quick_demo / "data" / f"{name}.jsonl").read_text().splitlines():
            row = json.loads(line)
            assert row["instruction"] and row["output"]
            messages = [
                {"role": "user", "content": row["instruction"]},
                {"role": "assistant", "content": row["output"]},
            ]
            prompt, reply = template.encode_oneturn(tokenizer, messages)
            assert infer_seqlen(len(prompt), len(reply), CUTOFF) == (len(prompt), len(reply))
            made = Row(Domain.SOURCE, "", row["instruction"], row["output"])
            assert [*prompt, *reply] == chat.token_ids(made, tokenizer.backend_tokenizer)
