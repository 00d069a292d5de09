"""What LESS costs beside training itself, and how much memory it takes.

Speed: one process, a Qwen2 of hidden size 256 and 6 layers with LoRA r=8 on all linear layers, rows of mixed lengths.
Per batch, in alternating order: a plain forward and backward of Hugging Face's own loss, and the candidate pass of
LESS. The loop of one sample at a time runs on every 16th row. Rates are over the sum of CPU seconds, which other work
on the machine disturbs less than the wall clock; one a run over all rows. Set OMP_NUM_THREADS=1.

Memory: for each pool size a fresh process scores rows made on the fly with a smaller model; the figure is the peak of
resident memory during the selection above what was resident before it. Most of it is what glibc's allocator keeps of
blocks it was given back; MALLOC_MMAP_THRESHOLD_=1048576 in the environment has it keep none.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import figures

VOCABULARY = 1000
SUBTASKS = 1
POOLS = (2_000, 20_000)
LOOP_SHARE = 16


class Rows:
    """A pool whose rows are made when they are asked for, so that it takes no memory itself."""

    def __init__(self, count: int, seed: int, shortest: int = 20, longest: int = 260) -> None:
        self.count, self.seed, self.range = count, seed, (shortest, longest)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> dict[str, list[int]]:
        import numpy as np

        if not 0 <= row < self.count:
            raise IndexError(row)
        rng = np.random.default_rng([self.seed, row])
        length = int(rng.integers(*self.range))
        tokens = rng.integers(1, VOCABULARY, length).tolist()
        prompt = length // 3
        return {"input_ids": tokens, "attention_mask": [1] * length, "labels": [-100] * prompt + tokens[prompt:]}


def pad(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A right-padding collator."""
    import torch

    width = max(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    return {
        name: torch.tensor([[*row[name], *[value] * (width - len(row[name]))] for row in rows])
        for name, value in fill.items()
    }


def adapted_model(hidden: int, layers: int) -> tuple[Any, Any]:
    """A Qwen2 with LoRA and an AdamW that has stepped a few times."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        tie_word_embeddings=True,
    )
    lora = LoraConfig(task_type="CAUSAL_LM", r=8, lora_dropout=0.0, target_modules="all-linear")
    model = get_peft_model(Qwen2ForCausalLM(config), lora).train()
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-3)
    warm = Rows(64, seed=9)
    for step in range(8):
        model(**pad([warm[8 * step + place] for place in range(8)])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def speed(count: int, token_budget: int, runs: int) -> list[dict[str, float]]:
    """Rows a CPU second of a plain pass, of LESS and of a loop, over the same rows; once a run."""
    import torch

    from dataflex.data.scoring_loader import ScoringLoader
    from dataflex.gradients.coverage import Coverage, Scope, cover
    from dataflex.gradients.engine import GradientEngine
    from dataflex.gradients.moments import adam_moments
    from dataflex.gradients.preconditioning import PreconditioningSink
    from dataflex.gradients.sinks import ScoreSink, empty_directions

    model, optimizer = adapted_model(256, 6)
    coverage = cover(model, Scope.ALL)
    sizes = {name: value.numel() for name, value in coverage.parameters.items()}
    goals = empty_directions(sizes, SUBTASKS, torch.device("cpu"))
    for vectors in goals.values():
        vectors.normal_()
    moments = adam_moments(optimizer, coverage.parameters)
    sink = PreconditioningSink(ScoreSink(goals), moments, "official")
    engine = GradientEngine(model, coverage)
    loop = GradientEngine(
        model, Coverage(coverage.parameters, coverage.layers, reason="the benchmark asks for it"), quiet_log=True
    )
    pool = Rows(count, seed=1)
    batches = [batch for _, batch in ScoringLoader(pool, pad, range(count), token_budget=token_budget)]
    singles = [pad([pool[row]]) for row in range(0, count, LOOP_SHARE)]

    def plain(batch: dict[str, Any]) -> None:
        model(**batch).loss.backward()
        model.zero_grad()

    def less(batch: dict[str, Any]) -> None:
        engine.attempt(lambda: engine.feed(batch, sink))

    def one_by_one(batch: dict[str, Any]) -> None:
        loop.attempt(lambda: loop.feed(batch, sink))

    ways: list[tuple[str, Callable[[dict[str, Any]], None]]] = [("plain", plain), ("less", less)]
    for _, way in ways:
        way(batches[0])
    return [_rates(batches, singles, ways, one_by_one, count) for _ in range(runs)]


def _rates(
    batches: Sequence[dict[str, Any]],
    singles: Sequence[dict[str, Any]],
    ways: Sequence[tuple[str, Callable[[dict[str, Any]], None]]],
    loop: Callable[[dict[str, Any]], None],
    count: int,
) -> dict[str, float]:
    spent = {"plain": 0.0, "less": 0.0, "loop": 0.0}
    for number, batch in enumerate(batches):
        for name, way in ways[:: 1 if number % 2 else -1]:
            spent[name] += seconds(way, batch)
        for single in singles[number :: len(batches)]:
            spent["loop"] += seconds(loop, single)
    return {
        "plain": count / spent["plain"],
        "less": count / spent["less"],
        "loop": len(singles) / spent["loop"],
    }


def seconds(way: Callable[[dict[str, Any]], None], batch: dict[str, Any]) -> float:
    """CPU seconds of one call."""
    began = time.process_time()
    way(batch)
    return time.process_time() - began


def memory(count: int, token_budget: int) -> dict[str, float]:
    """Peak of resident memory above the start of a selection, in MB. Only meaningful in a fresh process."""
    from dataflex.testing import make_context
    from dataflex_selectors_less.params import LessParams
    from dataflex_selectors_less.selector import LessSelector

    model, optimizer = adapted_model(64, 2)
    context = make_context(
        Rows(count, seed=1, longest=60),
        pad,
        eval_datasets={"eval": Rows(32, seed=2)},
        optimizer=lambda: optimizer,
    )
    params = LessParams(shard_seconds=0, token_budget=token_budget)
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    before = pages * resource.getpagesize() / 1e6
    selection = LessSelector(params, context).select(model, 8, 100)
    assert selection.scores is not None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"pool": count, "before_mb": before, "extra_mb": peak - before, "seconds": selection.metrics["seconds"]}  # type: ignore[dict-item]


def main() -> None:
    """Measure, print tables and, if asked, write the figures."""
    parser = figures.parser(__doc__)
    parser.add_argument("--candidates", type=int, default=1024)
    parser.add_argument("--token-budget", type=int, default=2048, help="the default on a CPU is 2048")
    parser.add_argument("--runs", type=int, default=3, help="runs over all rows")
    parser.add_argument("--memory", type=int, help="measure the memory of a pool of this size and print it as JSON")
    options = parser.parse_args()
    if options.memory:
        print(json.dumps(memory(options.memory, options.token_budget)))
        return
    rates = speed(options.candidates, options.token_budget, options.runs)
    found = {f"{way}, rows a CPU second": figures.figure([run[way] for run in rates]) for way in rates[0]}
    for beside in ("plain", "loop"):
        found[f"less over {beside}"] = figures.figure([run["less"] / run[beside] for run in rates])
    size = ("--token-budget", str(options.token_budget))
    peaks = [figures.in_a_process(__file__, "--memory", str(count), *size) for count in POOLS]
    for peak in peaks:
        found[f"extra MB at a pool of {peak['pool']}"] = figures.figure([peak["extra_mb"]])
    found["extra memory, large pool over small"] = figures.figure([peaks[1]["extra_mb"] / peaks[0]["extra_mb"]])
    figures.show(found)
    if options.write:
        figures.keep(
            "less", found, candidates=options.candidates, loop_on_every=LOOP_SHARE, token_budget=options.token_budget
        )


if __name__ == "__main__":
    main()
