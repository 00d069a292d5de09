"""What LlamaFactory and its libraries raise ends in one sentence, exit code 2, with the data set and row at fault."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tiny_runs import NOTE_MIX, NOTE_SELECT, NOTE_WEIGHT

from dataflex.cli.app import main
from dataflex.testing.tiny import tiny_rows

pytestmark = pytest.mark.slow

GOOD = tiny_rows(12)
CHATS = [
    {"conversations": [{"from": "human", "value": f"q{row}"}, {"from": "gpt", "value": f"a{row}"}]} for row in range(30)
]
SHAREGPT = {"formatting": "sharegpt"}
SELECT = NOTE_SELECT
MIX = {**NOTE_MIX, "init_mixture_proportions": [0.5, 0.5]}
STATIC = {"max_steps": 2}


def lines(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def changed(rows, index, row) -> list:
    return [*rows[:index], row, *rows[index + 1 :]]


NULL_TURN = {"conversations": [{"from": "human", "value": "q17"}, {"from": "gpt", "value": None}]}
BLANK_TOOLS = [{**row, "tools": " " if index == 21 else "[]"} for index, row in enumerate(CHATS)]
TOOLS = {**SHAREGPT, "columns": {"messages": "conversations", "tools": "tools"}}
FILES = {  # name: file, its text, entry of dataset_info.json
    "short": ("short.jsonl", lines([{"text": "too short"}]), {"columns": {"prompt": "text"}}),
    "long": ("long.jsonl", lines([{"text": "x" * 400}] * 40), {"columns": {"prompt": "text"}}),
    "numbers": ("numbers.csv", "instruction,input,output\none plus one,,2\ntwo plus three,,5\n", {}),
    "empty": ("empty.jsonl", "", {}),
    "null": ("null.jsonl", lines(changed(CHATS, 17, NULL_TURN)), SHAREGPT),
    "cut": ("cut.jsonl", lines(GOOD[:10]) + '{"instruction": "cut off", "outp\n' + lines(GOOD[10:]), {}),
    "tools": ("tools.jsonl", lines(BLANK_TOOLS), TOOLS),
    "keyless": ("keyless.jsonl", lines([{"question": "x", "answer": "y"}] * 5), {}),
    "parquet": ("parquet.parquet", "hello", {}),
    "turned": (
        "turned.jsonl",
        lines(changed(CHATS, 4, {"conversations": CHATS[4]["conversations"][::-1]})),
        SHAREGPT,
    ),
    "ranked": ("ranked.jsonl", lines(GOOD), {"ranking": True}),
    "none": ("none.jsonl", lines(GOOD), {"num_samples": 0}),
    "unknown": ("unknown.jsonl", lines(GOOD), {"formatting": "shargpt"}),
    "good": ("good.jsonl", lines(GOOD), {}),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("broken")
    info = {"remote": {"hf_hub_url": "nobody/nothing"}, "nowhere": {"columns": {}}, "gone": {"file_name": "gone.jsonl"}}
    for name, (file, text, entry) in FILES.items():
        (folder / file).write_text(text)
        info[name] = {"file_name": file, **entry}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


@pytest.fixture
def told(workshop, data, capsys, monkeypatch):
    """Run ``dataflex train`` (or another command) in this process; the exit code, and what was said last."""
    monkeypatch.delenv("DATAFLEX_DEBUG", raising=False)
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("logging.raiseExceptions", False)  # libraries' handlers keep an earlier test's standard error

    def told(*, command=("train",), options=(), **keys) -> tuple[int, str, str]:
        plain = {"disable_tqdm": True}  # a bar that is not at its end would stand before the sentence, on its line
        path = workshop.run_file(**{"dataset_dir": str(data), "cutoff_len": 128, **plain, **keys})
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*command, str(path), *options])
            raise SystemExit(0)
        err = capsys.readouterr().err
        *_, sentence = ["", *re.findall(r"^Error: (.*)$", err, re.MULTILINE)]
        assert not re.search(r"^Traceback", err, re.MULTILINE)
        assert "_dataflex" not in err
        return ended.value.code or 0, sentence, err

    return told


BROKEN = [  # name, kinds of run, what the sentence holds
    ("numbers", "select mix weight static", "numbers"),
    ("empty", "select mix static", "whose file empty.jsonl is empty"),
    ("null", "select mix weight static", "row 17 (counted from 0): RuntimeError: Expected a string, got None. The"),
    ("cut", "select mix static", "line 11 of cut.jsonl"),
    ("tools", "select mix static", "row 21 (counted from 0): RuntimeError: Invalid JSON format in tool description"),
    ("keyless", "select mix", "Its columns are question, answer; `columns` in dataset_info.json"),
    ("parquet", "mix", "Parquet file size is 5 bytes"),
    ("remote", "select mix", "Couldn't reach 'nobody/nothing' on the Hub"),
    ("ranked", "select", "not applicable in the current training stage"),
    ("unknown", "mix", "converter shargpt not found"),
    ("gone", "select", "gone.jsonl not found"),
    ("none", "select mix", "of which num_samples: 0 in dataset_info.json leaves no row"),
]
KINDS = {"select": SELECT, "mix": MIX, "weight": NOTE_WEIGHT, "static": STATIC}


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [pytest.param(name, kind, text, id=f"{name}-{kind}") for name, kinds, text in BROKEN for kind in kinds.split()],
)
def test_the_data_set_at_fault_is_named_before_the_model_loads(told, workshop, name, kind, expected, monkeypatch):
    loaded = []
    monkeypatch.setattr("llamafactory.train.sft.workflow.load_model", lambda *args, **kwargs: loaded.append(args))
    code, sentence, _ = told(**{**KINDS[kind], "dataset": f"good,{name}"})
    assert code == 2 and not loaded
    assert sentence.startswith(f"LlamaFactory cannot load dataset: {name} (from run.yaml)")
    assert expected in sentence and "good" not in sentence.replace(str(workshop.out), "")
    log = workshop.out / "run" / "dataflex" / "error.log"
    assert f"The last calls before it are in {log}" in sentence and log.read_text().count("  File ") >= 2


@pytest.mark.parametrize("kind", [SELECT, MIX])
def test_a_row_that_a_preprocessing_worker_fails_at_is_named(told, kind):
    code, sentence, _ = told(**{**kind, "dataset": "good,null", "preprocessing_num_workers": 2})
    assert code == 2 and "dataset: null (from run.yaml), row 17 (counted from 0)" in sentence and '"q17"' in sentence


def test_a_pretraining_set_too_short_for_one_block_is_named(told):
    code, sentence, _ = told(**{**MIX, "dataset": "long,short", "stage": "pt", "cutoff_len": 64})
    assert code == 2 and "dataset: short (from run.yaml)" in sentence and "cutoff_len: 64" in sentence


@pytest.mark.parametrize("packing", [True, False])
def test_an_eval_set_at_fault_is_named_by_its_key(told, packing):
    keys = {**SELECT, "dataset": "good", "eval_dataset": "good,tools", "eval_strategy": "steps", "packing": packing}
    code, sentence, _ = told(**keys)
    assert code == 2 and "cannot load eval_dataset: tools (from run.yaml), row 21" in sentence


def test_score_names_it_too(told, tmp_path):
    options = ("--component", "loss", "--out", str(tmp_path / "scores"))
    code, sentence, _ = told(command=("score",), options=options, dataset="good,null", **STATIC)
    assert code == 2 and "dataset: null (from run.yaml), row 17" in sentence
    assert (tmp_path / "scores" / "work" / "error.log").is_file()
    again, sentence_again, _ = told(command=("score",), options=options, dataset="good,null", **STATIC)
    assert (again, sentence_again) == (code, sentence)


@pytest.mark.parametrize("kind", ["select", "mix"])
def test_a_tokenised_folder_that_is_broken_is_named(told, tmp_path, kind):
    folder = tmp_path / "tokenised" if kind == "select" else tmp_path / "tokenised" / "train-good"
    folder.mkdir(parents=True)
    (folder / "dataset_dict.json").write_text('{"splits": ["train"]}')
    sets = {"dataset": "good"} if kind == "select" else {"dataset": "good,tools"}
    code, sentence, _ = told(**{**KINDS[kind], **sets, "tokenized_path": str(tmp_path / "tokenised")})
    assert code == 2 and f"cannot load tokenized_path: {folder} (from run.yaml)" in sentence


@pytest.mark.parametrize("kind", ["select", "mix", "static"])
def test_rows_that_llamafactory_drops_are_counted_by_data_set(told, kind):
    code, _, err = told(**{**KINDS[kind], "dataset": "good,turned"})
    assert code == 0
    assert "LlamaFactory dropped 1 of the 30 rows of turned" in err and "rows of good" not in err


def test_a_tracker_whose_package_is_missing_is_told_before_data_loads(told, monkeypatch):
    monkeypatch.setattr("transformers.integrations.integration_utils.is_wandb_available", lambda: False)
    for command in ("train", "check-run"):
        code, sentence, _ = told(command=(command,), **{**SELECT, "dataset": "null", "report_to": "wandb"})
        assert code == 2 and "report_to: wandb (from run.yaml) needs a package that is not installed" in sentence
        assert "pip install wandb" in sentence
    _, sentence, _ = told(**{**SELECT, "dataset": "null", "report_to": "wandbb"})
    assert "report_to: wandbb (from run.yaml) is no tracker of transformers. Did you mean 'wandb'?" in sentence


@pytest.mark.parametrize(
    ("where", "kind", "expected"),
    [
        ("llamafactory.train.sft.workflow.load_model", "select", "LlamaFactory's run failed: ArithmeticError: no such"),
        (
            "llamafactory.train.callbacks.LogCallback.on_log",
            "select",
            "the callback LogCallback failed in on_log at step",
        ),
        (
            "llamafactory.train.callbacks.LogCallback.on_log",
            "static",
            "the callback LogCallback failed in on_log at step",
        ),
        ("transformers.trainer.Trainer.evaluation_loop", "weight", "the evaluation failed at step 1"),
        ("torch.optim.AdamW.step", "mix", "failed at step 0: ArithmeticError: no such"),
        ("torch.nn.functional.silu", "mix", "the training step failed at step 0: ArithmeticError"),
        ("transformers.trainer.Trainer.create_optimizer", "static", "ArithmeticError: no such"),
    ],
)
def test_a_part_of_the_training_that_fails_is_named(told, monkeypatch, where, kind, expected):
    def fail(*args, **kwargs):
        raise ArithmeticError("no such number")

    monkeypatch.setattr(where, fail)
    keys = {"dataset": "good,turned", "eval_dataset": "good", "eval_strategy": "steps", "eval_steps": 1}
    code, sentence, _ = told(**{**KINDS[kind], **keys})
    assert code == 2 and expected in sentence


@pytest.mark.parametrize("kind", ["select", "mix", "static"])
def test_a_cache_folder_that_cannot_be_made_is_told_in_one_sentence(told, kind):
    code, sentence, _ = told(**{**KINDS[kind], "dataset": "good,turned", "cache_dir": "/dev/null/cache"})
    assert code == 2 and "/dev/null/cache" in sentence
