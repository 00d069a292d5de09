"""What embedding a pool costs, beside plain forward passes of the decoder over the same batches and tokens.

One process, one thread, CPU seconds; a Qwen2 of hidden size 256 and 6 layers, rows of 20 to 260 tokens. Embedding is
counted whole: fingerprints of weights and rows, collating, the pass, pooling, centring, files. The plain passes run the
decoder without its head over batches that were collated, and cut, before the clock starts. The two take turns.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import figures
from less import Rows, adapted_model, pad

SETTINGS: dict[str, dict[str, Any]] = {"near": {}, "rds": {"tokens": 32}, "layer 3": {"layers": (3,)}}


def seconds(call: Callable[[], Any]) -> float:
    """CPU seconds of a call."""
    began = time.process_time()
    call()
    return time.process_time() - began


def beside_plain(count: int, runs: int) -> dict[str, dict[str, float]]:
    """Throughput of embedding over that of plain passes, at each setting."""
    import torch

    from dataflex.data.scoring_loader import ScoringLoader
    from dataflex.scoring.embeddings import EmbeddingSpec, embed
    from dataflex.testing import make_context

    model, _ = adapted_model(256, 6)
    decoder: Any = model.get_base_model().model
    layers = decoder.layers
    rows = Rows(count, seed=1)
    pool = [rows[row] for row in range(count)]
    found = {}
    for name, setting in SETTINGS.items():
        spec, most = EmbeddingSpec(**setting), setting.get("tokens")
        batches = [
            {key: value[:, :most] for key, value in batch.items() if key != "labels"}
            for _, batch in ScoringLoader(pool, pad, range(count), most_tokens=most)
        ]

        def plain(batches: Any = batches, spec: Any = spec) -> None:
            decoder.layers = layers[: spec.layers[0]] if spec.layers[0] > 0 else layers
            depth, decoder.config.num_hidden_layers = decoder.config.num_hidden_layers, len(decoder.layers)
            model.eval()
            with torch.no_grad():
                for batch in batches:
                    decoder(**batch, use_cache=False)
            model.train()
            decoder.layers, decoder.config.num_hidden_layers = layers, depth

        def whole(spec: Any = spec) -> None:
            with tempfile.TemporaryDirectory() as folder:
                embed(model, pool, range(count), spec, make_context(pool, pad, cache_dir=Path(folder)))

        for way in (plain, whole):
            way()  # warms caches; not counted
        pairs = []
        for run in range(runs):
            spent = {way: seconds(way) for way in ((plain, whole) if run % 2 else (whole, plain))}
            pairs.append((spent[plain], spent[whole]))
        found[f"{name} over plain decoder"] = figures.figure([first / second for first, second in pairs])
        found[f"{name}, rows a CPU second"] = figures.figure([count / second for _, second in pairs])
    return found


def main() -> None:
    """Measure, print a table and, if asked, write the figures."""
    parser = figures.parser(__doc__)
    parser.add_argument("--rows", type=int, default=512, help="of the pool")
    parser.add_argument("--runs", type=int, default=5, help="pairs of runs")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found = beside_plain(options.rows, options.runs)
    figures.show(found)
    if options.write:
        figures.keep("embeddings", found, rows=options.rows)


if __name__ == "__main__":
    main()
