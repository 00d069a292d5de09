"""The seams to LlamaBoard, with LlamaFactory's own page: built whole, and asked as its buttons ask."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

gradio = pytest.importorskip("gradio")

from dataflex.bridge import board_seams  # noqa: E402
from dataflex.bridge.board import board_with  # noqa: E402
from dataflex.bridge.board_seams import Board, require, seams  # noqa: E402
from dataflex.errors import ConfigError, IncompatibleError  # noqa: E402


class Spelt:
    """A section whose field says the name of a component, or nothing."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.wrong = ""
        self.run_of: Any = None

    def build(self, engine):
        return gradio.Textbox(visible=False, value=""), {"dataflex_on": gradio.Checkbox()}

    def words(self):
        return {"dataflex_on": {"en": {"label": "Train with DataFlex"}, "zh": {"label": "使用 DataFlex 训练"}}}

    def connect(self, inputs, run_of):
        self.inputs, self.run_of = inputs, run_of

    def watch(self, engine):
        with gradio.Tab("DataFlex"):
            return {"dataflex_follow": gradio.Checkbox()}

    def is_on(self, text):
        return bool(text)

    def run(self, arguments, text):
        if text == "gone":
            raise ConfigError("no selector 'gone' is installed")
        return {"component_name": text, **arguments}

    def refusal(self, run, language):
        return f"{self.wrong} ({language})" if self.wrong else ""

    def preview(self, run, language):
        return f"preview of {run['component_name']} ({language})"

    def command(self, run):
        return ["dataflex-cli", "train", run["component_name"]]

    def save(self, path: Path, text: str) -> None:
        self.kept[path.name] = text

    def load(self, path: Path) -> str:
        return self.kept.get(path.name, "")


@pytest.fixture(scope="module")
def board() -> Board:
    return Board.load()


VALUES = {
    "top.lang": "en",
    "top.model_name": "tiny",
    "top.model_path": "tiny",
    "top.finetuning_type": "lora",
    "train.dataset": ["a"],
    "train.output_dir": "out",
    "train.config_path": "saved.yaml",
}


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

        for name, value in VALUES.items():
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
    assert len(seams()) == 11
    for check in seams().values():
        check()


@pytest.mark.parametrize("name", [name.removeprefix("webui: ") for name in seams()])
def test_a_seam_that_moved_is_named(board, monkeypatch, name):
    owner, _, last = name.rpartition(".")
    homes = {"create_train_tab": board.interface, "create_footer": board.interface, "_clean_cmd": board.common}
    if name == "LOCALES":
        monkeypatch.setitem(board.locales, "title", {"en": {}})
    elif owner:
        monkeypatch.delattr(board.manager if owner == "Manager" else board.runner.Runner, last)
    else:
        monkeypatch.delattr(homes.get(name, board.runner), name)
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


def pressed(board: Board, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Any:
    """Preview, save and start a run in a page whose section says nothing: what was said and started, and all files."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    engines, started, stock = list[Any](), list[Any](), board.interface.Engine

    def engine(**given: Any) -> Any:
        engines.append(stock(**given))
        return engines[-1]

    with monkeypatch.context() as patched:
        patched.setattr(board.interface, "Engine", engine)
        patched.setattr(board.runner, "Popen", lambda *given, **named: started.append((given, named)))
        with board_with(Spelt()) if folder.name == "ours" else contextlib.nullcontext():
            page, manager = board.interface.create_ui(), engines[0].manager
            buttons = {each.fn.__name__: each for each in page.fns.values() if each.fn is not None}
            values, said = {manager.get_elem_by_id(name): value for name, value in VALUES.items()}, list[Any]()
            for name in ("preview_train", "save_args", "run_train"):
                told = buttons[name].fn({each: values.get(each, each.value) for each in buttons[name].inputs})
                said += [list(each.values()) for each in ([told] if isinstance(told, dict) else told)]
    return said, started, {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_with_the_section_off_what_is_said_started_and_written_is_llamaboards_byte_for_byte(
    board, monkeypatch, tmp_path
):
    stock = pressed(board, monkeypatch, tmp_path / "stock")
    assert len(stock[1]) == 1 and {"training_args.yaml", "saved.yaml"} <= {path.name for path in stock[2]}
    assert pressed(board, monkeypatch, tmp_path / "ours") == stock


def test_with_the_section_on_preview_and_start_are_ours(built):
    found, _, manager = built
    found.give("train.dataflex", "loss")
    box = manager.get_elem_by_id("train.output_box")
    assert next(iter(found.runner._preview(found.data, do_train=True)))[box] == "preview of loss (en)"
    assert launch(found) == ["dataflex-cli", "train", "loss"]


def test_a_run_that_is_refused_does_not_start_and_what_is_wrong_is_shown(built):
    found, section, manager = built
    box = manager.get_elem_by_id("train.output_box")
    for text, wrong, said in [
        ("loss", "no such data set", "no such data set (en)"),
        ("gone", "", "no selector 'gone'"),
    ]:
        section.wrong = wrong
        found.give("train.dataflex", text)
        shown = list(found.runner._launch(found.data, do_train=True))
        assert len(shown) == 1 and shown[0][box].startswith(said) and found.started == []
    section.wrong = "no such data set"
    found.give("train.dataflex", "")  # with the section off, nothing of ours is asked
    assert launch(found)[:2] == ["llamafactory-cli", "train"]


def test_the_run_file_is_of_what_the_inputs_of_the_whole_tab_say(built):
    found, section, manager = built
    assert {manager.get_elem_by_id(f"train.{name}") for name in ("dataflex", "dataset", "output_dir")} < section.inputs
    found.give("train.dataflex", "loss")
    assert section.run_of(found.data)["dataset"] == "a"
    for name, value, said in [("train.dataflex", "", "section is off"), ("train.dataset", [], "dataset")]:
        found.give(name, value)
        with pytest.raises(ConfigError, match=said):
            section.run_of(found.data)


def test_a_run_is_watched_in_the_last_tab(built):
    found, _, manager = built
    tabs = [block for block in found.page.blocks.values() if isinstance(block, gradio.Tab)]
    beside = [tab.label for tab in tabs if tab.parent is tabs[0].parent]
    assert beside == ["Train", "Evaluate & Predict", "Chat", "Export", "DataFlex"]
    assert manager.get_elem_by_id("dataflex.dataflex_follow") in manager.get_elem_list()


@pytest.mark.parametrize(("version", "said"), [(None, "gradio is not installed"), ("6.0.1", "gradio 6.0.1 is")])
def test_without_the_gradio_it_is_made_for_a_sentence_says_what_works(monkeypatch, version, said):
    def found(name):
        if version is None:
            raise board_seams.importlib_metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(board_seams.importlib_metadata, "version", found)
    with pytest.raises(ConfigError, match=said + r".*gradio==5\.\*.*dataflex train"):
        Board.load()


def test_a_preview_leaves_nothing_behind_for_a_run_without_the_section(built):
    found, _, _ = built
    found.give("train.dataflex", "loss")
    list(found.runner._preview(found.data, do_train=True))
    found.give("train.dataflex", "")
    assert launch(found)[:2] == ["llamafactory-cli", "train"]


def test_our_field_is_saved_beside_llamaboards_and_loaded_with_it(built):
    found, section, manager = built
    found.give("train.dataflex", "loss")
    found.runner.save_args({elem: value for elem, value in found.data.items() if elem in section.inputs})
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
