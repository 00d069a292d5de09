"""What selectors and dynamic steps cost on one GPU, with a model of ordinary size; and whether they are exact there.

A random Qwen2 of the shape of Qwen2-0.5B in bf16 with LoRA r=8 on all linear layers, rows of 64 to 512 tokens, bf16
autocast as LlamaFactory trains it. Times are by the wall clock, the GPU's queue drained before and after.

Scoring: passes over the same batches, which lie on the GPU already, take turns: plain forward, the loss selector's;
plain forward and backward, the candidate pass of LESS. A whole selection, loading and ranking included, is timed too.
Steps: a stock Trainer, one that selects (between boundaries) and one that weighs take turns.
Exactness: LESS's scores in fp32 beside those of the CPU; a run resumed from its middle beside the whole one.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import figures
import numpy as np
import torch
from less import Rows, adapted_model, pad
from scoring import CHOSEN, context, less_selector, loss_selector
from steps import KINDS, ROUND_STEPS, STOCK, StepTimes
from transformers import Trainer, TrainingArguments

SHAPE = {
    "vocab_size": 151_936,
    "hidden_size": 896,
    "intermediate_size": 4_864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}
"""Of Qwen2-0.5B."""

SHORTEST, LONGEST = 64, 512
BATCH = 8
Found = dict[str, dict[str, float]]


def large_model() -> tuple[Any, Any]:
    """The model on the GPU, and an AdamW that has stepped a few times."""
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    with torch.device("cuda"):  # drawing half a billion numbers takes a CPU longer than the rest of this file
        base = Qwen2ForCausalLM(Qwen2Config(**SHAPE)).to(torch.bfloat16)
    lora = LoraConfig(task_type="CAUSAL_LM", r=8, lora_dropout=0.0, target_modules="all-linear")
    model = get_peft_model(base, lora).cuda().train()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # as LlamaFactory keeps adapters
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-3)
    warm = Rows(32, seed=9)
    for step in range(4):
        batch = {name: value.cuda() for name, value in pad([warm[8 * step + place] for place in range(8)]).items()}
        with torch.autocast("cuda", torch.bfloat16):
            model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def seconds(call: Callable[[], Any]) -> float:
    """Seconds of a call and of all that it queued on the GPU."""
    torch.cuda.synchronize()
    began = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def ratios(one: Callable[[], Any], other: Callable[[], Any], runs: int) -> tuple[list[float], list[float]]:
    """Seconds of two calls that take turns, after one of each that does not count."""
    for call in (one, other):
        call()
    spent: dict[Callable[[], Any], list[float]] = {one: [], other: []}
    for run in range(runs):
        for call in (one, other) if run % 2 else (other, one):
            spent[call].append(seconds(call))
    return spent[one], spent[other]


def scoring(count: int, runs: int) -> Iterator[Found]:
    """Throughput of both selectors beside plain passes over the same batches, and of a whole selection; bit by bit."""
    from accelerate import Accelerator

    from dataflex.data.scoring_loader import ACCELERATOR_TOKENS, ScoringLoader
    from dataflex.gradients.coverage import Coverage, Scope, cover
    from dataflex.gradients.engine import GradientEngine
    from dataflex.gradients.measuring import ACCELERATOR_TOKENS as LESS_TOKENS
    from dataflex.gradients.moments import adam_moments
    from dataflex.gradients.preconditioning import PreconditioningSink
    from dataflex.gradients.sinks import ScoreSink, empty_directions
    from dataflex.math.losses import sample_losses

    accelerator = Accelerator(mixed_precision="bf16")
    model, optimizer = large_model()
    rows = Rows(count, seed=1, shortest=SHORTEST, longest=LONGEST)
    pool = [rows[row] for row in range(count)]
    batches = {
        tokens: [
            batch
            for _, batch in ScoringLoader(pool, pad, range(count), token_budget=tokens, device=torch.device("cuda"))
        ]
        for tokens in (ACCELERATOR_TOKENS, LESS_TOKENS)
    }
    singles = [{name: value.cuda() for name, value in pad([row]).items()} for row in pool[:: max(1, count // 64)]]
    coverage = cover(model, Scope.ALL)
    goals = empty_directions(
        {name: value.numel() for name, value in coverage.parameters.items()}, 1, torch.device("cuda")
    )
    for vectors in goals.values():
        vectors.normal_()
    sink = PreconditioningSink(ScoreSink(goals), adam_moments(optimizer, coverage.parameters), "official")
    engine = GradientEngine(model, coverage, accelerator)
    alone = Coverage(coverage.parameters, coverage.layers, reason="the benchmark asks for it")
    loop_engine = GradientEngine(model, alone, accelerator, quiet_log=True)

    def forward(batch: dict[str, Any]) -> Any:
        with accelerator.autocast():
            return model(**batch)

    def plain_forward() -> None:
        with torch.no_grad():
            for batch in batches[ACCELERATOR_TOKENS]:
                forward(batch)

    def losses() -> None:
        with torch.no_grad():
            for batch in batches[ACCELERATOR_TOKENS]:
                with accelerator.autocast():
                    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
                sample_losses(logits, batch["labels"])

    def plain_backward() -> None:
        for batch in batches[LESS_TOKENS]:
            forward(batch).loss.backward()
            model.zero_grad()

    def less() -> None:
        engine.attempt(lambda: [engine.feed(batch, sink) for batch in batches[LESS_TOKENS]])

    def loop() -> None:
        loop_engine.attempt(lambda: [loop_engine.feed(batch, sink) for batch in singles])

    plain, own = ratios(plain_forward, losses, runs)
    yield {"loss: forward and losses over plain forward": _over(plain, own)}
    plain, own = ratios(plain_backward, less, runs)
    yield {"less: candidate pass over plain forward and backward": _over(plain, own)}
    one_by_one = [seconds(loop) / len(singles) for _ in range(2)]
    yield {"less: candidate pass over one by one": figures.figure([one_by_one[-1] * count / each for each in own])}
    for name, call in (("plain forward and backward", plain_backward), ("less", less)):
        torch.cuda.reset_peak_memory_stats()
        call()
        yield {f"peak memory, MiB: {name}": figures.figure([torch.cuda.max_memory_allocated() / 2**20])}
    whole = loss_selector(context(pool, optimizer, accelerator))
    plain, own = ratios(plain_forward, lambda: whole.select(model, 8, CHOSEN), runs)
    yield {"loss: whole selection over plain forward": _over(plain, own)}
    yield {"loss: rows a second, whole selection": figures.figure([count / each for each in own])}
    whole = less_selector(context(pool, optimizer, accelerator))
    plain, own = ratios(plain_backward, lambda: whole.select(model, 8, CHOSEN), runs)
    yield {"less: whole selection over plain forward and backward": _over(plain, own)}
    yield {"less: rows a second, whole selection": figures.figure([count / each for each in own])}


def _over(plain: Sequence[float], own: Sequence[float]) -> dict[str, float]:
    return figures.figure([one / other for one, other in zip(plain, own, strict=True)])


def step_ratios(rounds: int) -> Iterator[Found]:
    """Median step times of every kind over the stock one, one ratio a round; they take turns."""
    from dataflex.trainers import dynamic_trainer

    rows = Rows(256, seed=1, shortest=LONGEST - 1, longest=LONGEST)
    pool = [rows[row] for row in range(len(rows))]
    kinds = {kind: KINDS[kind] for kind in (STOCK, "select", "weighted")}
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    model, _ = large_model()
    with tempfile.TemporaryDirectory() as folder:
        trainers = {}
        for kind, keys in kinds.items():
            args = TrainingArguments(
                str(Path(folder, kind)), report_to="none", save_strategy="no", logging_steps=10, disable_tqdm=True,
                log_level="error", bf16=True, per_device_train_batch_size=BATCH, max_steps=ROUND_STEPS,
            )  # fmt: skip
            cls = Trainer if kind == STOCK else dynamic_trainer(Trainer, keys)
            trainers[kind] = cls(model=model, args=args, train_dataset=pool, data_collator=pad)
            trainers[kind].train()  # warms caches; not counted
        for number in range(rounds):
            for kind in kinds if number % 2 else reversed(kinds):
                clock = StepTimes()
                trainers[kind].add_callback(clock)
                trainers[kind].train()
                trainers[kind].remove_callback(clock)
                times[kind].append(1e3 * statistics.median(clock.wall))
    yield {"step: stock, ms": figures.figure(times[STOCK])}
    for kind in ("select", "weighted"):
        yield {f"step: {kind} over stock": _over(times[kind], times[STOCK])}


def exactness() -> Iterator[Found]:
    """How far LESS's scores in fp32 are from the CPU's; whether a resumed run ends in the whole one's weights."""
    model, optimizer = adapted_model(256, 6)
    rows = Rows(128, seed=1)
    pool = [rows[row] for row in range(128)]
    on_cpu = less_selector(context(pool, optimizer)).select(model, 8, CHOSEN).scores
    model.cuda()
    for state in optimizer.state.values():
        state |= {name: value.cuda() for name, value in state.items() if name != "step"}
    there = less_selector(context(pool, optimizer, _OnCuda())).select(model, 8, CHOSEN).scores
    largest = float(np.abs(on_cpu - there).max())
    yield {"less: largest difference of a score from the CPU's, fp32": figures.figure([largest])}
    with tempfile.TemporaryDirectory() as folder:
        whole = _train(Path(folder, "whole"))
        _train(Path(folder, "halves"), until=8)
        halves = _train(Path(folder, "halves"), resume=True)
    different = sum(not torch.equal(one, other) for one, other in zip(whole, halves, strict=True))
    yield {"resume: tensors that differ from the whole run's": figures.figure([different])}


class _OnCuda:
    """As much of an accelerator as a selector asks for on one process in fp32."""

    device = torch.device("cuda")
    num_processes, process_index = 1, 0
    mixed_precision = "no"

    def autocast(self) -> Any:
        """Nothing is cast."""
        return torch.autocast("cuda", enabled=False)


def _train(folder: Path, *, until: int = 0, resume: bool = False) -> list[torch.Tensor]:
    from transformers import TrainerCallback

    from dataflex.trainers import dynamic_trainer

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_training_stop = state.global_step == until

    model, _ = adapted_model(256, 6)
    keys = {"train_type": "dynamic_select", "component_name": "less", "warmup_step": 3, "update_step": 4,
            "update_times": 3}  # fmt: skip
    args = TrainingArguments(
        str(folder), report_to="none", save_strategy="steps", save_steps=4, logging_steps=5, disable_tqdm=True,
        log_level="error", bf16=True, per_device_train_batch_size=4, learning_rate=1e-3,
    )  # fmt: skip
    rows = Rows(128, seed=1)
    trainer = dynamic_trainer(Trainer, keys)(
        model=model, args=args, data_collator=pad, callbacks=[Stop()],
        train_dataset=[rows[row] for row in range(128)], eval_dataset=[Rows(16, seed=2)[row] for row in range(16)],
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume or None)
    return [value.detach().cpu() for value in trainer.model.parameters()]


def main() -> None:
    """Measure, print a table and, if asked, write the figures."""
    parser = figures.parser(__doc__)
    parser.add_argument("--rows", type=int, default=1024, help="of the pool that is scored")
    parser.add_argument("--runs", type=int, default=5, help="pairs of passes")
    parser.add_argument("--parts", nargs="+", choices=("steps", "scoring", "exactness"), help="only these")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU here: nothing to measure")
        return
    parts = {
        "steps": lambda: step_ratios(options.runs),
        "scoring": lambda: scoring(options.rows, options.runs),
        "exactness": exactness,
    }
    found: Found = {}
    for part in options.parts or parts:
        for new in parts[part]():
            figures.show(new)
            found |= new
            if options.write:  # what was measured is kept if a later part fails
                figures.keep("gpu", found, shape=SHAPE, rows=options.rows, batch=BATCH, lengths=[SHORTEST, LONGEST])
        gc.collect()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
