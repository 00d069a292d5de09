"""The examples without LlamaFactory run where it cannot be imported, and resume to the same weights."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import call, weights_digest

from dataflex.decisions import DecisionLog

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples" / "without_llamafactory"
BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "llamafactory":
            raise ModuleNotFoundError("llamafactory is blocked", name=name)

sys.meta_path.insert(0, Blocker())
"""


def results(folder):
    return [(record.step, np.load(folder / record.result_ref).tolist()) for record in DecisionLog(folder)]


@pytest.fixture
def files(tmp_path):
    for name, word, count in (("web", "stone", 40), ("code", "river", 16)):
        (tmp_path / f"{name}.txt").write_text(
            "".join(f"{word} {index} {word * (index % 5)}\n" for index in range(count))
        )
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text(BLOCKER)
    return tmp_path


def test_the_blocker_blocks(files):
    done = call(sys.executable, "-c", "import llamafactory", PYTHONPATH=str(files / "blocked"))
    assert done.returncode == 1 and "llamafactory is blocked" in done.stderr


@pytest.mark.parametrize(
    ("example", "texts", "steps"), [("trainer.py", ["web"], [2, 5]), ("sft_trainer.py", ["web", "code"], [2, 5])]
)
def test_an_example_resumes_to_the_same_weights(files, tiny_folder, example, texts, steps):
    out = files / "out"
    command = [sys.executable, str(EXAMPLES / example), str(tiny_folder / "model")]
    command += [*(str(files / f"{text}.txt") for text in texts), str(out)]
    first = call(*command, PYTHONPATH=str(files / "blocked"))
    assert first.returncode == 0 and "starting anew" in first.stderr
    decisions = results(out)
    assert [step for step, _ in decisions] == steps
    digest = weights_digest(out)
    shutil.rmtree(out / "checkpoint-8")
    (out / "model.safetensors").unlink()
    done = call(*command, PYTHONPATH=str(files / "blocked"))
    assert done.returncode == 0 and "starting anew" not in done.stderr
    assert weights_digest(out) == digest
    assert results(out) == decisions
