"""Whether memory grows with the boundaries, and what a boundary of several components costs beside those of its parts.

Memory: resident after 200 boundaries over that after 2. A fresh process each; a Qwen2 of hidden size 32 and 2 layers, a
pool of 256 rows, one step of 4 rows between boundaries.
Seconds (`--together` measures these alone): the decisions of a boundary at which a mixer, a selector that scores the
pool and an orderer are asked, over the sum of those of each in a run of its own. The runs take turns in one process;
each round gives the ratio of the median boundaries. A Qwen2 of hidden size 256 and 6 layers, the same pool in two
domains.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
from pathlib import Path
from typing import Any

import figures

POOL, BATCH, FEW, MANY = 256, 4, 2, 200
COMPONENTS = {"loss": ("dynamic_select", "loss"), "less": ("dynamic_select", "less"), "mixer": ("dynamic_mix", "loss")}
PARTS = {"mixer": "loss", "selector": "loss", "orderer": {"name": "folding", "params": {"by": "length"}}}
TOGETHER, ROUND_BOUNDARIES, WIDE_POOL = "together", 3, 1024
"""A pool of which each domain fills many scoring batches: beside a mixer the selector scores domain by domain."""


def _make(
    folder: str, keys: dict[str, Any], *, hidden: int, layers: int, steps: int, pool: int = POOL, callbacks: Any = ()
) -> Any:
    """A Trainer on a pool of two domains."""
    from less import VOCABULARY, Rows, pad
    from transformers import Qwen2Config, Qwen2ForCausalLM, Trainer, TrainingArguments

    from dataflex.trainers import dynamic_trainer

    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=4, tie_word_embeddings=True,
    )  # fmt: skip
    args = TrainingArguments(
        folder, report_to="none", save_strategy="no", logging_steps=1, disable_tqdm=True, use_cpu=True,
        log_level="error", per_device_train_batch_size=BATCH, max_steps=steps,
    )  # fmt: skip
    rows = Rows(pool, seed=1, longest=60)
    cls: Any = dynamic_trainer(Trainer, keys, domains={"first": pool // 2, "second": pool // 2})
    return cls(
        model=Qwen2ForCausalLM(config), args=args, train_dataset=[rows[row] for row in range(pool)],
        eval_dataset=[rows[row] for row in range(8)], data_collator=pad, callbacks=list(callbacks),
    )  # fmt: skip


def boundary_ratios(rounds: int, folder: str) -> dict[str, list[float]]:
    """Seconds of a boundary of several components over the sum of its parts', one ratio a round, and those seconds."""
    asked: dict[str, dict[str, Any]] = {kind: {kind: name} for kind, name in PARTS.items()} | {TOGETHER: dict(PARTS)}
    trainers = {}
    for name, components in asked.items():
        keys: dict[str, Any] = {"train_type": "dynamic", "components": components, "warmup_step": 1, "update_step": 1}
        keys["update_times"] = ROUND_BOUNDARIES
        if "mixer" in components:
            keys["init_mixture_proportions"] = [0.5, 0.5]
        steps = ROUND_BOUNDARIES + 1
        trainers[name] = _make(str(Path(folder, name)), keys, hidden=256, layers=6, steps=steps, pool=WIDE_POOL)
    found: dict[str, list[float]] = {name: [] for name in asked}
    for number in range(rounds + 1):  # the first warms caches
        for name, trainer in trainers.items() if number % 2 else reversed(trainers.items()):
            Path(folder, name, "decisions.jsonl").unlink(missing_ok=True)
            trainer.train()
            if number:
                found[name].append(_median_boundary(Path(folder, name)))
    ratios = [
        whole / sum(parts) for whole, *parts in zip(found[TOGETHER], *(found[part] for part in PARTS), strict=True)
    ]
    return {**found, "ratios": ratios}


def _median_boundary(folder: Path) -> float:
    """Median seconds of a boundary, over all decisions taken at it."""
    from dataflex.decisions import DecisionLog

    seconds: dict[int, float] = {}
    for decision in DecisionLog(folder):
        seconds[decision.step] = seconds.get(decision.step, 0.0) + decision.seconds
    return statistics.median(seconds.values())


def megabytes(what: str, folder: str) -> dict[str, float]:
    """Resident memory after few and after many boundaries, in this process."""
    from transformers import TrainerCallback

    seen = {}

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
            seen[state.global_step] = pages * resource.getpagesize() / 1e6

    train_type, component = COMPONENTS[what]
    keys = {"train_type": train_type, "component_name": component, "warmup_step": 1, "update_step": 1}
    keys |= {"update_times": MANY}
    if train_type == "dynamic_mix":
        keys |= {"init_mixture_proportions": [0.5, 0.5]}
    if component == "less":
        keys |= {"component_params": {"parameters": "linear"}}
    _make(folder, keys, hidden=32, layers=2, steps=MANY + 1, callbacks=[Watch()]).train()
    grown = (seen[MANY + 1] - seen[MANY // 2 + 1]) / (MANY - MANY // 2)
    return {"few": seen[FEW + 1], "many": seen[MANY + 1], "kilobytes": grown * 1000}


def seconds_table(rounds: int) -> dict[str, dict[str, float]]:
    """Figures of the seconds of boundaries."""
    with tempfile.TemporaryDirectory() as folder:
        measured = boundary_ratios(rounds, folder)
    ratios = measured.pop("ratios")
    table = {f"{name}: seconds of a boundary": figures.figure(values) for name, values in measured.items()}
    return {**table, f"{TOGETHER}: a boundary over the sum of its parts'": figures.figure(ratios)}


def main() -> None:
    """Measure, print a table and, if asked, write the figures."""
    parser = figures.parser(__doc__)
    parser.add_argument("--runs", type=int, default=3, help="processes of each kind")
    parser.add_argument("--rounds", type=int, default=6, help="turns of each run, for the seconds of a boundary")
    parser.add_argument("--together", action="store_true", help="only the seconds of a boundary of several components")
    parser.add_argument("--of", choices=COMPONENTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.together:
        found = seconds_table(options.rounds)
        figures.show(found)
        if options.write:
            figures.keep("boundaries_together", found, pool=WIDE_POOL, batch=BATCH, parts=PARTS)
        return
    if options.of:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(megabytes(options.of, folder)))
        return
    found = {}
    for what in COMPONENTS:
        runs = [figures.in_a_process(__file__, "--of", what) for _ in range(options.runs)]
        found[f"{what}: MB after {FEW}"] = figures.figure([run["few"] for run in runs])
        found[f"{what}: {MANY} over {FEW}"] = figures.figure([run["many"] / run["few"] for run in runs])
        found[f"{what}: KB a boundary"] = figures.figure([run["kilobytes"] for run in runs])
    found |= seconds_table(options.rounds)
    figures.show(found)
    if options.write:
        figures.keep("boundaries", found, pool=POOL, batch=BATCH)


if __name__ == "__main__":
    main()
