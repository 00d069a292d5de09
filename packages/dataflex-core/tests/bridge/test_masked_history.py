"""Tokens of a chat are counted as they are trained on: under ``mask_history``, those of the last answer only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer, Seq2SeqTrainingArguments

from dataflex.data.trained_tokens import trained_tokens
from dataflex.testing.tiny import write_model

TALK = [("human", "one"), ("gpt", "first"), ("human", "two"), ("gpt", "a second answer")]


@pytest.mark.parametrize(("masked", "answers"), [(False, ["first", "a second answer"]), (True, ["a second answer"])])
def test_tokens_are_those_of_the_answers_that_are_trained_on(tmp_path: Path, masked: bool, answers: list[str]) -> None:
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.data.loader import get_dataset
    from llamafactory.hparams import DataArguments, ModelArguments

    row = {"conversations": [{"from": role, "value": text} for role, text in TALK]}
    (tmp_path / "talk.jsonl").write_text(json.dumps(row) + "\n")
    info = {"talk": {"file_name": "talk.jsonl", "formatting": "sharegpt"}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    tokenizer = AutoTokenizer.from_pretrained(write_model(tmp_path / "model"))
    data = DataArguments(dataset="talk", dataset_dir=str(tmp_path), template="qwen3_nothink", mask_history=masked)
    module = get_dataset(
        get_template_and_fix_tokenizer(tokenizer, data),
        ModelArguments(model_name_or_path=str(tmp_path / "model")),
        data,
        Seq2SeqTrainingArguments(str(tmp_path / "out"), report_to="none", use_cpu=True),
        stage="sft",
        tokenizer=tokenizer,
    )
    ends = tokenizer.encode("<|im_end|>\n", add_special_tokens=False)  # a turn ends with a token and a line break
    wanted = sum(len(tokenizer.encode(answer, add_special_tokens=False)) + len(ends) for answer in answers)
    assert trained_tokens(module["train_dataset"]).tolist() == [wanted]
