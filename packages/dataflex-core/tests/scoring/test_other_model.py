from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from embedding_cases import Pad, unit

import dataflex.scoring.other_model as other
from dataflex.errors import ComponentError, ConfigError
from dataflex.scoring.embeddings import Embeddings, EmbeddingSpec, embed
from dataflex.testing import make_context
from dataflex.testing.tiny import write_model, write_tokenizer

TEXTS = ("one", "two and two", "a longer row of text", "x")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("other"), hidden=16, seed=4)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tokenizer with other numbers than the other model's."""
    return write_tokenizer(tmp_path_factory.mktemp("own"), special=("<|x|>",))


def pool(own: Any) -> list[dict[str, list[int]]]:
    """Rows of an im_start, a prompt of three bytes and an answer."""
    rows = []
    for text in TEXTS:
        tokens = own("<|im_start|>" + "Q: " + text)["input_ids"]
        rows.append({"input_ids": tokens, "attention_mask": [1] * len(tokens), "labels": [-100] * 4 + tokens[4:]})
    return rows


def made(folder: Path, own: Any, tmp_path: Path, rows: Any = None, **more: Any) -> Embeddings:
    rows = pool(own) if rows is None else rows
    context = make_context(rows, Pad(), cache_dir=tmp_path, tokenizer=own)
    return embed(None, rows, range(len(rows)), EmbeddingSpec(model=str(folder), center=False, **more), context)


def by_hand(folder: Path, texts: list[str]) -> np.ndarray:
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    found = []
    for text in texts:
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].numpy()
        weights = np.arange(1, len(states) + 1)
        found.append(weights @ states / weights.sum())
    return unit(np.stack(found))


def test_rows_are_decoded_and_encoded_plainly_for_another_model(folder: Path, own: Any, tmp_path: Path) -> None:
    found = made(folder, own, tmp_path)
    np.testing.assert_allclose(found.values, by_hand(folder, ["Q: " + text for text in TEXTS]), atol=3e-4)
    answers = made(folder, own, tmp_path, span="answer")
    np.testing.assert_allclose(answers.values, by_hand(folder, list(TEXTS)), atol=3e-4)
    few = made(folder, own, tmp_path, tokens=2)
    np.testing.assert_allclose(few.values, by_hand(folder, ["Q:"] * 4), atol=3e-4)


def test_an_index_of_another_model_is_known_by_its_files_wherever_they_lie(
    folder: Path, own: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made(folder, own, tmp_path / "cache")
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in folder.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(other.OtherModel, "load", None)  # a finished index loads nothing
    assert made(moved, own, tmp_path / "cache").found
    weights = moved / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    with pytest.raises(TypeError):  # not found: it would be loaded
        made(moved, own, tmp_path / "cache")
    assert first.fingerprint


def test_the_other_model_is_freed_afterwards(
    folder: Path, own: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Any] = []
    load = other.OtherModel.load

    def watched(self: Any) -> Any:
        found = load(self)
        loaded.append(weakref.ref(found[0]))
        return found

    monkeypatch.setattr(other.OtherModel, "load", watched)
    state = torch.get_rng_state()
    made(folder, own, tmp_path)
    gc.collect()
    assert loaded
    assert loaded[0]() is None
    assert torch.equal(torch.get_rng_state(), state)


def test_code_of_a_models_folder_runs_only_if_the_run_file_says_so(
    folder: Path, own: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    asked: list[Any] = []
    load = transformers.AutoModel.from_pretrained

    def watched(*args: Any, **kwargs: Any) -> Any:
        asked.append(kwargs["trust_remote_code"])
        return load(*args, **kwargs)

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", watched)
    rows = pool(own)
    spec = EmbeddingSpec(model=str(folder))
    for trusted in (False, True):
        context = make_context(rows, Pad(), cache_dir=tmp_path / str(trusted), tokenizer=own, trust_remote_code=trusted)
        embed(None, rows, range(4), spec, context)
    assert asked == [False, True]


def test_a_row_whose_text_is_empty_has_no_embedding(folder: Path, own: Any, tmp_path: Path) -> None:
    rows = pool(own)
    rows[1] = {**rows[1], "labels": [-100] * len(rows[1]["labels"])}
    found = made(folder, own, tmp_path, rows=rows, span="answer")
    assert found.values is not None
    assert np.isnan(found.values).any(axis=1).tolist() == [False, True, False, False]


def test_pictures_are_refused(folder: Path, own: Any, tmp_path: Path) -> None:
    rows = [{**row, "images": ["a.png"]} for row in pool(own)]
    with pytest.raises(ComponentError, match="pictures, films or sound"):
        made(folder, own, tmp_path, rows=rows)
    with pytest.raises(ComponentError, match="modalities: split needs the run's own model"):
        made(folder, own, tmp_path, modalities="split")


def test_a_model_that_is_nowhere_is_named(own: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="embedding_model: nobody/nothing is neither a folder"):
        made(Path("nobody/nothing"), own, tmp_path)


def test_without_a_tokenizer_there_is_no_text(folder: Path, own: Any, tmp_path: Path) -> None:
    with pytest.raises(ComponentError, match="no tokenizer"):
        made(folder, None, tmp_path, rows=pool(own))
