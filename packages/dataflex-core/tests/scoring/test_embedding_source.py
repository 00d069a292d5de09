from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from embedding_cases import Pad, ragged_pool, tiny_qwen
from torch import nn

from dataflex.errors import ComponentError, ConfigError
from dataflex.scoring.embedding_params import EmbeddingParams
from dataflex.scoring.embedding_source import EmbeddingSource
from dataflex.testing import make_context
from dataflex.testing.tiny import write_model, write_tokenizer

ROWS, EVAL = ragged_pool(), ragged_pool((9, 20, 5), seed=8)
ALL = np.arange(len(ROWS))


def source(folder: Path, model: str = "initial", **more: Any) -> EmbeddingSource:
    facts = {name: more.pop(name) for name in ("tokenizer", "scores_only", "screens") if name in more}
    context = make_context(ROWS, Pad(), cache_dir=folder, eval_datasets={"target": EVAL, "other": EVAL[:1]}, **facts)
    return EmbeddingSource(EmbeddingParams(embedding_model=model, targets=("target",), **more), context, who="near")


def trained(model: nn.Module) -> nn.Module:
    """The model some steps later."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    return model


def test_the_model_as_training_began_is_what_rows_are_embedded_with_ever_after(tmp_path: Path) -> None:
    model, subject = tiny_qwen(), source(tmp_path)
    subject.begin(model)
    before = subject.at(trained(model), ALL)
    assert before.pool is not None
    assert before.targets is not None
    assert [each.shape for each in before.targets] == [(3, 32)]
    resumed = source(tmp_path)
    resumed.load_state_dict(subject.state_dict())
    after = resumed.at(model, np.asarray([2, 7]))
    assert np.array_equal(after.pool, before.pool[[2, 7]])
    assert np.array_equal(after.targets, before.targets)
    assert after.fingerprint == before.fingerprint
    assert "index_seconds_saved" not in after.metrics  # this run has paid for it


def test_a_screen_sees_the_model_as_training_begins_and_a_pool_that_is_only_scored_does_not(tmp_path: Path) -> None:
    expected = source(tmp_path / "expected")
    expected.begin(tiny_qwen())
    began = expected.at(tiny_qwen(), ALL).pool
    for screens in (True, False):
        model, subject = tiny_qwen(), source(tmp_path / str(screens), scores_only=True, screens=screens)
        subject.begin(model)
        found = subject.at(trained(model), ALL).pool
        assert np.array_equal(found, began) is screens


def test_with_run_each_boundary_embeds_anew_and_keeps_its_own_alone(tmp_path: Path) -> None:
    model, subject = tiny_qwen(), source(tmp_path, "run")
    subject.begin(model)
    assert not list(tmp_path.rglob("embeddings-*"))
    first = subject.at(model, ALL)
    second = subject.at(trained(model), ALL)
    assert not np.array_equal(first.pool, second.pool)
    kept = {path.name for path in tmp_path.rglob("embeddings-*")}
    assert kept == {f"embeddings-{key}" for key in second.fingerprint.split()}
    assert subject.state_dict() == {}


def test_another_run_records_what_an_index_that_lay_ready_had_cost(tmp_path: Path) -> None:
    shared = str(tmp_path / "shared")
    first = source(tmp_path / "one", embeddings_dir=shared)
    first.begin(tiny_qwen())
    paid = first.at(tiny_qwen(), ALL).metrics
    assert paid["embedding_seconds"] > 0
    assert "index_seconds_saved" not in paid
    second = source(tmp_path / "two", embeddings_dir=shared)
    second.begin(tiny_qwen())
    between = source(tmp_path / "two", embeddings_dir=shared)  # resumed in the warm-up
    between.load_state_dict(second.state_dict())
    saved = second.at(tiny_qwen(), ALL).metrics
    assert between.at(tiny_qwen(), ALL).metrics == saved
    assert saved["embedding_seconds"] == 0
    assert saved["index_seconds_saved"] == pytest.approx(paid["embedding_seconds"])
    assert saved["index_cpu_seconds_saved"] > 0
    assert "index_seconds_saved" not in second.at(tiny_qwen(), ALL).metrics  # once
    resumed = source(tmp_path / "two", embeddings_dir=shared)
    resumed.load_state_dict(second.state_dict())
    assert "index_seconds_saved" not in resumed.at(tiny_qwen(), ALL).metrics


def test_embeddings_that_are_gone_are_made_again_without_adapters(tmp_path: Path) -> None:
    model, subject = tiny_qwen(lora=True, at_rest=True), source(tmp_path)
    subject.begin(model)
    before = subject.at(model, ALL)
    shutil.rmtree(tmp_path)
    resumed = source(tmp_path)
    resumed.load_state_dict(subject.state_dict())
    after = resumed.at(trained(model), ALL)
    assert after.fingerprint == before.fingerprint
    assert before.pool is not None
    np.testing.assert_allclose(after.pool, before.pool, atol=1e-3)
    assert not np.allclose(source(tmp_path / "other", "run").at(model, ALL).pool, before.pool, atol=0.05)
    third = source(tmp_path)
    third.load_state_dict(subject.state_dict())
    assert np.array_equal(third.at(model, ALL).pool, after.pool)


@pytest.mark.parametrize("lora", [False, True])
def test_embeddings_that_cannot_be_made_again_name_their_folder(lora: bool, tmp_path: Path) -> None:
    model, subject = tiny_qwen(lora=lora, at_rest=False), source(tmp_path)  # adapters that do something from the start
    subject.begin(model)
    state = copy.deepcopy(subject.state_dict())
    shutil.rmtree(tmp_path)
    resumed = source(tmp_path)
    resumed.load_state_dict(state)
    with pytest.raises(ComponentError, match=rf"are gone: {tmp_path}/embeddings-\w+. .*start anew; or set"):
        resumed.at(model, ALL)


def test_a_pool_that_is_only_scored_waits_for_the_state_of_its_checkpoint(tmp_path: Path) -> None:
    model, subject = tiny_qwen(), source(tmp_path)
    subject.begin(model)
    before = subject.at(model, ALL)
    scored = source(tmp_path, scores_only=True)
    scored.begin(trained(model))
    scored.load_state_dict(subject.state_dict())
    assert np.array_equal(scored.at(model, ALL).pool, before.pool)
    anew = source(tmp_path / "other", scores_only=True)
    anew.begin(model)
    assert not np.array_equal(anew.at(model, ALL).pool, before.pool)


def test_another_model_is_embedded_with_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dataflex.scoring.other_model as other

    folder, own = write_model(tmp_path / "model", hidden=16), write_tokenizer(tmp_path / "own")
    loads: list[int] = []
    load = other.OtherModel.load
    monkeypatch.setattr(other.OtherModel, "load", lambda self: loads.append(1) or load(self))
    subject = source(tmp_path / "cache", str(folder), tokenizer=own)
    subject.begin(tiny_qwen())
    first = subject.at(tiny_qwen(), ALL)
    second = subject.at(trained(tiny_qwen()), ALL)
    assert len(loads) == 2  # pool and target, before the model was freed
    assert np.array_equal(first.pool, second.pool)
    assert set(subject.state_dict()) == {"embedding_paid", "embedding_saved"}


@pytest.mark.parametrize(("given", "layers"), [(-1, (-1,)), ((0, 3), (0, 3)), ([4], (4,))])
def test_layers_are_one_or_several(given: Any, layers: tuple[int, ...]) -> None:
    assert EmbeddingParams(embedding_layers=given).spec().layers == layers


@pytest.mark.parametrize("given", [{"embedding_layers": ()}, {"targets": ()}, {"embedding_model": " "}])
def test_parameters_that_name_nothing_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        EmbeddingParams(**given)
