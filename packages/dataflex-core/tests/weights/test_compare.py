"""What counts as a difference between a file of weights and a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from dataflex.errors import ConfigError
from dataflex.weights import compare
from dataflex.weights.files import ADAPTER, SavedWeights, saved_weights
from dataflex.weights.verify import check_pretrained
from dataflex.weights.views import View, adapter_view, model_views, on_meta, whole_here

FILE = "model.safetensors"


def language_model(*, tied: bool = True) -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    return Qwen2ForCausalLM(Qwen2Config(**sizes, num_key_value_heads=2, vocab_size=40, tie_word_embeddings=tied))


def written(folder: Path, tensors: dict[str, torch.Tensor], file: str = FILE) -> SavedWeights:
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, folder / file)
    saved = saved_weights(folder)
    assert saved is not None
    return saved


def view(**tensors: torch.Tensor) -> View:
    return View(tensors)


def test_every_kind_of_difference_is_found_by_name(tmp_path: Path) -> None:
    same, short, odd = torch.arange(4.0), torch.zeros(2, 3), torch.ones(2)
    saved = written(tmp_path, {"same": same, "shape": short, "file_only": odd, "value": odd})
    model = view(same=same, shape=torch.zeros(3, 2), model_only=odd.clone(), value=torch.tensor([1.0, 1.0001]))
    assert compare.names_and_shapes(saved, model) == [
        ("file_only", "is not in the model"),
        ("shape", "has shape [2, 3] in the file, [3, 2] in the model"),
        ("model_only", "is not in the file"),
    ]
    assert compare.values(saved, model) == [("value", "has other values in the model")]


def test_five_names_are_told_and_how_many_there_are() -> None:
    found = [compare.Difference(f"t{index}", "is not in the file") for index in range(7)]
    text = compare.describe(found, 12)
    assert text.startswith("7 differences among its 12 tensors: t0 is not in the file; ")
    assert "t4 is not in the file; and 2 more" in text and "t5" not in text
    assert compare.describe(found[:1], 3) == "1 difference among its 3 tensors: t0 is not in the file"


def test_tied_tensors_are_in_a_file_once(tmp_path: Path) -> None:
    model = language_model()
    model.save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / FILE)
    saved = saved_weights(tmp_path)
    assert saved is not None and compare.names_and_shapes(saved, model_views(model)[0]) == []
    both = load_file(tmp_path / FILE)
    both["lm_head.weight"] = both["model.embed_tokens.weight"]
    assert compare.names_and_shapes(written(tmp_path, both), model_views(model)[0]) == []
    untied = compare.names_and_shapes(saved, model_views(language_model(tied=False))[0])
    assert untied == [("lm_head.weight", "is not in the file")]


def test_nothing_that_is_trained_may_be_left_out_of_a_file(tmp_path: Path) -> None:
    model = language_model()
    model.save_pretrained(tmp_path)
    model._keys_to_ignore_on_save = ["model.norm.weight"]
    view = model_views(model)[0]
    assert view.unsaved == ("model.norm.weight",)
    tensors = load_file(tmp_path / FILE)
    del tensors["model.norm.weight"]
    found = compare.names_and_shapes(written(tmp_path, tensors), view)
    assert found == [("model.norm.weight", "is trained but not in the file")]
    model.model.norm.requires_grad_(False)
    assert model_views(model)[0].unsaved == ()


@pytest.mark.parametrize(
    ("in_file", "in_model", "number", "differs"),
    [
        (torch.bfloat16, torch.float32, 1.0, False),
        (torch.float32, torch.bfloat16, 0.5, False),  # a number that both can hold
        (torch.float32, torch.bfloat16, 1.001, True),  # rounded: the model goes on from another number
        (torch.float16, torch.float16, float("nan"), False),
        (torch.float8_e4m3fn, torch.float8_e4m3fn, 1.5, False),
        (torch.int64, torch.int64, 7, False),
    ],
)
@pytest.mark.parametrize("c_library", [True, False], ids=["by the C library", "by torch"])
def test_values_are_compared_in_the_files_own_precision(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_file: torch.dtype,
    in_model: torch.dtype,
    number: float,
    differs: bool,
    c_library: bool,
) -> None:
    if not c_library:
        monkeypatch.setattr(compare, "_memcmp", None)
    saved = written(tmp_path, {"a": torch.full((3,), number).to(in_file)})
    model = view(a=torch.full((3,), number).to(in_model))
    assert bool(compare.values(saved, model)) == differs
    assert not compare.values(saved, model, rounded=True)


def test_above_the_limit_each_tensor_is_compared_at_seeded_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "WHOLE", 0)
    big = torch.randn(300, 500)
    saved = written(tmp_path, {"moved": big, "same": big, "small": torch.zeros(5)})
    model = view(moved=big + 1, same=big, small=torch.tensor([0.0, 0, 0, 0, 1]))
    assert [name for name, _ in compare.values(saved, model)] == ["moved", "small"]  # few numbers: all of them
    places, other = compare._places(150_000, 1), compare._places(150_000, 2)
    assert len(places) == 4096 and (places == compare._places(150_000, 1)).all() and (places != other).any()
    assert places.min() >= 0 and compare._places(4097, 5).max() < 4097
    # One number among 150,000 that is not looked at, and one that is; the model's tensor lies otherwise in memory.
    looked_at = set(compare._places(150_000, compare.key_seed(0, "same")).tolist())
    for place in (next(iter(looked_at)), next(place for place in range(150_000) if place not in looked_at)):
        changed = big.clone()
        changed.view(-1)[place] += 1
        across = changed.t().contiguous().t()
        assert bool(compare.values(saved, view(same=across))) == (place in looked_at)


def test_shards_are_one_checkpoint(tmp_path: Path) -> None:
    model = language_model()
    model.save_pretrained(tmp_path, max_shard_size="4KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    saved = saved_weights(tmp_path)
    assert len(shards) > 2 and saved is not None
    assert compare.names_and_shapes(saved, model_views(model)[0]) == []
    assert compare.values(saved, model_views(model)[0]) == []
    shards[1].write_bytes(shards[1].read_bytes()[:-1])
    with pytest.raises(ConfigError, match=rf"{shards[1].name} cannot be read"):
        saved_weights(tmp_path)
    shards[1].unlink()
    with pytest.raises(ConfigError, match=rf"names {shards[1].name}, which is not there"):
        saved_weights(tmp_path)


def test_an_adapter_is_compared_with_all_that_is_saved_beside_it(tmp_path: Path) -> None:
    def adapted(seed: int) -> Any:
        torch.manual_seed(seed)
        config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["norm"], use_dora=True)
        return get_peft_model(language_model(), config)

    trained, running = adapted(1), adapted(2)
    with torch.no_grad():
        for tensor in (tensor for tensor in trained.parameters() if tensor.requires_grad):
            tensor.add_(0.5)
    trained.save_pretrained(tmp_path)
    saved = saved_weights(tmp_path, ADAPTER)
    assert saved is not None and any("norm" in name for name in saved.tensors)
    ours = adapter_view(running, "default")
    assert compare.names_and_shapes(saved, ours) == []
    assert {name for name, _ in compare.values(saved, ours)} == set(saved.tensors)
    running.load_adapter(str(tmp_path), "default", is_trainable=True)
    assert compare.values(saved, adapter_view(running, "default")) == []
    running.base_model.model.model.layers[0].mlp.up_proj.requires_grad_(True)  # trained, and saved nowhere
    (found,) = compare.names_and_shapes(saved, adapter_view(running, "default"))
    assert found.name.endswith("mlp.up_proj.weight") and found.what == "is trained but not in the file"


def test_of_a_sharded_model_names_and_shapes_are_known(tmp_path: Path) -> None:
    model = language_model()
    model.save_pretrained(tmp_path)
    saved = saved_weights(tmp_path)
    assert saved is not None and whole_here(model)
    wrapped = on_meta(model_views(model)[0])
    for tensor in model.parameters():  # what DeepSpeed's ZeRO-3 does to a rank's parameters
        tensor.ds_shape, tensor.data = tensor.shape, torch.empty(0)
    assert not whole_here(model)
    for sharded in (model_views(model)[0], wrapped):
        assert compare.names_and_shapes(saved, sharded) == []
        assert compare.values(saved, sharded) == []
    model.model.norm.weight.ds_shape = torch.Size([8])
    (found,) = compare.names_and_shapes(saved, model_views(model)[0])
    assert found == ("model.norm.weight", "has shape [16] in the file, [8] in the model")


def test_any_module_may_be_compared(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    saved = written(tmp_path, dict(module.state_dict()))
    (only,) = model_views(module)
    assert compare.names_and_shapes(saved, only) == [] == compare.values(saved, only)
    module[1].running_mean.add_(1)  # a buffer is saved, so it counts
    assert compare.values(saved, only) == [("1.running_mean", "has other values in the model")]


def test_a_pretrained_model_with_a_tensor_of_its_own_is_refused(tmp_path: Path) -> None:
    language_model().save_pretrained(tmp_path)

    def load() -> None:
        check_pretrained(*_with_info(tmp_path))

    load()
    tensors = load_file(tmp_path / FILE)
    norm = tensors.pop("model.norm.weight")
    written(tmp_path, {**tensors, "model.abnorm.weight": norm})
    with pytest.raises(ConfigError, match=r"2 differences .* model\.norm\.weight is not in the file; model\.abnorm"):
        load()


def test_a_pretrained_model_may_be_rounded_and_its_file_may_lack_the_heads_prefix(tmp_path: Path) -> None:
    language_model().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / FILE)
    written(tmp_path, {name.removeprefix("model."): tensor for name, tensor in tensors.items()})
    check_pretrained(*_with_info(tmp_path, dtype=torch.bfloat16))
    model, source, info = _with_info(tmp_path)
    model.model.norm.weight.data.add_(1)
    with pytest.raises(ConfigError, match=r"norm\.weight has other values"):
        check_pretrained(model, source, info)


def _with_info(folder: Path, **keys: Any) -> tuple[Any, str, Any]:
    model, info = Qwen2ForCausalLM.from_pretrained(folder, output_loading_info=True, **keys)
    return model, str(folder), info
