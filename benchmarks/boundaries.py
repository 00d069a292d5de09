"""Whether memory grows with the boundaries: resident memory after 200 of them over that after 2.

A fresh process each; a Qwen2 of hidden size 32 and 2 layers, a pool of 256 rows, one step of 4 rows between boundaries.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from pathlib import Path
from typing import Any

import figures

POOL, BATCH, FEW, MANY = 256, 4, 2, 200
COMPONENTS = {"loss": ("dynamic_select", "loss"), "less": ("dynamic_select", "less"), "mixer": ("dynamic_mix", "loss")}


def megabytes(what: str, folder: str) -> dict[str, float]:
    """Resident memory after few and after many boundaries, in this process."""
    from less import VOCABULARY, Rows, pad
    from transformers import Qwen2Config, Qwen2ForCausalLM, Trainer, TrainerCallback, TrainingArguments

    from dataflex.trainers import dynamic_trainer

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
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, tie_word_embeddings=True,
    )  # fmt: skip
    args = TrainingArguments(
        folder, report_to="none", save_strategy="no", logging_steps=1, disable_tqdm=True, use_cpu=True,
        log_level="error", per_device_train_batch_size=BATCH, max_steps=MANY + 1,
    )  # fmt: skip
    rows = Rows(POOL, seed=1, longest=60)
    cls = dynamic_trainer(Trainer, keys, domains={"first": POOL // 2, "second": POOL // 2})
    cls(
        model=Qwen2ForCausalLM(config), args=args, train_dataset=[rows[row] for row in range(POOL)],
        eval_dataset=[rows[row] for row in range(8)], data_collator=pad, callbacks=[Watch()],
    ).train()  # fmt: skip
    grown = (seen[MANY + 1] - seen[MANY // 2 + 1]) / (MANY - MANY // 2)
    return {"few": seen[FEW + 1], "many": seen[MANY + 1], "kilobytes": grown * 1000}


def main() -> None:
    """Measure, print a table and, if asked, write the figures."""
    parser = figures.parser(__doc__)
    parser.add_argument("--runs", type=int, default=3, help="processes of each kind")
    parser.add_argument("--of", choices=COMPONENTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
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
    figures.show(found)
    if options.write:
        figures.keep("boundaries", found, pool=POOL, batch=BATCH)


if __name__ == "__main__":
    main()
