"""What a lexical selection costs: CPU seconds and memory of ``lexical``, from token ids to chosen rows.

Each selection runs in a fresh process, on one thread. The pool is an Arrow table of rows of 500 token ids with an
attention mask, in the types that a pool of LlamaFactory has, the words as uneven as those of a language (Zipf, exponent
1.2); the target is 1,000 rows like them. Both passes and the choice of 10,000 rows are counted, and so is everything
that separation costs. Memory is the peak of the process above what it held before, the table included (Linux alone). A
second boundary draws from the scores of the first.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import figures

TOKENS, VOCABULARY = 500, 150_000
TARGET_ROWS, CHOSEN = 1_000, 10_000
CHUNK = 20_000  # rows made at one time


def pool(rows: int, seed: int) -> Any:
    """A pool of random texts."""
    import datasets
    import numpy as np
    import pyarrow as pa

    rng = np.random.default_rng(seed)
    tables = []
    for start in range(0, rows, CHUNK):
        count = min(CHUNK, rows - start)
        ids = (rng.zipf(1.2, count * TOKENS) % VOCABULARY).astype(np.int32)
        ends = np.arange(0, count * TOKENS + 1, TOKENS, dtype=np.int32)
        columns = {"input_ids": ids, "attention_mask": np.ones(count * TOKENS, np.int8)}
        lists = {name: pa.ListArray.from_arrays(ends, pa.array(values)) for name, values in columns.items()}
        tables.append(pa.table(lists))
    return datasets.Dataset(pa.concat_tables(tables))


def select(rows: int) -> dict[str, float]:
    """Two boundaries in this process."""
    from dataflex.testing import make_context
    from dataflex_selectors_lexical.params import LexicalParams
    from dataflex_selectors_lexical.selector import LexicalSelector

    context = make_context(pool(rows, seed=0), list, eval_datasets={"eval": pool(TARGET_ROWS, seed=1)})
    selector, chosen = LexicalSelector(LexicalParams(), context), min(CHOSEN, rows)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of making the pool
    before, spent = _megabytes("VmRSS"), []
    for step in (0, 1):
        began = time.process_time()
        selector.select(None, step, chosen)  # type: ignore[arg-type] - it asks no model
        spent.append(time.process_time() - began)
    return {"first": spent[0], "second": spent[1], "megabytes": _megabytes("VmHWM") - before}


def _megabytes(name: str) -> float:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return float(line.split()[1]) / 1e3


def main() -> None:
    """Measure, print a table and, if asked, write the figures."""
    parser = figures.parser(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000], help="rows of the pools")
    parser.add_argument("--runs", type=int, default=3, help="processes of each size")
    parser.add_argument("--select-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.select_of:
        print(json.dumps(select(options.select_of)))
        return
    found = {}
    for rows in options.rows:
        runs = [
            figures.in_a_process(__file__, "--select-of", str(rows), OMP_NUM_THREADS="1") for _ in range(options.runs)
        ]
        for key, name in (
            ("first", "CPU seconds"),
            ("second", "CPU seconds of a second boundary"),
            ("megabytes", "MB above the token ids"),
        ):
            found[f"{rows} rows, {name}"] = figures.figure([run[key] for run in runs])
        million = [run["first"] * 1e6 / rows for run in runs]
        found[f"{rows} rows, CPU seconds a million"] = figures.figure(million)
    figures.show(found)
    if options.write:
        figures.keep("lexical", found, tokens=TOKENS, target_rows=TARGET_ROWS, chosen=CHOSEN)


if __name__ == "__main__":
    main()
