"""The seams to LlamaBoard, with LlamaFactory's own page: built whole, and asked as its buttons ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

gradio = pytest.importorskip("gradio")
board_module = pytest.importorskip("dataflex.bridge.board")

from dataflex.bridge.board import Board, board_with, require, seams  # noqa: E402
from dataflex.errors import IncompatibleError  # noqa: E402


class Spelt:
    """A section whose field says the name of a component, or nothing."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def build(self, engine):
        return gradio.Textbox(visible=False, value=""), {"dataflex_on": gradio.Checkbox()}

    def words(self):
        return {"dataflex_on": {"en": {"label": "Train with DataFlex"}, "zh": {"label": "使用 DataFlex 训练"}}}

    def run(self, arguments, text):
        return {"component_name": text, **arguments} if text else None

    def preview(self, run):
        return f"preview of {run['component_name']}"

    def command(self, run):
        return ["dataflex-cli", "train", run["component_name"]]

    def save(self, path: Path, text: str) -> None:
        self.kept[path.name] = text

    def load(self, path: Path) -> str:
        return self.kept.get(path.name, "")


@pytest.fixture(scope="module")
def board() -> Board:
    return Board.load()


@pytest.fixture
def built(board, monkeypatch, tmp_path):
    """LlamaBoard's page with a section; gives its engine's Runner, the data of its fields, and what it starts."""
    monkeypatch.chdir(tmp_path)
    engines, started = [], []
    stock = board.interface.Engine

    def engine(*args: Any, **kwargs: Any) -> Any:
        engines.append(stock(*args, **kwargs))
        return engines[-1]

    monkeypatch.setattr(board.interface, "Engine", engine)
    monkeypatch.setattr(board.runner, "Popen", lambda command, **kwargs: started.append(command))
    section = Spelt()
    with board_with(section):
        page = board.interface.create_ui()
        runner = engines[0].runner
        manager = engines[0].manager
        data = {elem: getattr(elem, "value", None) for elem in manager.get_elem_list()}

        def give(name: str, value: Any) -> None:
            data[manager.get_elem_by_id(name)] = value

        for name, value in {
            "top.lang": "en",
            "top.model_name": "tiny",
            "top.model_path": "tiny",
            "top.finetuning_type": "lora",
            "train.dataset": ["a"],
            "train.output_dir": "out",
            "train.config_path": "saved.yaml",
        }.items():
            give(name, value)
        yield (
            type(
                "Built",
                (),
                {"page": page, "runner": runner, "data": data, "give": staticmethod(give), "started": started},
            ),
            section,
            manager,
        )


def launch(built) -> Any:
    """What the start button does, up to where the process would be watched."""
    runner, data = built.runner, built.data
    for _ in runner._launch(data, do_train=True):
        break
    runner.running = False
    return built.started[-1]


@pytest.fixture(autouse=True)
def _quiet(board, monkeypatch):
    monkeypatch.setattr(board.runner.Runner, "monitor", lambda self: iter([{}]))
    monkeypatch.setattr(board.runner.gr, "Warning", lambda *args: None)


def test_every_seam_is_there():
    assert len(seams()) == 9
    for check in seams().values():
        check()


@pytest.mark.parametrize("name", ["Popen", "gen_cmd", "create_train_tab", "Manager.get_base_elems", "LOCALES"])
def test_a_seam_that_moved_is_named(board, monkeypatch, name):
    if name == "LOCALES":
        monkeypatch.setitem(board.locales, "title", {"en": {}})
    elif name == "Manager.get_base_elems":
        monkeypatch.delattr(board.manager, "get_base_elems")
    else:
        monkeypatch.delattr(board.interface if name == "create_train_tab" else board.runner, name)
    with pytest.raises(IncompatibleError, match=name):
        require(name)


def test_the_field_is_an_input_of_the_train_tab_alone(built):
    found, _, manager = built
    field = manager.get_elem_by_id("train.dataflex")
    assert field not in manager.get_base_elems()
    users = [each for each in found.page.fns.values() if field in each.inputs]
    names = {each.fn.__name__ for each in users if each.fn is not None}
    assert {"preview_train", "run_train", "save_args"} <= names and not {"preview_eval", "run_eval"} & names


def test_with_the_section_off_the_command_is_llamaboards_own(built, board):
    found, _, _ = built
    assert launch(found)[:2] == ["llamafactory-cli", "train"]
    assert next(iter(found.runner._preview(found.data, do_train=True)))[
        found.runner.manager.get_elem_by_id("train.output_box")
    ].startswith("```bash\nllamafactory-cli train ")


def test_with_the_section_on_preview_and_start_are_ours(built):
    found, _, manager = built
    found.give("train.dataflex", "loss")
    box = manager.get_elem_by_id("train.output_box")
    assert next(iter(found.runner._preview(found.data, do_train=True)))[box] == "preview of loss"
    assert launch(found) == ["dataflex-cli", "train", "loss"]


def test_a_preview_leaves_nothing_behind_for_a_run_without_the_section(built):
    found, _, _ = built
    found.give("train.dataflex", "loss")
    list(found.runner._preview(found.data, do_train=True))
    found.give("train.dataflex", "")
    assert launch(found)[:2] == ["llamafactory-cli", "train"]


def test_our_field_is_saved_beside_llamaboards_and_loaded_with_it(built):
    found, section, manager = built
    found.give("train.dataflex", "loss")
    found.runner.save_args(found.data)
    assert section.kept == {"saved.yaml": "loss"}
    saved = next(Path().rglob("saved.yaml")).read_text()
    assert "train.dataset" in saved and "dataflex" not in saved
    loaded = found.runner.load_args("en", "saved.yaml")
    assert loaded[manager.get_elem_by_id("train.dataflex")] == "loss"


def test_words_are_there_in_every_language_and_only_while_the_section_is(built, board):
    found = board.locales["dataflex_on"]
    assert set(found) == {"en", "ru", "zh", "ko", "ja"}
    assert found["ru"] == found["en"] != found["zh"]


def test_afterwards_llamaboard_is_as_it_was(board):
    before = {name: vars(board.runner)[name] for name in ("Popen", "gen_cmd", "save_args", "load_args")}
    parse, tab, elems = (
        board.runner.Runner._parse_train_args,
        board.interface.create_train_tab,
        board.manager.get_base_elems,
    )
    with board_with(Spelt()):
        assert board.runner.Popen is not before["Popen"]
    assert {name: vars(board.runner)[name] for name in before} == before and "dataflex_on" not in board.locales
    assert (board.runner.Runner._parse_train_args, board.interface.create_train_tab) == (parse, tab)
    assert board.manager.get_base_elems is elems
