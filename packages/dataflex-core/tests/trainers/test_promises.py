"""What real use does with a Trainer of ours, and what it has to come to: pools of every kind, passes, PEFT, noise."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import Qwen2Config, Qwen2ForCausalLM, Trainer, TrainingArguments

from dataflex.trainers import dynamic_trainer

SIZE = 24
IDS = [[(row * 7 + place) % 20 for place in range(6)] for row in range(SIZE)]
STEPS = {"warmup_step": 2, "update_step": 2, "update_times": 3}
MINE = """
import torch
from dataflex import Mixer, Selector, Weighter, register_mixer, register_selector, register_weighter
from dataflex.spec import Need

@register_selector("drawn", stochastic=True)
class Drawn(Selector):
    def select(self, model, step_id, num_samples, **kwargs):
        return self.context.rng(step_id).choice(len(self.dataset), num_samples, replace=False)

@register_mixer("keeps", needs={Need.DOMAIN_LOSSES})
class Keeps(Mixer):
    def mix(self, model, step_id, **kwargs):
        assert self.context.losses.tokens.sum() > 0
        return self.context.proportions

@register_weighter("lower")
class Lower(Weighter):
    window = 4
    def weights(self, losses_B, context):
        return 1 / (0.1 + losses_B)
"""
KEYS: dict[str, dict[str, Any]] = {
    "select": {"train_type": "dynamic_select", "component_name": "drawn", **STEPS},
    "mix": {"train_type": "dynamic_mix", "component_name": "keeps", "init_mixture_proportions": [0.5, 0.5], **STEPS},
    "weight": {"train_type": "dynamic_weight", "component_name": "lower", "warmup_step": 2, "train_step": 8},
    "static_mix": {"train_type": "static_mix", "mixture_sample_rule": "uniform"},
}


class Rows(torch.utils.data.Dataset[Any]):
    def __init__(self, ids: list[list[int]]) -> None:
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> dict[str, list[int]]:
        return {"input_ids": self.ids[row], "labels": self.ids[row]}


def language_model() -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    return Qwen2ForCausalLM(Qwen2Config(**sizes, num_attention_heads=2, num_key_value_heads=2))


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Any]:
    (tmp_path / "mine.py").write_text(MINE)

    def train(
        kind: str, *, name: str = "out", pool: Any = None, model: Any = None, resume: Any = None, **arguments: Any
    ) -> Any:
        domains = {"web": 14, "code": SIZE - 14} if "mix" in kind else None
        cls = dynamic_trainer(Trainer, KEYS[kind], plugins=[tmp_path / "mine.py"], domains=domains)
        given = {"per_device_train_batch_size": 2, "learning_rate": 0.01, "save_strategy": "steps", "save_steps": 4}
        given |= {"use_cpu": True, "report_to": "none", "disable_tqdm": True}
        args = TrainingArguments(str(tmp_path / name), **(given | arguments))
        rows, evals = pool or Rows(IDS), Rows(IDS[:4])
        made = cls(model=model or language_model(), args=args, train_dataset=rows, eval_dataset=evals)
        made.train(resume)
        return made

    return train


def weights(trainer: Any) -> str:
    values = [value.detach().numpy().tobytes() for value in trainer.model.state_dict().values()]
    return hashlib.sha256(b"".join(values)).hexdigest()


def arrow() -> Any:
    return Dataset.from_dict({"input_ids": IDS, "labels": IDS})


def in_upper_case(batch: dict[str, Any]) -> dict[str, Any]:
    return {"input_ids": batch["input_ids"], "labels": batch["input_ids"]}


EPOCHS = {"save_strategy": "epoch", "eval_strategy": "epoch"}
POOLS: dict[str, Callable[[], Any]] = {
    "torch": lambda: Rows(IDS),
    "list": lambda: [{"input_ids": ids, "labels": ids} for ids in IDS],
    "subset": lambda: torch.utils.data.Subset(Rows([*IDS, [1, 2]]), range(SIZE)),
    "joined": lambda: torch.utils.data.ConcatDataset([Rows(IDS[:9]), Rows(IDS[9:])]),
    "arrow": arrow,
    "transformed": lambda: arrow().with_transform(in_upper_case),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["select", "mix", "weight"])
def test_a_pool_of_any_kind_trains_alike_and_resumes_exactly(train: Any, kind: str) -> None:
    whole = weights(train(kind, name="whole"))
    for name, pool in POOLS.items():
        made = train(kind, name=name, pool=pool())
        assert weights(made) == whole, name
        resumed = train(kind, name=name, pool=pool(), resume=f"{made.args.output_dir}/checkpoint-4")
        assert weights(resumed) == whole, name


@pytest.mark.parametrize("kind", ["select", "mix", "weight"])
def test_prompt_tuning_trains(train: Any, kind: str) -> None:
    from peft import PromptTuningConfig, get_peft_model

    model = get_peft_model(language_model(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    before = model.prompt_encoder["default"].embedding.weight.detach().clone()
    assert train(kind, model=model).state.global_step == 8
    assert not torch.equal(model.prompt_encoder["default"].embedding.weight, before)


@pytest.mark.parametrize("kind", ["select", "mix", "weight"])
def test_noise_in_the_embeddings_goes_on_as_it_would_have(train: Any, kind: str) -> None:
    whole = train(kind, name="whole", neftune_noise_alpha=5.0)
    checkpoint = f"{whole.args.output_dir}/checkpoint-4"
    resumed = train(kind, name="resumed", neftune_noise_alpha=5.0, resume=checkpoint)
    assert weights(resumed) == weights(whole) != weights(train(kind, name="quiet"))


def saved(trainer: Any) -> list[int]:
    return sorted(int(path.name.partition("-")[2]) for path in Path(trainer.args.output_dir).glob("checkpoint-*"))


def evaluated(trainer: Any) -> list[int]:
    return [entry["step"] for entry in trainer.state.log_history if "eval_loss" in entry]


def test_an_epoch_is_a_pass_over_the_pool(train: Any) -> None:
    mixed = train("static_mix", name="mixed", num_train_epochs=3, **EPOCHS)
    assert saved(mixed) == evaluated(mixed) == [12, 24, 36]
    chosen = train("select", name="chosen", **EPOCHS)  # 8 steps, and a pass would be 12
    assert saved(chosen) == evaluated(chosen) == [8]
