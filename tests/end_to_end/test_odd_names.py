"""Names with slashes, dots, blanks and letters that a terminal does not know, through every command."""

from __future__ import annotations

import json
import sys

import pytest
from tiny_runs import NOTE_MIX, call, weights_digest

from dataflex.cli.score import ScoreOptions, run_score
from dataflex.decisions import DecisionLog
from dataflex.report.page import write_report
from dataflex.testing.tiny import tiny_rows

pytestmark = pytest.mark.slow

NAMES = ["team/web", "v1.5", "问答", "代码 集"]
PLUGIN = '''
from dataflex import Mixer, register_mixer
from dataflex.core.registry import register_selector
from dataflex import Selection, Selector

@register_mixer("慢")
class Slow(Mixer):
    """不变的比例。"""
    def mix(self, model, step_id, **kwargs):
        return self.context.proportions

@register_selector("长")
class Long(Selector):
    """最长的样本。"""
    def select(self, model, step_id, num_samples, **kwargs):
        scores = [float(len(row["input_ids"])) for row in self.dataset]
        return Selection(list(range(num_samples)), scores=scores)
'''


@pytest.fixture
def run_file(workshop):
    """A mix run in a folder whose files have such names too."""
    folder = workshop.out / "汉"
    (folder / "数据").mkdir(parents=True)
    info = {}
    for number, name in enumerate(NAMES):
        file = f"{name.replace('/', '_')}.jsonl"
        rows = tiny_rows(12 + number, seed=number)
        (folder / "数据" / file).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        info[name] = {"file_name": file}
    (folder / "数据" / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
    (folder / "插件.py").write_text(PLUGIN, encoding="utf-8")

    def run_file(name, **keys):
        own = {
            "component_name": "慢", "dataset": NAMES, "dataset_dir": str(folder / "数据"), "update_times": 1,
            "init_mixture_proportions": dict.fromkeys(NAMES, 0.25), "plugins": [str(folder / "插件.py")],
            "tokenized_path": str(folder / "标记"), "output_dir": str(folder / name), "report_to": "tensorboard",
        }  # fmt: skip
        path = workshop.run_file(name, **NOTE_MIX | own | keys)
        path.write_text(f"# 问答和代码\n{path.read_text()}", encoding="utf-8")
        return path

    return run_file


def dataflex(*words, encoding="ascii"):
    done = call(sys.executable, "-m", "dataflex", *map(str, words), PYTHONIOENCODING=encoding, PYTHONUTF8="1")
    assert "Traceback" not in done.stdout + done.stderr and "Logging error" not in done.stderr
    return done


def test_a_run_of_such_names_is_whole_under_an_ascii_terminal_and_again_over_its_tokenised_rows(
    workshop, run_file, train
):
    first = run_file("结果")
    done = dataflex("train", first)
    assert done.returncode == 0 and "\\u6807\\u8bb0" in done.stderr + done.stdout  # the folder of tokenised rows
    out = workshop.out / "汉" / "结果"
    assert [record.metrics["domains"] for record in DecisionLog(out)] == [NAMES]
    assert (workshop.out / "汉" / "标记" / "train-team" / "web").is_dir() and list(out.glob("runs/*"))
    assert dataflex("report", out, "--out", workshop.out / "报告.html", encoding="cp1252").returncode == 0
    assert "代码 集" in (workshop.out / "报告.html").read_text(encoding="utf-8")
    refused = dataflex("check-run", run_file("其他", dataset="问"), first)
    assert refused.returncode == 2 and "\\u95ee" in refused.stderr

    train(run_file("第二"))
    assert weights_digest(workshop.out / "汉" / "第二") == weights_digest(out)
    write_report([out, workshop.out / "汉" / "第二"], workshop.out / "both.html", None)


def test_kept_rows_of_such_names_can_be_trained_on(workshop, run_file, train):
    run, out = run_file("分数", tokenized_path=None), workshop.out / "汉" / "kept-分"
    options = ScoreOptions(component="长", out=out, checkpoint=None, keep_top=None, keep=20)
    run_score(run, [], [], options)
    described = json.loads((out / "kept" / "dataset_info.json").read_text(encoding="utf-8"))
    assert set(described) <= set(NAMES) and len(described) > 1
    shares = dict.fromkeys(described, 1 / len(described))
    train(run_file("后", tokenized_path=None, dataset=list(described), dataset_dir=str(out / "kept"),
                   init_mixture_proportions=shares))  # fmt: skip
    assert (workshop.out / "汉" / "后" / "adapter_model.safetensors").is_file()
