"""What DoReMi and the mixer ``loss`` cost and do: step times, and held-out losses on three kinds of real text.

    python benchmarks/doremi.py time       the same run plain, with loss, with cached and with live references, in turns
    python benchmarks/doremi.py quality    reference, uniform, proxy, final; the mixer loss beside static controls

The text is what the machine holds (Python's standard library and licences of packages), one byte a token. Held-out rows
are of modules and packages that are never trained on. ``--write`` keeps the figures under ``benchmarks/results/``.
"""

from __future__ import annotations

import json
import logging
import statistics
import tempfile
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import figures
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import Qwen2Config, Qwen2ForCausalLM, Trainer, TrainerCallback, TrainingArguments

from dataflex.decisions import DecisionLog
from dataflex.demo.corpus import read_rows
from dataflex.demo.settings import Settings
from dataflex.trainers import dynamic_trainer

NAMES = ("source", "docstrings", "licences")
LENGTH = 96
PADDING = 256
AVERAGES = ("doremi_average", "loss_average", "loss-even_average")
SKEWED = [0.05, 0.8, 0.15]
Rows = dict[str, list[list[int]]]


def read_domains(rows_each: int, held_out: int) -> tuple[Rows, Rows]:
    """Training and held-out rows of each domain; rows of one module or package stay together."""
    train: Rows = {name: [] for name in NAMES}
    held: Rows = {name: [] for name in NAMES}
    for row in read_rows(Settings()):
        if row.domain in NAMES:
            apart = zlib.crc32(row.origin.encode()) % 5 == 0
            (held if apart else train)[row.domain].append(list(row.answer.encode()[:LENGTH]))
    return (
        {name: rows[:rows_each] for name, rows in train.items()},
        {name: rows[:held_out] for name, rows in held.items()},
    )


def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Pad on the right."""

    def padded(name: str, value: int) -> torch.Tensor:
        return pad_sequence([torch.tensor(row[name]) for row in rows], batch_first=True, padding_value=value)

    labels = padded("labels", -100)
    return {"input_ids": padded("input_ids", PADDING), "labels": labels, "attention_mask": (labels != -100).long()}


def new_model(seed: int, hidden: int, layers: int) -> Any:
    """A model that has learned nothing."""
    torch.manual_seed(seed)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=PADDING + 1,
            hidden_size=hidden,
            intermediate_size=3 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=LENGTH,
            pad_token_id=PADDING,
        )
    )


def train(
    out: Path,
    rows: Rows,
    model: Any,
    *,
    steps: int,
    seed: int = 0,
    batch: int = 12,
    callbacks: list[TrainerCallback] | None = None,
    **keys: Any,
) -> Any:
    """One run; ``keys`` are those of a run file."""
    args = TrainingArguments(
        str(out),
        per_device_train_batch_size=batch,
        learning_rate=3e-3,
        lr_scheduler_type="cosine",
        warmup_steps=steps // 10,
        seed=seed,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        logging_steps=1_000_000,
        disable_tqdm=True,
    )
    pool = [{"input_ids": row, "labels": row} for name in NAMES for row in rows[name]]
    cls = dynamic_trainer(Trainer, keys, domains={name: len(rows[name]) for name in NAMES})
    trainer = cls(model=model, args=args, train_dataset=pool, data_collator=collate, callbacks=callbacks)
    trainer.train()
    return trainer


def static(proportions: list[float], steps: int) -> dict[str, Any]:
    """Keys of a run with fixed proportions."""
    return {"train_type": "static_mix", "init_mixture_proportions": proportions, "train_step": steps}


def dynamic(
    mixer: str, proportions: list[float], steps: int, warmup: int, update: int, **params: Any
) -> dict[str, Any]:
    """Keys of a run with a mixer."""
    return {
        "train_type": "dynamic_mix",
        "component_name": mixer,
        "init_mixture_proportions": proportions,
        "warmup_step": warmup,
        "update_step": update,
        "train_step": steps,
        "component_params": params,
    }


def held_out_losses(model: Any, held: Rows) -> dict[str, float]:
    """Mean loss per token of each domain's held-out rows."""
    model.eval()
    found = {}
    with torch.no_grad():
        for name, rows in held.items():
            total = count = 0.0
            for start in range(0, len(rows), 32):
                batch = collate([{"input_ids": row, "labels": row} for row in rows[start : start + 32]])
                targets = int((batch["labels"][:, 1:] != -100).sum())
                total += float(model(**batch).loss) * targets
                count += targets
            found[name] = total / count
    return found


def measure_quality(folder: Path, seeds: int, steps: int) -> dict[str, Any]:
    """Train everything for each seed; all but the reference have the same number of steps."""
    rows, held = read_domains(600, 64)
    even = [1 / 3] * 3
    results: dict[str, Any] = {"steps": steps, "held_out_losses": []} | {title: [] for title in AVERAGES}
    for seed in range(seeds):
        out = folder / f"seed-{seed}"

        def run(name: str, length: int, keys: Mapping[str, Any], out: Path = out, seed: int = seed) -> dict[str, float]:
            model = new_model(seed + 100 * (name == "reference"), 64, 2)
            trainer = train(out / name, rows, model, steps=length, seed=seed, **keys)
            if name == "reference":
                trainer.save_model(str(out / name))
            losses = held_out_losses(model, held)
            print(
                f"seed {seed} {name:<18}" + " ".join(f"{key} {value:.3f}" for key, value in losses.items()), flush=True
            )
            return losses

        found = {"reference": run("reference", 2 * steps, static(even, 2 * steps))}
        found["uniform"] = run("uniform", steps, static(even, steps))
        reference = {"reference": str(out / "reference")}
        found["proxy"] = run("proxy", steps, dynamic("doremi", even, steps, 0, steps // 5, **reference))
        average = json.loads((out / "proxy" / "weights.json").read_text())["average"]
        found["final"] = run("final", steps, static(average, steps))
        found["skewed"] = run("skewed", steps, static(SKEWED, steps))
        for name, start in (("loss", SKEWED), ("loss-even", even)):
            mixer = dynamic("loss", start, steps, steps // 10, steps // 10, temperature=0.3, floor=0.05)
            found[name] = run(name, steps, mixer)
            used = _average_proportions(out / name, start)
            found[f"{name}-static"] = run(f"{name}-static", steps, static(used, steps))
            results[f"{name}_average"].append(used)
        results["held_out_losses"].append(found)
        results["doremi_average"].append(average)
    _print_quality(results)
    return results


def _average_proportions(out: Path, start: list[float]) -> list[float]:
    """What a run sampled by on average: its stages are equally long, and the last decision closes the run."""
    stages = [start, *(decision.metrics["proportions"] for decision in list(DecisionLog(out))[:-1])]
    average = [statistics.mean(stage[k] for stage in stages) for k in range(3)]
    return [share / sum(average) for share in average]


def _print_quality(results: Mapping[str, Any]) -> None:
    print("\nworst domain, held out (excess over the reference in brackets), one column a seed")
    runs = results["held_out_losses"]
    for name in runs[0]:
        cells = []
        for found in runs:
            worst = max(found[name].values())
            excess = max(found[name][domain] - found["reference"][domain] for domain in NAMES)
            cells.append(f"{worst:.3f} ({excess:+.3f})")
        print(f"{name:<18}" + "  ".join(cells))
    for title in AVERAGES:
        print(title, [[round(share, 3) for share in shares] for shares in results[title]])


class _Clock(TrainerCallback):
    """CPU seconds from the end of a step to the end of the next: other programs on the machine do not count."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self._last = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Nothing is fetched yet."""
        self._last = time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The optimizer has stepped."""
        now = time.process_time()
        self.steps.append(now - self._last)
        self._last = now


def measure_time(folder: Path, rounds: int, steps: int, hidden: int) -> dict[str, Any]:
    """Short runs in turns; the reference is as large as the model."""
    rows, _ = read_domains(60, 1)
    even = [1 / 3] * 3
    new_model(9, hidden, 4).save_pretrained(folder / "reference")

    def doremi(source: str) -> dict[str, Any]:
        params = {
            "reference": str(folder / "reference"),
            "reference_losses": source,
            "cache_dir": str(folder / "cache"),
        }
        return dynamic("doremi", even, steps, 0, steps, **params) | {"update_step": steps - 1}

    runs = {
        "plain": static(even, steps),
        "loss": dynamic("loss", even, steps, 2, 3),
        "cached": doremi("cached"),
        "live": doremi("live"),
    }
    times: dict[str, list[list[float]]] = {name: [] for name in runs}
    for turn in range(rounds):
        for name, keys in runs.items():
            clock = _Clock()
            train(folder / f"{name}-{turn}", rows, new_model(1, hidden, 4), steps=steps, callbacks=[clock], **keys)
            times[name].append(clock.steps[2:])  # the first ones allocate
    by_turn = {name: [statistics.median(turn) for turn in turns] for name, turns in times.items()}
    found = {"plain, seconds a step": figures.figure(by_turn["plain"])}
    for name in by_turn:
        if name != "plain":
            found[name] = figures.figure(
                [own / plain for own, plain in zip(by_turn[name], by_turn["plain"], strict=True)]
            )
    figures.show(found)
    return {"figures": found, "hidden": hidden, "rounds": rounds, "steps": steps}


def main() -> None:
    """Measure, print and, if asked, write the figures."""
    parser = figures.parser(__doc__)
    parser.add_argument("what", nargs="?", choices=["time", "quality", "both"], default="both")
    parser.add_argument("--seeds", type=int, default=3, help="quality: seeds")
    parser.add_argument("--steps", type=int, default=160, help="quality: optimizer steps of each run")
    parser.add_argument("--rounds", type=int, default=6, help="time: turns of each run")
    parser.add_argument("--hidden", type=int, default=192, help="time: width of the model")
    options = parser.parse_args()
    logging.getLogger("dataflex").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    for what in ("time", "quality") if options.what == "both" else (options.what,):
        with tempfile.TemporaryDirectory() as folder:
            if what == "time":
                found = measure_time(Path(folder), options.rounds, 8, options.hidden)
            else:
                found = measure_quality(Path(folder), options.seeds, options.steps)
        if options.write:
            figures.keep(f"doremi-{what}", found.pop("figures", {}), **found)


if __name__ == "__main__":
    main()
