"""The reference model's losses: live or from a file, and what is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from dataflex.components.mix_context import MicroBatch, MixContext, MixtureView
from dataflex.errors import ComponentError, ConfigError
from dataflex.runs import RunFacts, Steps, TrainType
from dataflex.scoring.reference.cached import CachedReference
from dataflex.scoring.reference.live import LiveReference
from dataflex.scoring.reference.loss_file import LossFile
from dataflex.scoring.reference.model import (
    check_vocabulary,
    identities,
    is_same_model,
    load_model,
    model_identity,
)
from dataflex.testing.tiny import write_model
from dataflex.testing.tiny_models import write_moe
from dataflex_mixers_doremi import plugin

sys.path.insert(0, str(Path(__file__).parent))
import doremi_runs

SPOILT = doremi_runs.pool()[0]["input_ids"][0]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    doremi_runs.model(seed=3).save_pretrained(folder)
    return str(folder)


def context(tmp_path: Path, rows: Any = None) -> MixContext:
    pool = doremi_runs.pool() if rows is None else rows
    view = MixtureView(list(doremi_runs.SIZES), list(doremi_runs.SIZES.values()), [1 / 3] * 3)
    return MixContext(dataset=pool, data_collator=doremi_runs.collate, mixture=view, cache_dir=tmp_path)


def cached(model: str, run: MixContext, token_budget: int) -> CachedReference:
    return CachedReference(model, run, token_budget, identities(model, run))


def micro_batch(rows: list[int]) -> MicroBatch:
    inputs = doremi_runs.collate([doremi_runs.pool()[row] for row in rows])
    mask = inputs["labels"][:, 1:] != -100
    return MicroBatch(np.array(rows), inputs, torch.zeros(mask.shape), mask)


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows whose losses were written."""
    rows: list[int] = []
    write = LossFile.write
    monkeypatch.setattr(LossFile, "write", lambda self, some, losses: rows.extend(some) or write(self, some, losses))
    return rows


def test_cached_losses_are_the_models_own_at_every_target(tmp_path: Path, model: str) -> None:
    run, batch = context(tmp_path), micro_batch([0, 30, 45, 3])
    live, filled = LiveReference(model, run), cached(model, run, token_budget=200)
    expected, found = live.token_losses(batch), filled.token_losses(batch)
    assert torch.allclose(found, expected, rtol=1e-3) and bool((found[~batch.mask_BT] == 0).all())
    assert live.vocabulary == filled.vocabulary == doremi_runs.VOCABULARY


def test_losses_are_computed_once(tmp_path: Path, model: str, scored: list[int]) -> None:
    cached(model, context(tmp_path), token_budget=200)
    assert sorted(scored) == list(range(52))
    cached(model, context(tmp_path), token_budget=50)
    assert len(scored) == 52


def test_a_pass_that_was_killed_goes_on_with_the_rows_that_are_missing(
    tmp_path: Path, model: str, scored: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = cached(model, context(tmp_path / "whole"), token_budget=200).token_losses(micro_batch([0, 51]))
    write, calls = LossFile.write, []

    def dying(self: LossFile, rows: Any, losses: Any) -> None:
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(rows)
        write(self, rows, losses)

    monkeypatch.setattr(LossFile, "write", dying)
    with pytest.raises(KeyboardInterrupt):
        cached(model, context(tmp_path / "cut"), token_budget=60)
    done = sum(map(len, calls))
    assert 0 < done < 52
    scored.clear()
    monkeypatch.setattr(LossFile, "write", write)
    again = cached(model, context(tmp_path / "cut"), token_budget=60)
    assert len(scored) == 52 - done
    assert torch.allclose(again.token_losses(micro_batch([0, 51])), whole, rtol=1e-3)


def test_another_model_or_another_pool_has_losses_of_its_own(tmp_path: Path, model: str, scored: list[int]) -> None:
    cached(model, context(tmp_path), token_budget=200)
    other = tmp_path / "other"
    doremi_runs.model(seed=4).save_pretrained(other)
    cached(str(other), context(tmp_path), token_budget=200)
    rows = doremi_runs.pool()
    rows[0] = {"input_ids": [9, 9], "labels": [-100, 9]}
    cached(model, context(tmp_path, rows), token_budget=200)
    assert len(scored) == 3 * 52
    assert len(list(tmp_path.glob("reference-*"))) == 3


def test_a_row_whose_targets_have_changed_is_an_error_and_not_another_rows_loss(tmp_path: Path, model: str) -> None:
    filled = cached(model, context(tmp_path), token_budget=200)
    batch = micro_batch([40])
    batch.mask_BT[0, 0] = False
    with pytest.raises(
        ComponentError, match=r"row 40 has \d+ target tokens, but had \d+ when .* reference_losses: live"
    ):
        filled.token_losses(batch)


def test_losses_too_large_for_half_precision_are_kept_at_its_largest_number(tmp_path: Path) -> None:
    file = LossFile(tmp_path, np.array([2, 1]), "small")
    file.create(vocabulary=9)
    file.write([1, 0], [np.array([1e9], np.float32), np.array([0.5, 2.0], np.float32)])
    assert file.read([0, 1], [2, 1]).tolist() == [0.5, 2.0, 65504.0]


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_is_refused_and_not_kept(tmp_path: Path, loss: float) -> None:
    file = LossFile(tmp_path, np.array([2, 1, 1]), "small")
    file.create(vocabulary=9)
    with pytest.raises(ComponentError, match=r"reference model small .* not finite, for 1 rows of the pool \(2\)"):
        file.write([0, 2], [np.array([1.0, 2.0], np.float32), np.array([loss], np.float32)])
    assert file.missing().tolist() == [0, 1, 2]


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that knows nothing of one token."""
    folder, broken = tmp_path_factory.mktemp("spoilt"), doremi_runs.model(seed=3)
    with torch.no_grad():
        broken.model.embed_tokens.weight[SPOILT] = torch.nan
    broken.save_pretrained(folder)
    return str(folder)


def test_a_reference_that_was_spoilt_is_named_with_its_rows(tmp_path: Path, spoilt: str) -> None:
    rows = [row for row, item in enumerate(doremi_runs.pool()) if SPOILT in item["input_ids"][:-1]]
    sound = next(row for row in range(52) if row not in rows)
    batch = micro_batch([sound, rows[0]])
    with pytest.raises(ComponentError, match=rf"model {spoilt} has losses that are not finite.* \({rows[0]}\)"):
        LiveReference(spoilt, context(tmp_path)).token_losses(batch)
    with pytest.raises(ComponentError, match=rf"model {spoilt} has losses that are not finite"):
        cached(spoilt, context(tmp_path), token_budget=20)
    (folder,) = tmp_path.glob("reference-*")
    counts = np.fromfile(folder / "counts.i32", np.int32)
    assert (counts[rows] == -1).all()


class Autocast:
    """As much of an accelerator as a pass over the pool needs."""

    process_index, num_processes, device = 0, 1, torch.device("cpu")

    def __init__(self, mixed_precision: str) -> None:
        self.mixed_precision = mixed_precision

    def wait_for_everyone(self) -> None:
        pass

    def autocast(self) -> Any:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.mixed_precision == "bf16")


def test_another_precision_has_losses_of_its_own(tmp_path: Path, model: str, scored: list[int]) -> None:
    for name in ("no", "bf16", "no"):
        cached(model, dataclasses.replace(context(tmp_path), accelerator=Autocast(name)), token_budget=200)
    assert len(scored) == 2 * 52
    assert len(list(tmp_path.glob("reference-*"))) == 2


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a tokenizer of 259 tokens."""
    return write_model(tmp_path_factory.mktemp("spoken"))


def without_tokenizer(folder: Path, vocabulary: int) -> str:
    config = AutoConfig.from_pretrained(folder)
    config.vocab_size, config.eos_token_id, config.pad_token_id = vocabulary, 0, 0
    bare = folder.parent / f"{folder.name}-{vocabulary}"
    config.save_pretrained(bare)
    return str(bare)


def speaking(tmp_path: Path, spoken: Path) -> MixContext:
    return dataclasses.replace(context(tmp_path), tokenizer=AutoTokenizer.from_pretrained(spoken), vocab_size=259)


def test_the_same_tokenizer_passes_without_a_word(
    tmp_path: Path, spoken: Path, caplog: pytest.LogCaptureFixture
) -> None:
    check_vocabulary(str(spoken), speaking(tmp_path, spoken))
    assert not [record for record in caplog.records if record.name.startswith("dataflex")]


def test_a_reference_without_a_tokenizer_is_named_and_compared_by_size(
    tmp_path: Path, spoken: Path, caplog: pytest.LogCaptureFixture
) -> None:
    large = without_tokenizer(spoken, 400)
    check_vocabulary(large, speaking(tmp_path, spoken))
    assert f"the reference model {large} has no tokenizer (there is no tokenizer.json and no " in caplog.text
    assert "compared by size only" in caplog.text
    with pytest.raises(ConfigError, match=r"smaller vocabulary .*: 100 tokens, and 259 are needed .*has no tokenizer"):
        check_vocabulary(without_tokenizer(spoken, 100), speaking(tmp_path, spoken))


def test_a_run_without_a_tokenizer_compares_the_sizes_of_both_models(
    tmp_path: Path, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = dataclasses.replace(context(tmp_path), vocab_size=doremi_runs.VOCABULARY)
    check_vocabulary(model, run)
    assert "the run has no tokenizer" in caplog.text
    with pytest.raises(ConfigError, match=r": 32 tokens, and 33 are needed \(the run has no tokenizer\)"):
        check_vocabulary(model, dataclasses.replace(run, vocab_size=doremi_runs.VOCABULARY + 1))


def test_a_row_with_more_targets_than_its_labels_said_is_refused(tmp_path: Path) -> None:
    file = LossFile(tmp_path, np.array([1]), "small")
    file.create(vocabulary=9)
    with pytest.raises(ComponentError, match="row 0 has 2 target tokens in its batch, but 1 in the pool"):
        file.write([0], [np.zeros(2, np.float32)])


def test_a_model_that_cannot_be_loaded_is_fatal(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"(?s)reference model .* cannot be loaded: .*noise would count most"):
        load_model(str(tmp_path), context(tmp_path))
    with pytest.raises(ConfigError, match="neither a folder nor found on the hub"):
        model_identity("nobody/has-this-model")


def test_an_adapter_is_loaded_with_its_base_and_told_apart_by_both(tmp_path: Path, model: str) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    start = doremi_runs.model(seed=3)
    start.name_or_path = model
    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, base_model_name_or_path=model)
    adapted = get_peft_model(start, config).eval()
    adapted.save_pretrained(tmp_path)
    ids = torch.arange(8).reshape(1, -1)
    loaded = load_model(str(tmp_path), context(tmp_path))
    assert torch.allclose(loaded(ids).logits, adapted(ids).logits, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    before = model_identity(str(tmp_path))
    written = json.loads((tmp_path / "adapter_config.json").read_text())
    other = tmp_path / "base"
    doremi_runs.model(seed=9).save_pretrained(other)
    (tmp_path / "adapter_config.json").write_text(json.dumps(written | {"base_model_name_or_path": str(other)}))
    assert model_identity(str(tmp_path)) != before


def test_a_reference_that_was_recorded_by_all_its_bytes_is_known_again(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    config, weights = (hashlib.sha256(data).hexdigest() for data in (b"{}", b"weights"))
    recorded = hashlib.sha256(f"config.json:{config};model.safetensors:{weights};".encode()).hexdigest()
    assert is_same_model(str(tmp_path), recorded) and is_same_model(str(tmp_path), model_identity(str(tmp_path)))
    (tmp_path / "model.safetensors").write_bytes(b"trained")
    assert not is_same_model(str(tmp_path), recorded)


def checked(reference: str, **arguments: Any) -> list[str]:
    plan = RunFacts(
        train_type=TrainType.MIX,
        stage="sft",
        component=plugin.dataflex_components()[0],
        dist="dataflex-mixers-doremi",
        version="0.1.0",
        params={"reference": reference},
        steps=Steps(warmup=0, update=1, times=1),
        output_dir=Path("out"),
        arguments=arguments,
        source="run.yaml",
    )
    return [problem.message for problem in plugin.dataflex_check_run(plan)]


def test_a_reference_is_looked_at_before_anything_loads(tmp_path: Path, model: str) -> None:
    assert checked(model) == checked("Qwen/Qwen2.5-0.5B") == checked("gpt2") == []
    assert ["does not exist" in message for message in checked("./missing")] == [True]
    assert ["does not exist" in message for message in checked("saves/doremi/reference")] == [True]
    assert ["holds no model" in message for message in checked(str(tmp_path))] == [True]
    assert ["label_smoothing_factor" in message for message in checked(model, label_smoothing_factor=0.1)] == [True]


def test_a_reference_whose_file_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    doremi_runs.model(seed=3).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    lost = next(name for name in tensors if name.endswith("norm.weight"))
    load_model(str(tmp_path), context(tmp_path))
    save_file({name: tensor for name, tensor in tensors.items() if name != lost}, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=rf"does not hold its weights: 1 difference .*{re.escape(lost)} is not in"):
        load_model(str(tmp_path), context(tmp_path))


def test_a_mixture_of_experts_may_be_the_reference(tmp_path: Path) -> None:
    folder = write_moe(tmp_path / "moe", seed=7)
    ids = torch.arange(6)[None]
    alone = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(load_model(str(folder), context(tmp_path))(ids).logits, alone(ids).logits)
