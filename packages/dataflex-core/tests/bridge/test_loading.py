"""Which data set and row are named, on a loader made for it; LlamaFactory's own is in tests/end_to_end."""

from __future__ import annotations

import logging
import sys
import types

import pytest

from dataflex.bridge.reporting import check_report_to
from dataflex.bridge.rows_at_fault import TimeIsUp, first_failing, is_emptied, rows_left
from dataflex.bridge.unloadable import told, unlike
from dataflex.errors import ConfigError
from dataflex.failures.foreign import foreign

LOADER = """
def get_dataset_list(names, folder):
    for name in names:
        if name not in SETS: raise ValueError(f"Undefined dataset {name}")
    return names

def get_dataset_converter(name):
    if name == "odd": raise ValueError("no such converter")
    return convert

def convert(row):
    if row == "unconvertible": raise KeyError("instruction")
    return row

def align_dataset(rows, attributes):
    change = get_dataset_converter(attributes)
    return Rows([change(row) for row in rows])

def _load_single_dataset(attributes):
    rows = SETS[attributes]
    if rows is None: raise OSError("cut short") from ValueError("line 3")
    return align_dataset(rows, attributes)

def _get_merged_dataset(names):
    return [_load_single_dataset(attributes) for attributes in get_dataset_list(names, "data")]

class Processor:
    def preprocess_dataset(self, rows):
        if "untokenisable" in rows: raise RuntimeError("Expected a string, got None")
        return {"input_ids": [row for row in rows if row != "dropped"]}

def _get_dataset_processor():
    return Processor()

def _get_preprocessed_dataset(rows, data_args, training_args, is_eval=False):
    process = _get_dataset_processor().preprocess_dataset
    left = Rows(process(rows)["input_ids"])
    if not left: raise RuntimeError("Cannot find valid samples")
    return left

def get_dataset(template, model_args, data_args, training_args):
    sets, evals = _get_merged_dataset(data_args.dataset), _get_merged_dataset(data_args.eval_dataset or [])
    if RAISED: raise RAISED[0]
    _get_preprocessed_dataset(Rows(row for rows in sets for row in rows), data_args, training_args)
    for rows in evals:
        _get_preprocessed_dataset(rows, data_args, training_args, is_eval=True)
"""


class Rows(list):
    column_names = ("q", "a")

    def __getitem__(self, at):
        return Rows(super().__getitem__(at)) if isinstance(at, slice) else super().__getitem__(at)


@pytest.fixture
def load(monkeypatch):
    """Load data sets with a loader whose functions call each other by name, as LlamaFactory's do."""
    made = types.ModuleType("foreign_loader")
    monkeypatch.setitem(sys.modules, "foreign_loader", made)

    def load(dataset, eval_dataset=(), raised=(), **sets):
        made.__dict__.update(SETS=sets, Rows=Rows, RAISED=raised)
        exec(LOADER, made.__dict__)  # noqa: S102 - its globals are what is rebound
        keys = {"tokenized_path": None, "packing": False, "dataset_dir": "data", "preprocessing_batch_size": 4}
        data_args = types.SimpleNamespace(dataset=dataset, eval_dataset=list(eval_dataset), **keys)

        def get_dataset(*args):
            with foreign():
                return made.get_dataset(*args)

        told(get_dataset, made, "run.yaml")(None, None, data_args, types.SimpleNamespace(process_index=0))

    return load


GOOD = ["x"] * 10


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (None, r"cannot load dataset: bad \(from run\.yaml\): OSError: cut short \(ValueError: line 3\)\. Fix it"),
        (
            ["x", "unconvertible"],
            r"dataset: bad \(from run\.yaml\), row 1 \(counted from 0\): KeyError: 'instruction'\.",
        ),
        (
            ["x", "x", "untokenisable"],
            r"dataset: bad \(from run\.yaml\), row 2 \(counted from 0\): RuntimeError: Expected",
        ),
    ],
)
@pytest.mark.parametrize("key", ["dataset", "eval_dataset"])
def test_the_set_at_fault_is_named_alone_with_its_row(load, key, bad, expected):
    sets = {"dataset": ["good", "bad"]} if key == "dataset" else {"dataset": ["good"], "eval_dataset": ["good", "bad"]}
    with pytest.raises(ConfigError, match=expected.replace("dataset:", f"{key}:")) as error:
        load(**sets, good=GOOD, bad=bad)
    assert "good" not in str(error.value)


def test_no_row_is_named_by_the_converter_of_the_set_before(load):
    with pytest.raises(ConfigError, match=r"dataset: odd \(from run\.yaml\): ValueError: no such converter\.") as error:
        load(["good", "odd"], good=GOOD, odd=["unconvertible"])
    assert "row" not in str(error.value)


def test_an_unknown_set_is_named_alone(load):
    with pytest.raises(
        ConfigError, match=r"cannot load dataset: bad \(from run\.yaml\): ValueError: Undefined dataset"
    ):
        load(["good", "bad"], good=GOOD)


def test_a_set_of_which_nothing_is_left_is_named(load):
    with pytest.raises(ConfigError, match=r"eval_dataset: bad \(from run\.yaml\), of whose 9 rows none is left"):
        load(["good"], ["good", "bad"], good=GOOD, bad=["dropped"] * 9)


def test_dropped_rows_are_counted_for_each_set(load, caplog):
    with caplog.at_level(logging.WARNING, "dataflex"):
        load(["good", "bad", "worse"], ["good", "bad"], good=GOOD, bad=["dropped", "x"], worse=["dropped"] * 3)
    said = [message.partition(":")[0] for message in caplog.messages]
    bad, worse = "LlamaFactory dropped 1 of the 2 rows of bad", "LlamaFactory dropped all of the 3 rows of worse"
    assert said == [bad, worse, bad]  # the eval sets are tokenised one by one


def test_an_error_that_no_set_is_behind_names_all_and_gives_no_row(load):
    with pytest.raises(ConfigError, match=r"dataset: good, bad \(from run\.yaml\): RuntimeError: no idea\.") as error:
        load(["good", "bad"], raised=[RuntimeError("no idea")], good=GOOD, bad=GOOD)
    assert "row" not in str(error.value)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_passes(load, stop):
    with pytest.raises(stop):
        load(["good"], raised=[stop()], good=GOOD)


def test_an_error_of_ours_while_data_loads_is_not_told_as_llamafactorys(load, monkeypatch):
    monkeypatch.setattr("dataflex.bridge.loading.DataSet", lambda *args: {}["name"])
    with pytest.raises(KeyError, match="name"):
        load(["good"], good=GOOD)


def test_the_first_failing_row_is_found_with_few_questions():
    asked = []

    def attempt(first, end):
        asked.append((first, end))
        if first <= 900 < end:
            raise ValueError

    assert first_failing(100_000, attempt) == 900
    assert len(asked) < 300
    assert first_failing(100, lambda first, end: None) is None

    def together(first, end):
        if end - first > 1:
            raise ValueError

    assert first_failing(2, together) is None
    with pytest.raises(TimeIsUp):
        first_failing(2, together, seconds=-1)


def test_what_tokenising_leaves_is_counted_in_batches():
    class Blocks:
        def preprocess_dataset(self, rows):
            return {"input_ids": [0] * (len(rows) // 4)}

    assert is_emptied(Rows("abcdef"), Blocks(), 3) and not is_emptied(Rows("abcdef"), Blocks(), 4)
    assert rows_left(Rows("abcdefghi"), Blocks(), seconds=60) == 2


TEXT, NOTHING, NUMBER = "List({'content': Value('string')})", "List(Value('null'))", "List({'content': Value('int64')})"


@pytest.mark.parametrize(
    ("responses", "odd"),
    [
        ((TEXT, NOTHING), "b"),
        ((NOTHING, TEXT), "a"),
        ((TEXT, NUMBER, TEXT), "b"),
        ((TEXT, TEXT), None),
        ((TEXT, "Value('null')"), None),
    ],
)
def test_the_set_that_cannot_be_joined_is_the_one_unlike_the_others(responses, odd):
    class Feature(str):
        __repr__ = str.__str__

    columns = [(name, {"_response": Feature(kind)}) for name, kind in zip("abc", responses, strict=False)]
    found = unlike(columns)
    assert (found and found[0]) == odd


@pytest.mark.parametrize("keys", [{}, *({"report_to": value} for value in ("none", "all", ["none"], []))])
def test_no_tracker_needs_no_package(keys):
    check_report_to(keys, "run.yaml")


@pytest.mark.parametrize("value", ["no", ["off"], None])
def test_a_word_that_is_no_tracker_is_refused_before_a_model_loads(value):
    import transformers

    if value is None and transformers.__version__.startswith("4."):
        pytest.skip("transformers 4 takes it for all that are installed")
    with pytest.raises(ConfigError, match=r"report_to: (no|off|null)"):
        check_report_to({"report_to": value}, "run.yaml")
