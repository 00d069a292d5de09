"""A mixer's weights of the domains in the training loss, its token scores, its report and its end."""

from __future__ import annotations

import json

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import Qwen2Config, Qwen2ForCausalLM, Trainer, TrainingArguments

from dataflex.errors import ComponentError, ConfigError
from dataflex.trainers import dynamic_trainer

DOMAINS = {"short": 12, "long": 8}
MINE = """
import json
import numpy as np
from dataflex import Mixer, register_mixer
from dataflex.spec import Need

class Even(Mixer):
    seen = ()

    def mix(self, model, step_id, **kwargs):
        return [0.5, 0.5]

    def on_step(self, stats):
        self.seen = [*self.seen, (stats.step, stats.losses, stats.scores)]

    def metrics(self):
        return {"steps_seen": len(self.seen), "scores": [0.5, None]}

    def finished(self, step_id):
        sums = [[losses.sums.tolist(), losses.tokens.tolist(), scores.tolist()] for _, losses, scores in self.seen]
        (self.context.output_dir / "seen.json").write_text(json.dumps([step_id, sums]))

@register_mixer("watch", needs={Need.DOMAIN_LOSSES})
class Watch(Even):
    pass

@register_mixer("shares", needs={Need.DOMAIN_LOSSES})
class Shares(Even):
    def objective_weights(self, tokens):
        return tokens / tokens.sum()

@register_mixer("nothing", needs={Need.DOMAIN_LOSSES})
class Nothing(Even):
    def objective_weights(self):
        return None

@register_mixer("doubled", needs={Need.DOMAIN_LOSSES})
class Doubled(Even):
    def token_scores(self, batch):
        return 2 * batch.losses_BT + 7 * ~batch.mask_BT

@register_mixer("needless")
class Needless(Shares):
    pass

@register_mixer("negative", needs={Need.DOMAIN_LOSSES})
class Negative(Even):
    def objective_weights(self, tokens):
        return [1.5, -0.5]

@register_mixer("long", needs={Need.DOMAIN_LOSSES})
class Long(Even):
    def objective_weights(self, tokens):
        return [1.0]

@register_mixer("flat", needs={Need.DOMAIN_LOSSES})
class Flat(Even):
    def token_scores(self, batch):
        return batch.losses_BT.sum()
"""


def pool():
    draw = torch.Generator().manual_seed(0)
    lengths = [*range(3, 3 + DOMAINS["short"]), *range(20, 20 + DOMAINS["long"])]
    rows = [torch.randint(16, (length,), generator=draw).tolist() for length in lengths]
    return [{"input_ids": row, "labels": [-100, *row[1:]]} for row in rows]


def collate(rows):
    def padded(name, value):
        return pad_sequence([torch.tensor(row[name]) for row in rows], batch_first=True, padding_value=value)

    labels = padded("labels", -100)
    return {"input_ids": padded("input_ids", 0), "labels": labels}


@pytest.fixture
def construct(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(MINE)

    def construct(mixer, *, out="out", warmup=1, loss=None, **arguments):
        keys = {
            "train_type": "dynamic_mix",
            "component_name": mixer,
            "init_mixture_proportions": [0.5, 0.5],
            "warmup_step": warmup,
            "update_step": 2,
            "train_step": 5,
        }
        torch.manual_seed(1)
        sizes = {"vocab_size": 16, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
        model = Qwen2ForCausalLM(Qwen2Config(**sizes, num_attention_heads=2, num_key_value_heads=1))
        given = {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2, "logging_steps": 1, **arguments}
        args = TrainingArguments(
            str(tmp_path / out),
            **given,
            optim="sgd",
            learning_rate=0.1,
            save_strategy="no",
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
        )
        cls = dynamic_trainer(Trainer, keys, domains=DOMAINS, plugins=[mine])
        return cls(model=model, args=args, train_dataset=pool(), data_collator=collate, compute_loss_func=loss)

    return construct


def weights(trainer):
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


def test_shares_of_the_tokens_are_the_stock_loss(construct):
    stock, shares = construct("watch", out="stock"), construct("shares", out="shares")
    stock.train()
    shares.train()
    assert (weights(stock) - weights(shares)).abs().max() < 1e-6
    losses = [[entry["loss"] for entry in run.state.log_history if "loss" in entry] for run in (stock, shares)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_weights_that_are_none_leave_the_stock_loss_bit_for_bit(construct):
    stock, nothing = construct("watch", out="stock"), construct("nothing", out="nothing")
    stock.train()
    nothing.train()
    assert torch.equal(weights(stock), weights(nothing))


def test_a_model_that_takes_no_count_of_items_trains_on_the_same_objective(construct):
    counted, uncounted = construct("shares", out="counted", warmup=0), construct("shares", out="uncounted", warmup=0)
    uncounted.model_accepts_loss_kwargs = False
    counted.train()
    uncounted.train()
    assert (weights(counted) - weights(uncounted)).abs().max() < 1e-6


def test_token_scores_are_summed_over_targets_by_domain(construct, tmp_path):
    construct("doubled").train()
    step, seen = json.loads((tmp_path / "out" / "seen.json").read_text())
    assert step == 5 and len(seen) == 4  # steps 2 to 5: the warm-up has none
    for losses, _, scores in seen:
        assert scores == pytest.approx([2 * loss for loss in losses], rel=1e-5)


def test_what_a_mixer_reports_is_recorded_at_boundaries_and_at_the_end_and_logged(construct):
    trainer = construct("watch")
    trainer.train()
    records = list(trainer.recorder.log)
    assert [record.step for record in records] == [1, 3, 5]
    assert [record.metrics["steps_seen"] for record in records] == [0, 2, 4]
    assert records[-1].stage == records[-2].stage
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["dataflex/steps_seen"] for entry in logged] == [0, 1, 2, 3, 4]
    assert all(entry["dataflex/scores/short"] == 0.5 and "dataflex/scores/long" not in entry for entry in logged)


@pytest.mark.parametrize(
    ("mixer", "message"),
    [
        ("needless", r"defines objective_weights\(\) but does not declare Need.DOMAIN_LOSSES"),
        ("negative", r"objective_weights\(\) returned short: 1.5, long: -0.5; weights are finite and not negative"),
        ("long", r"objective_weights\(\) returned shape \[1\] for 2 domains \(short, long\)"),
        ("flat", r"token_scores\(\) returned shape \[\] for losses of shape"),
    ],
)
def test_unusable_answers_stop_the_run(construct, mixer, message):
    with pytest.raises(ComponentError, match=message):
        construct(mixer).train()


def test_a_loss_of_the_trainers_own_is_not_replaced_in_silence(construct):
    with pytest.raises(ConfigError, match="compute_loss_func of its own"):
        construct("shares", loss=lambda outputs, labels, num_items_in_batch=None: outputs.logits.sum()).train()
    with pytest.raises(ConfigError, match=r"label_smoothing_factor: 0\.1 changes the losses"):
        construct("shares", label_smoothing_factor=0.1).train()
