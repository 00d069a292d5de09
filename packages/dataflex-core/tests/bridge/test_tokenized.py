"""A folder of tokenised rows is what the keys ask for, or the key that differs is named: LlamaFactory looks at none."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from datasets import Dataset, DatasetDict
from transformers import AutoTokenizer, Seq2SeqTrainingArguments

from dataflex.bridge import tokenized
from dataflex.bridge.domains import load_by_domain
from dataflex.bridge.tokenized import TokenisedFolders
from dataflex.bridge.tokenizer_identity import tokenizer_identity
from dataflex.errors import ConfigError
from dataflex.made_from import NAME, MadeFrom
from dataflex.testing.tiny import tiny_rows, write_dataset, write_model

WEB, CODE = 20, 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tokenized")
    write_model(root / "model")
    write_dataset(root / "data", web=tiny_rows(WEB), code=tiny_rows(CODE, seed=2), val=tiny_rows(8, seed=1))
    return root


class Loaded(NamedTuple):
    """What ``get_dataset`` returned, and the keys that could not be compared with it."""

    module: Any
    unchecked: Any


class Runs:
    """Calls of LlamaFactory's ``get_dataset``, as a run makes them up to where a model would load."""

    def __init__(self, folder: Path, out: Path) -> None:
        from llamafactory.data.loader import get_dataset
        from llamafactory.data.parser import get_dataset_list

        self.folder, self.path, self.look = folder, out / "tokenised", get_dataset_list
        self.data, self.stock = out / "data", get_dataset
        shutil.copytree(folder / "data", self.data)
        self.tokenizer = AutoTokenizer.from_pretrained(folder / "model")
        self.out = out

    def arguments(self, **keys: Any) -> tuple[Any, Any, Any]:
        from llamafactory.hparams import DataArguments, ModelArguments

        plain = {"dataset": "web", "dataset_dir": str(self.data), "template": "qwen3_nothink", "cutoff_len": 96}
        data = DataArguments(**{**plain, "tokenized_path": str(self.path), **keys})
        training = Seq2SeqTrainingArguments(str(self.out / "run"), report_to="none", use_cpu=True, seed=3)
        return ModelArguments(model_name_or_path=str(self.folder / "model")), data, training

    def __call__(self, *, stage: str = "sft", refuse: bool = True, tokenizer: Any = None, **keys: Any) -> Loaded:
        from llamafactory.data import get_template_and_fix_tokenizer

        model, data, training = self.arguments(**keys)
        given = {"tokenized_path": str(self.path), "dataset": "web", "cutoff_len": 96, **keys}
        folders = TokenisedFolders("run.yaml", given, self.look, refuse=refuse)
        tokenizer = tokenizer or self.tokenizer
        template = get_template_and_fix_tokenizer(tokenizer, data)
        get_dataset = folders.guarding(self.stock)
        module = get_dataset(template, model, data, training, stage=stage, tokenizer=tokenizer)
        if refuse:
            folders.warn()
        return Loaded(module, folders.unchecked)

    def by_domain(self, **keys: Any) -> Any:
        from llamafactory.data import get_template_and_fix_tokenizer

        model, data, training = self.arguments(**{"dataset": "web,code", **keys})
        folders = TokenisedFolders("run.yaml", {"tokenized_path": str(self.path), **keys}, self.look, refuse=True)
        template = get_template_and_fix_tokenizer(self.tokenizer, data)
        call = {"model_args": model, "training_args": training, "stage": "sft", "tokenizer": self.tokenizer}

        def compare(parts: Any) -> None:
            folders.compare(parts, call)

        rest: dict[str, Any] = {"stage": "sft", "tokenizer": self.tokenizer, "compare": compare}
        loaded = load_by_domain(folders.guarding(self.stock), template, model, data, training, **rest)
        folders.warn()
        return loaded


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Runs:
    return Runs(folder, tmp_path)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "dataflex"]


def refused(call: Any, **keys: Any) -> str:
    with pytest.raises(ConfigError) as error:
        call(**keys)
    return str(error.value)


def test_what_was_made_under_these_keys_is_read_again_silently(run: Runs, caplog: pytest.LogCaptureFixture) -> None:
    made = run().module["train_dataset"]
    again = run()
    assert again.module["train_dataset"][:] == made[:] and not again.unchecked and not said(caplog)
    for file in run.data.iterdir():  # touched, and moved
        os.utime(file, (1, 1))
    shutil.move(run.data, run.out / "moved")
    run.data = run.out / "moved"
    (run.data / "web.jsonl").rename(run.data / "net.jsonl")
    info = json.loads((run.data / "dataset_info.json").read_text())
    info["web"]["file_name"] = "net.jsonl"
    (run.data / "dataset_info.json").write_text(json.dumps(info))
    assert not run().unchecked and not said(caplog)


@pytest.mark.parametrize(
    ("keys", "phrase"),
    [
        ({"dataset": "code"}, "dataset was 'web' and is now 'code'"),
        ({"dataset": "web,code"}, "dataset was 'web' and is now 'web,code'"),
        ({"eval_dataset": "val"}, "eval_dataset was none and is now 'val'"),
        ({"template": "llama3"}, "template was 'qwen3_nothink' and is now 'llama3'"),
        ({"cutoff_len": 64}, "cutoff_len was 96 and is now 64"),
        ({"max_samples": 10}, "max_samples was null and is now 10"),
        ({"train_on_prompt": True}, "train_on_prompt was false and is now true"),
        ({"mask_history": True}, "mask_history was false and is now true"),
        ({"packing": True}, "packing was null and is now true"),
        ({"stage": "pt"}, "stage was 'sft' and is now 'pt'"),
        ({"val_size": 0.2}, "val_size was 0.0 and is now 0.2"),
        ({"tool_format": "qwen"}, "tool_format was null and is now 'qwen'"),
    ],
)
def test_each_key_that_differs_is_named(run: Runs, keys: dict[str, Any], phrase: str) -> None:
    run()
    message = refused(run, **keys)
    assert message.startswith(f"tokenized_path: {run.path} (from run.yaml) was made under other keys")
    assert phrase in message and "delete this one" in message and "\n" not in message


def test_everything_that_differs_is_told_at_once(run: Runs) -> None:
    run()
    message = refused(run, dataset="code", cutoff_len=64, max_samples=10, template="llama3")
    assert all(key in message for key in ("dataset was", "cutoff_len was", "max_samples was", "template was"))


def test_an_edited_file_is_found_though_its_size_is_what_it_was(run: Runs) -> None:
    run()
    path = run.data / "web.jsonl"
    text = path.read_text()
    place = text.index('"output": "') + len('"output": "')
    path.write_text(f"{text[:place]}X{text[place + 1 :]}")
    assert "the rows of web (web.jsonl) have changed since" in refused(run)


def test_other_rows_under_the_same_names_are_found(run: Runs) -> None:
    run()
    other = run.out / "data2"
    write_dataset(other, web=tiny_rows(30, seed=7))
    assert "the rows of web (web.jsonl) have changed since" in refused(run, dataset_dir=str(other))


def test_another_entry_of_the_same_file_is_found(run: Runs) -> None:
    run()
    info = json.loads((run.data / "dataset_info.json").read_text())
    info["web"]["columns"] = {"prompt": "output", "response": "instruction"}
    (run.data / "dataset_info.json").write_text(json.dumps(info))
    message = refused(run)
    assert "the entry of web in dataset_info.json has changed" in message and "prompt was 'instruction'" in message


def test_another_tokenizer_is_found(run: Runs) -> None:
    run()
    other = AutoTokenizer.from_pretrained(run.folder / "model")
    other.add_tokens(["<new>"])
    assert "the tokenizer" in refused(run, tokenizer=other)


def test_a_tokenizer_is_known_by_what_it_does(run: Runs, tmp_path: Path) -> None:
    run.tokenizer.save_pretrained(tmp_path / "copy")
    copy = AutoTokenizer.from_pretrained(tmp_path / "copy")
    copy("cut and padded", truncation=True, max_length=4, padding="max_length")
    assert tokenizer_identity(copy) == tokenizer_identity(run.tokenizer)


def test_a_key_of_another_version_is_not_compared(run: Runs) -> None:
    run()
    record = json.loads((run.path / NAME).read_text())
    del record["keys"]["preserve_thinking"]
    record["keys"]["of_another_version"] = 7
    (run.path / NAME).write_text(json.dumps(record))
    run()


def test_a_damaged_record_is_named(run: Runs) -> None:
    run()
    (run.path / NAME).write_text('{"keys": 3}')
    assert f"{run.path / NAME} (from run.yaml) is damaged ('keys' is 3, not an object)" in refused(run)


def test_each_domain_keeps_a_record_and_all_are_compared_at_once(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    run.by_domain(eval_dataset="val")
    assert all((run.path / name / NAME).is_file() for name in ("train-web", "train-code", "eval"))
    module, _ = run.by_domain(eval_dataset="val")
    assert len(module["train_dataset"]) == WEB + CODE
    other = run.out / "data2"
    write_dataset(other, web=tiny_rows(30, seed=7), code=tiny_rows(CODE, seed=2), val=tiny_rows(8, seed=9))
    monkeypatch.setattr(tokenized, "contradictions", lambda *args: pytest.fail("rows were read"))
    message = refused(run.by_domain, eval_dataset="val", dataset_dir=str(other), cutoff_len=64, max_samples=10)
    assert message.count("cutoff_len was 96 and is now 64") == 1 and "and 2 more" in message
    assert "rows of web (" in message and "rows of val (" in message and "rows of code" not in message
    assert "eval_dataset was 'val' and is now 'code'" in refused(run.by_domain, eval_dataset="code")


# A folder that LlamaFactory made


@pytest.fixture
def theirs(run: Runs) -> Runs:
    run()
    (run.path / NAME).unlink()
    return run


def test_one_warning_names_what_could_not_be_compared(theirs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    loaded = theirs(train_on_prompt=True, template="llama3")
    assert set(loaded.unchecked) == {"dataset", "dataset_dir", "cutoff_len", "train_on_prompt", "template"}
    (message,) = said(caplog)
    assert message.startswith(f"tokenized_path: {theirs.path} (from run.yaml): nobody has written down")
    assert "dataset, dataset_dir" in message and "template" in message and "tokenizer" in message
    assert MadeFrom.read(theirs.path) is None  # it is not taken for what was asked for


def test_a_mix_run_says_it_once_for_all_domains(run: Runs, caplog: pytest.LogCaptureFixture) -> None:
    run.by_domain(eval_dataset="val")
    for record in run.path.glob(f"*/{NAME}"):
        record.unlink()
    run.by_domain(eval_dataset="val", template="qwen3_nothink")
    (message,) = said(caplog)
    assert "eval_dataset, dataset_dir, template" in message


@pytest.mark.parametrize(
    ("keys", "phrase"),
    [
        ({"stage": "pt"}, "the columns of its training rows are attention_mask, audios, images, input_ids, labels"),
        ({"stage": "rm"}, "not those of this stage"),
        ({"dataset": "code"}, f"it holds {WEB} rows, and dataset: code has {CODE} at most"),
        ({"max_samples": 10}, f"it holds {WEB} rows, and dataset: web has 10 at most (dataset_dir, max_samples: 10)"),
        ({"cutoff_len": 8}, "tokens, and cutoff_len is 8"),
    ],
)
def test_what_its_rows_cannot_be_is_refused(theirs: Runs, keys: dict[str, Any], phrase: str) -> None:
    message = refused(theirs, **keys)
    assert f"tokenized_path: {theirs.path} (from run.yaml) cannot have been made under these keys" in message
    assert phrase in message


def test_tokens_that_the_tokenizer_does_not_have_are_found(run: Runs) -> None:
    ids = [[1, 2, 3], [1, 99_999, 3]]
    rows = Dataset.from_dict({"input_ids": ids, "attention_mask": [[1, 1, 1]] * 2, "labels": ids})
    DatasetDict({"train": rows}).save_to_disk(run.path)
    message = refused(run)
    assert "its rows hold the token 99999" in message and f"has {len(run.tokenizer)}" in message


def test_held_out_rows_count_as_rows_of_the_data_set(run: Runs) -> None:
    run(val_size=0.5)
    (run.path / NAME).unlink()
    assert set(run(val_size=0.5).unchecked) >= {"val_size", "dataset"}
    assert f"it holds {WEB} rows, and dataset: code" in refused(run, dataset="code", val_size=0.5)


# Where refusing is not ours


def test_a_static_run_is_warned_and_trains_on_what_is_there(run: Runs, caplog: pytest.LogCaptureFixture) -> None:
    run(refuse=False)
    assert (run.path / NAME).is_file() and not said(caplog)
    assert len(run(refuse=False, dataset="code").module["train_dataset"]) == WEB
    (message,) = said(caplog)
    assert "dataset was 'web' and is now 'code'" in message and "trains on it as it is" in message


def test_a_folder_alone_on_another_machine_is_read_with_a_warning(run: Runs, caplog: pytest.LogCaptureFixture) -> None:
    run()
    shutil.rmtree(run.data)
    assert run(dataset_dir="nowhere").unchecked == {"dataset_dir": "nowhere"}
    assert "the files of web are not to be found" in caplog.text
    assert "cutoff_len was 96 and is now 64" in refused(run, dataset_dir="nowhere", cutoff_len=64)
