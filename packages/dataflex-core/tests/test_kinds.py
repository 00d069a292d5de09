"""The table of kinds: what it names exists, and a record is all that a new kind needs of core."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainingArguments

from dataflex.cli.app import main
from dataflex.config.keys import RUN_KEYS
from dataflex.config.run import OUR_KEYS
from dataflex.kinds import KINDS, Kind, KindRecord, StepKeys, TrainType, enumerated, load, train_types
from dataflex.testing.bench import Bench
from dataflex.testing.checks import checks_for
from dataflex.testing.runner import run_check
from dataflex.testing.subject import Subject
from dataflex.trainers import dynamic_trainer

TOY = """
    import numpy as np

    from dataflex.testing.bench import Bench
    from dataflex.testing.check import CheckFailed
    from dataflex.trainers.recording.outcome import Outcome
    from dataflex.trainers.planners.select import SelectPlanner, valid_rows
    from dataflex.trainers.slots import Filled


    class Toy:
        def __init__(self, params, context):
            self.params, self.context = params, context


    class ToyPlanner(SelectPlanner):
        def decide(self, stage, step, num_samples):
            pool = len(self.host.train_dataset)
            rows = np.resize(valid_rows(self.asking.call("arrange", pool=pool), pool, pool), num_samples)
            return Outcome(rows=rows, result=rows, metrics={"pool": pool, "selected": num_samples, "distinct": pool})


    def fill(opening, part):
        asking = opening.parts.open(part, opening.context)
        told = (opening.host, opening.session, opening.schedule, opening.context, opening.recorder)
        return Filled(ToyPlanner(*told, asking))


    class ToyBench(Bench):
        def ask(self, component, step):
            return component.arrange(6)

        def flat(self, answer):
            return np.asarray(answer)

        def validate(self, answer):
            valid_rows(answer, 6, 6)


    def arranges_every_row(bench):
        '''Every row has a place.

        Mend: return a permutation.
        '''
        if sorted(bench.decide(bench.component())) != list(range(6)):
            raise CheckFailed("some rows have no place")


    TOYS = (arranges_every_row,)
"""
MINE = """
from dataclasses import dataclass

from toy_parts import Toy

from dataflex.components.registry import register
from dataflex.spec import Kind


@register(Kind("toy"), "backwards")
class Backwards(Toy):
    '''Last row first.'''

    def arrange(self, pool):
        return list(range(pool))[::-1]


@register(Kind("toy"), "forgets")
class Forgets(Toy):
    '''Leaves the first row out.'''

    def arrange(self, pool):
        return [pool - 1, *range(1, pool)]
"""


def member(enum: type[StrEnum], value: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A member that a line in the class would make, for the length of a test."""
    made: Any = str.__new__(enum, value)
    made._name_, made._value_ = value.upper(), value
    monkeypatch.setattr(enum, "_member_names_", [*enum._member_names_, made._name_])
    monkeypatch.setitem(enum._member_map_, made._name_, made)
    monkeypatch.setitem(enum._value2member_map_, value, made)
    return made


@pytest.fixture
def toy(site: Path, monkeypatch: pytest.MonkeyPatch) -> Kind:
    """A fourth kind in a table of one's own, with its files; it is in no other table of core."""
    (site / "toy_parts.py").write_text(dedent(TOY))
    kind: Kind = member(Kind, "toy", monkeypatch)
    record = KindRecord(
        plural="toys",
        train_types={member(TrainType, "dynamic_toy", monkeypatch): StepKeys.BOUNDARIES},
        base="toy_parts:Toy",
        slot="toy_parts:fill",
        bench="toy_parts:ToyBench",
        checks="toy_parts:TOYS",
        template="selector",
        library="numpy>=1.26",
    )
    monkeypatch.setitem(KINDS, kind, record)
    return kind


@pytest.fixture
def mine(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return str(path)


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*arguments: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert not ended.value.code
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("kind", Kind)
def test_what_a_record_names_exists(kind: Kind) -> None:
    record = KINDS[kind]
    assert callable(load(record.slot))
    assert issubclass(load(record.bench), Bench)
    assert load(record.base).__doc__
    assert all(callable(check) and check.__doc__ for check in load(record.checks))
    assert (files("dataflex.scaffold") / "templates" / record.template).is_dir()


def test_every_kind_has_a_record_and_every_train_type_one_kind() -> None:
    assert list(KINDS) == list(Kind)
    named = [train_type for record in KINDS.values() for train_type in record.train_types]
    assert sorted(named) == sorted(set(TrainType) - {TrainType.STATIC, TrainType.COMPOSED})


def test_the_train_types_of_before_have_the_kinds_of_before() -> None:
    assert {train_type.value: train_type.kind for train_type in TrainType} == {
        "static": None,
        "dynamic_select": "selector",
        "dynamic_mix": "mixer",
        "static_mix": "mixer",
        "dynamic_weight": "weighter",
        "dynamic_order": "orderer",
        "dynamic": None,
    }
    assert [kind.plural for kind in Kind] == ["selectors", "mixers", "weighters", "orderers"]


def test_keys_are_read_by_the_train_types_that_the_table_says() -> None:
    assert train_types(StepKeys.EVERY_STEP) == {"dynamic_weight"}
    assert train_types(mixes=True) == {"dynamic", "dynamic_mix", "static_mix"}
    read = {key.name: key.used_by for key in RUN_KEYS}
    assert read["update_step"] == {"dynamic", "dynamic_select", "dynamic_mix", "static_mix", "dynamic_order"}
    assert read["component_name"] == {"dynamic_select", "dynamic_mix", "dynamic_weight", "dynamic_order"}
    assert set(read) == set(OUR_KEYS)


def test_facts_of_kinds_stand_in_the_table_alone() -> None:
    core = Path(str(files("dataflex")))
    lists = {
        "kinds.py",  # the table
        "components/registry.py",  # a decorator for each kind, under its public name
        "config/legacy.py",  # names of another package, which had these kinds
        "config/old_pipelines.py",  # and those of its stages
        "config/together.py",  # which two may not act in one run
        "trainers/composing.py",  # what two do together
        "trainers/planners/compose.py",
    }
    found = {
        path.relative_to(core).as_posix()
        for path in core.rglob("*.py")
        if len(set(re.findall(r"\bKind\.[A-Z]+", path.read_text(encoding="utf-8")))) > 1
    }
    assert found == lists


def test_a_sentence_names_one_of_a_kind_with_its_article() -> None:
    assert Kind.MIXER.with_article == "a mixer"
    assert Kind.ORDERER.with_article == "an orderer"


def test_words_are_listed_as_in_a_sentence() -> None:
    assert [enumerated("abc"[:count], "or") for count in (1, 2, 3)] == ["a", "a or b", "a, b or c"]


def test_a_kind_in_the_table_is_listed_and_shown(toy: Kind, mine: str, printed: Callable[..., str]) -> None:
    rows = json.loads(printed("-p", mine, "list-components", "--kind", "toy", "--json"))
    assert [(row["kind"], row["name"], row["summary"]) for row in rows if row["inline"]] == [
        ("toy", "backwards", "Last row first."),
        ("toy", "forgets", "Leaves the first row out."),
    ]
    assert printed("-p", mine, "show-component", "backwards").startswith("toy backwards\n")


def test_a_kind_in_the_table_is_checked(toy: Kind, mine: str, tmp_path: Path) -> None:
    results = {}
    for name in ("backwards", "forgets"):
        subject = Subject(name=name, kind=toy, plugins=(mine,))
        for check in checks_for(toy):
            if check.name in ("can_be_built", "decides", "repeats_itself", "arranges_every_row"):
                results[name, check.name] = run_check(subject, check, tmp_path / name / check.name)
    failed = {key: result.message for key, result in results.items() if result.status != "passed"}
    assert failed == {("forgets", "arranges_every_row"): "some rows have no place"}
    assert len(results) == 8


def test_a_kind_in_the_table_trains(toy: Kind, mine: str, tmp_path: Path) -> None:
    rows = [{"x": torch.tensor([float(row)]), "labels": torch.tensor([1.0])} for row in range(8)]

    class Line(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.seen = torch.nn.Linear(1, 1), []

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            self.seen += x[:, 0].tolist()
            return {"loss": (self.layer(x) - labels).pow(2).mean()}

    config = {
        "train_type": "dynamic_toy",
        "component_name": "backwards",
        "warmup_step": 1,
        "update_step": 1,
        "update_times": 2,
    }
    args = TrainingArguments(
        str(tmp_path / "out"), per_device_train_batch_size=4, use_cpu=True, report_to="none", disable_tqdm=True
    )
    model = Line()
    dynamic_trainer(Trainer, config, plugins=[mine])(model=model, args=args, train_dataset=rows).train()
    assert model.seen == [7, 6, 5, 4] * 3
    lines = (tmp_path / "out" / "decisions.jsonl").read_text().splitlines()
    decisions = [json.loads(line) for line in lines]
    assert [(each["kind"], each["component"], each["step"]) for each in decisions] == [
        ("toy", "backwards", 1),
        ("toy", "backwards", 2),
    ]


def test_a_kind_in_the_table_has_a_scaffold(toy: Kind, tmp_path: Path, printed: Callable[..., str]) -> None:
    printed("new-component", "toy", "mine", "--out", str(tmp_path))
    assert 'name = "mine-toy"' in (tmp_path / "mine-toy" / "pyproject.toml").read_text()
    assert "toy_parts" not in sys.modules  # the table names it, and nothing here needed it
