"""``dataflex score``: the scores of a run's own boundary, on ranks, after a kill, and the rows kept of them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import witness
from datasets import Dataset
from pyarrow import parquet
from tiny_runs import NOTE_SELECT, POOL, call

from dataflex.cli.score import ScoreOptions, run_score
from dataflex.errors import ConfigError
from dataflex.pool_scores.job import ScoringJob

pytestmark = pytest.mark.slow

RUN = NOTE_SELECT | {"save_strategy": "steps", "save_steps": 2, "eval_dataset": "val"}
"""Its first boundary is at step 2, of which there is a checkpoint."""

# Scores the number of tokens, so that which rows are best can be told from the data alone.
LENGTHS = """
import numpy as np
from dataflex import Selection, Selector, register_selector

@register_selector("lengths")
class Lengths(Selector):
    def select(self, model, step_id, num_samples, **kwargs):
        scores = np.array([float(len(row["input_ids"])) for row in self.dataset])
        return Selection(np.argsort(-scores)[:num_samples], scores=scores)
"""

# Dies after three batches when told to, without a word; counts the batches otherwise. Keeps every batch at once.
MORTAL = """
import os
from pathlib import Path
from dataflex import hookimpl
from dataflex.data.scoring_loader import ScoringLoader
from dataflex.scoring.shards import ShardStore

iterate, begin = ScoringLoader.__iter__, ShardStore.__init__

def dying(loader):
    for count, batch in enumerate(iterate(loader), start=1):
        yield batch
        Path(os.environ["COUNT"]).write_text(str(count))
        if count == 3 and loader.num_rows > 16 and "DIE" in os.environ:  # not in the eval set
            os._exit(9)

@hookimpl
def dataflex_check_run(plan):
    ScoringLoader.__iter__ = dying
    ShardStore.__init__ = lambda *args, **kwargs: begin(*args, **{**kwargs, "seconds": 1e-9})
    return []
"""


@pytest.fixture
def score():
    """Run ``dataflex score`` in this process."""

    def score(run_file, out, *overrides, plugins=(), **options):
        named = {"component": None, "checkpoint": None, "keep_top": None, "keep": None, **options}
        run_score(run_file, list(overrides), [str(file) for file in plugins], ScoreOptions(out=out, **named))

    return score


@pytest.fixture
def boundary_scores(monkeypatch):
    """Scores that boundaries of runs in this process were decided by, by step."""
    from dataflex.trainers.recording.recorder import Recorder

    seen, boundary = {}, Recorder.boundary

    def watched(recorder, **arguments):
        seen[arguments["step"]] = arguments["outcome"].scores
        return boundary(recorder, **arguments)

    monkeypatch.setattr(Recorder, "boundary", watched)
    return seen


def scores_of(out: Path) -> np.ndarray:
    table = parquet.read_table(out / "scores.parquet")
    assert table["row"].to_pylist() == list(range(len(table)))
    return table["score"].to_numpy()


@pytest.mark.parametrize("component", ["loss", "less"])
def test_scores_are_those_of_the_runs_own_boundary_at_the_checkpoint(
    component, workshop, train, score, boundary_scores
):
    run_file = workshop.run_file(**RUN | {"component_name": component, "dataset": "tiny,other"})
    train(run_file)
    out = workshop.out / "scores"
    score(run_file, out, checkpoint=workshop.out / "run" / "checkpoint-2")
    np.testing.assert_allclose(scores_of(out), boundary_scores[2], rtol=0, atol=1e-6)
    assert np.abs(boundary_scores[2] - boundary_scores[5]).max() > 1e-4  # and no other's

    table = parquet.read_table(out / "scores.parquet")
    assert table.column_names == ["row", "domain", "score", "tokens"]
    assert table["domain"].to_pylist() == ["tiny"] * POOL + ["other"] * 24
    summary = json.loads((out / "summary.json").read_text())
    (recorded, _) = map(json.loads, (workshop.out / "run" / "decisions.jsonl").read_text().splitlines())
    assert summary["scores"]["quantiles"] == pytest.approx(recorded["scores"]["quantiles"], abs=1e-6)
    assert sum(summary["scores"]["histogram_counts"]) == len(table) and summary["scores"]["nan"] == 0
    assert sorted(path.name for path in out.iterdir()) == ["request.json", "scores.parquet", "summary.json"]


BEGINS = """
import numpy as np
from dataflex import Selection, Selector, register_selector

@register_selector("begins")
class Begins(Selector):
    '''Scores by what the model was when the selector saw it first.'''
    began = None
    def begin(self, model):
        self.began = float(sum(value.detach().double().abs().sum() for value in model.parameters()))
    def select(self, model, step_id, num_samples):
        return Selection(np.arange(num_samples), scores=np.full(len(self.dataset), self.began))
    def state_dict(self):
        return {"began": self.began}
    def load_state_dict(self, state):
        self.began = state["began"]
"""


def test_the_model_is_shown_before_it_scores_and_a_checkpoint_tells_what_it_was_as_training_began(
    workshop, train, score, boundary_scores
):
    plugin = workshop.out / "begins.py"
    plugin.write_text(BEGINS)
    run_file = workshop.run_file(**RUN | {"component_name": "begins", "learning_rate": 0.1})
    train(run_file, plugins=(str(plugin),))
    score(run_file, workshop.out / "anew", plugins=[plugin])
    score(run_file, workshop.out / "then", plugins=[plugin], checkpoint=workshop.out / "run" / "checkpoint-2")
    np.testing.assert_allclose(scores_of(workshop.out / "anew"), boundary_scores[2], rtol=0, atol=0)
    np.testing.assert_allclose(scores_of(workshop.out / "then"), boundary_scores[2], rtol=0, atol=0)


def test_without_a_checkpoint_less_compares_plain_gradients_and_says_so(workshop, score, caplog):
    run_file = workshop.run_file(**RUN | {"component_name": "less"})
    with caplog.at_level("WARNING", "dataflex"):
        score(run_file, workshop.out / "fallen-back")
    assert "no optimizer state" in caplog.text
    score(run_file, workshop.out / "sgd", "component_params.preconditioner=sgd")
    np.testing.assert_array_equal(scores_of(workshop.out / "fallen-back"), scores_of(workshop.out / "sgd"))


def test_two_ranks_give_the_scores_of_one(workshop, train, score):
    run_file = workshop.run_file(**RUN | {"component_name": "less"})
    train(run_file)
    checkpoint = workshop.out / "run" / "checkpoint-2"
    score(run_file, workshop.out / "one", checkpoint=checkpoint)
    command = (sys.executable, "-m", "dataflex", "-p", witness.__file__, "score", str(run_file))
    options = ("--checkpoint", str(checkpoint), "--out", str(workshop.out / "two"))
    done = call(*command, *options, FORCE_TORCHRUN="1", NPROC_PER_NODE="2")
    assert done.returncode == 0 and done.stdout.count("Scores of less") == 1
    np.testing.assert_allclose(scores_of(workshop.out / "two"), scores_of(workshop.out / "one"), rtol=0, atol=1e-6)


@pytest.mark.parametrize("component", ["loss", "less"])
def test_a_killed_command_goes_on_where_it_stopped(component, workshop, score):
    run_file = workshop.run_file(**RUN | {"component_params": {"token_budget": 512}})
    plugin, count = workshop.out / "mortal.py", workshop.out / "count"
    plugin.write_text(MORTAL)

    def run(out, **environ):
        command = (sys.executable, "-m", "dataflex", "-p", str(plugin), "score", str(run_file))
        own = ("component_params.token_budget=512", "--component", component, "--out", str(workshop.out / out))
        code = call(*command, *own, COUNT=str(count), **environ).returncode
        return code, int(count.read_text())

    code, batches = run("whole")
    assert code == 0 and batches > 4
    code, done = run("killed", DIE="1")
    assert code == 9 and done == 3 and not (workshop.out / "killed" / "scores.parquet").exists()
    code, left = run("killed")
    assert code == 0
    assert left == batches - 3
    np.testing.assert_array_equal(scores_of(workshop.out / "killed"), scores_of(workshop.out / "whole"))


@pytest.mark.fault("two commands with one --out of dataflex score", kept="the scores of the one that was there first")
def test_two_commands_do_not_write_to_one_folder(workshop, score, monkeypatch, seen):
    run_file, out = workshop.run_file(**RUN | {"component_name": "loss"}), workshop.out / "shared"
    read = ScoringJob._look

    def look(job, pool):
        with pytest.raises(
            ConfigError, match=rf"another run writes to --out {out} \(process {os.getpid()} on "
        ) as error:
            score(run_file, out)
        seen(str(error.value))
        read(job, pool)

    monkeypatch.setattr(ScoringJob, "_look", look)
    score(run_file, out)
    assert len(scores_of(out))
    assert not (out / "work").exists()


def sharegpt(words: int, *, valid: bool = True) -> dict[str, object]:
    turns = [{"from": "human", "value": "say"}, {"from": "gpt", "value": " ".join(["word"] * words)}]
    return {"talk": turns if valid else turns[:1], "licence": f"free {words}", "tags": ["a", "b"]}


@pytest.fixture
def mixed_data(workshop):
    """Two data sets of other formats and extra columns, each answer of another length; one row has no answer."""
    folder = workshop.out / "data"
    folder.mkdir()
    plain = [
        {"instruction": "say", "input": "", "output": " ".join(["word"] * words), "id": f"row {words}"}
        for words in (1, 12, 3, 10)
    ]
    talks = [sharegpt(2), sharegpt(99, valid=False), sharegpt(11), sharegpt(4), sharegpt(13)]
    for name, rows in (("plain", plain), ("talks", talks)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"messages": "talk"}
    info = {
        "plain": {"file_name": "plain.jsonl"},
        "talks": {"file_name": "talks.jsonl", "formatting": "sharegpt", "columns": columns},
    }
    (folder / "dataset_info.json").write_text(json.dumps(info))
    plugin = workshop.out / "lengths.py"
    plugin.write_text(LENGTHS)
    keys = {"dataset": "plain,talks", "dataset_dir": str(folder), "train_type": "static", "max_steps": 1}
    return workshop.run_file("mixed", **keys), plugin, plain, talks


def test_the_best_rows_are_kept_in_their_original_fields_and_llamafactory_trains_on_them(mixed_data, workshop, score):
    run_file, plugin, plain, talks = mixed_data
    out = workshop.out / "scores"
    score(run_file, out, component="lengths", plugins=[plugin], keep_top=0.5)
    kept = {path.stem: [*map(json.loads, path.read_text().splitlines())] for path in (out / "kept").glob("*.jsonl")}
    # The best four of eight: the invalid row is none of the pool.
    assert kept == {"plain": [plain[1], plain[3]], "talks": [talks[2], talks[4]]}
    done = call(
        *(sys.executable, "-m", "llamafactory.cli", "train", str(llamafactory_file(run_file, out / "kept"))),
        FORCE_TORCHRUN="0",
    )
    assert done.returncode == 0
    assert "Num examples = 4" in done.stdout + done.stderr


def llamafactory_file(run_file: Path, dataset_dir: Path) -> Path:
    """The run file without what only DataFlex knows."""
    lines = [line for line in run_file.read_text().splitlines() if not line.startswith(("train_type", "dataset_dir"))]
    path = run_file.with_name("plain.yaml")
    path.write_text("\n".join([*lines, f"dataset_dir: {dataset_dir}"]))
    return path


@pytest.mark.parametrize("keys", [["val_size=0.3"], ["mix_strategy=interleave_over", "interleave_probs='0.5,0.5'"]])
def test_rows_are_found_in_their_data_sets_however_those_are_split_and_mixed(keys, mixed_data, workshop, score):
    run_file, plugin, *_ = mixed_data
    out = workshop.out / "scores"
    score(run_file, out, *keys, component="lengths", plugins=[plugin], keep=1)
    table = parquet.read_table(out / "scores.parquet")
    best = int(np.argmax(table["score"].to_numpy()))
    (file,) = (out / "kept").glob("*.jsonl")
    assert file.stem == table["domain"][best].as_py()
    # The pool's longest row: the answer is the only thing that differs in length.
    longest = int(max(table["tokens"].to_pylist()))
    kept = json.loads(file.read_text())
    answer = kept["output"] if file.stem == "plain" else kept["talk"][1]["value"]
    assert table["tokens"][best].as_py() == longest
    assert longest == pytest.approx(len(answer.encode()), abs=3)  # a byte a token, and the end of the turn


def test_keeping_another_number_of_rows_needs_no_model(mixed_data, workshop, score, monkeypatch):
    run_file, plugin, plain, _ = mixed_data
    out = workshop.out / "scores"
    score(run_file, out, component="lengths", plugins=[plugin])
    monkeypatch.setattr("llamafactory.train.sft.workflow.load_model", None)
    score(run_file, out, component="lengths", plugins=[plugin], keep=2)
    kept = {path.stem: path.read_text().splitlines() for path in (out / "kept").glob("*.jsonl")}
    assert [json.loads(line) for line in kept["plain"]] == [plain[1]] and len(kept["talks"]) == 1
    score(run_file, out, component="lengths", plugins=[plugin])  # nothing to do at all
    for file, then, now in ((workshop.out / "data" / "talks.jsonl", "word", "Word"), (plugin, "-scores", "+scores")):
        before, changed = file.read_text(), file.stat()
        file.write_text(before.replace(then, now, 1))
        with pytest.raises(ConfigError, match=rf"scores of another request: files\.{file} differ"):
            score(run_file, out, component="lengths", plugins=[plugin])
        file.write_text(before)
        os.utime(file, ns=(changed.st_atime_ns, changed.st_mtime_ns))


@pytest.mark.parametrize(
    ("options", "overrides", "said"),
    [
        ({"component": "lass"}, [], "no selector 'lass' is installed. Did you mean"),
        ({"component": "doremi"}, [], "There is a mixer of that name"),
        ({"component": "random"}, [], "gives no scores"),
        ({"component": "less"}, ["eval_dataset=null"], "needs an eval set"),
        ({"component": "loss", "keep": POOL + 1}, [], f"keeps {POOL + 1} rows of a pool of {POOL}"),
        ({"component": "loss", "keep_top": 0.001}, [], "keeps 0 rows"),
        ({"component": "loss", "keep": 9}, ["component_params.max_candidates=8"], "max_candidates=8 scores fewer"),
        ({"component": "loss", "keep": 1}, ["packing=true"], "packing: false"),
        ({"component": "loss", "keep": 1, "keep_top": 0.5}, [], "Use one of them"),
        ({"component": "loss", "checkpoint": Path("nowhere")}, [], "is not a directory"),
        ({"component": "loss", "checkpoint": Path(__file__).parent}, [], "is no checkpoint of a training run"),
    ],
)
def test_what_cannot_be_scored_is_said_before_the_model_loads(options, overrides, said, workshop, score, monkeypatch):
    monkeypatch.setattr("llamafactory.train.sft.workflow.load_model", None)
    with pytest.raises(ConfigError, match=said):
        score(workshop.run_file(**RUN), workshop.out / "scores", *overrides, **options)


def test_a_folder_with_anything_else_is_not_written_to(workshop, score):
    taken, run_file = workshop.out / "taken", workshop.run_file(**RUN)
    taken.mkdir()
    (taken / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="holds other files"):
        score(run_file, taken, component="loss")
    other = workshop.out / "other"
    other.mkdir()
    (other / "request.json").write_text(json.dumps({"component": "loss", "params": {"mode": "top"}}))
    with pytest.raises(ConfigError, match=r"scores of another request: .*params\.mode"):
        score(run_file, other, component="loss")
    assert [path.name for path in taken.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_rows_are_kept_of_a_folder_of_parquet_files_and_of_an_arrow_file(kind, workshop, score):
    rows = [{"instruction": "say", "input": "", "output": "word " * words, "note": words} for words in (3, 9, 1, 7, 5)]
    folder = workshop.out / "data"
    folder.mkdir()
    if kind == "parquet":
        (folder / "pool").mkdir()
        for part, start in enumerate(range(0, 5, 2)):
            Dataset.from_list(rows[start : start + 2]).to_parquet(folder / "pool" / f"part-{part}.parquet")
    else:
        Dataset.from_list(rows).save_to_disk(folder / "saved")
        (file,) = (folder / "saved").glob("*.arrow")
        file.rename(folder / "pool.arrow")
    name = "pool" if kind == "parquet" else "pool.arrow"
    (folder / "dataset_info.json").write_text(json.dumps({"plain": {"file_name": name}}))
    (workshop.out / "lengths.py").write_text(LENGTHS)
    run_file = workshop.run_file("run", **RUN | {"dataset": "plain", "dataset_dir": str(folder), "eval_dataset": None})
    out = workshop.out / "scores"
    score(run_file, out, component="lengths", plugins=[workshop.out / "lengths.py"], keep=2)
    kept = [json.loads(line) for line in (out / "kept" / "plain.jsonl").read_text().splitlines()]
    assert sorted(kept, key=str) == sorted([rows[1], rows[3]], key=str)
