"""The seams to LlamaBoard: a section in its Train tab, one hidden field among its inputs, another command at its start.

LlamaBoard's lists of inputs are fixed when its page is built, so all of ours is one field. What the field means is
handed in: this module knows neither components nor forms. With the field saying nothing, LlamaBoard starts what it
starts without us.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from dataflex.bridge.rebound import rebound
from dataflex.bridge.versions import incompatible

FIELD = "dataflex"
"""Our field among those of the tab."""

LANGUAGES = ("en", "ru", "zh", "ko", "ja")
_WEBUI = "llamafactory.webui"


class Section(Protocol):
    """What is put into LlamaBoard."""

    def build(self, engine: Any) -> tuple[Any, Mapping[str, Any]]:
        """Build the visible form within the tab; gives the hidden field, and the elements that have words by name."""

    def words(self) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
        """Properties of those elements by name and language, as LlamaBoard's ``LOCALES`` has them."""

    def run(self, arguments: Mapping[str, Any], text: str) -> Any | None:
        """The run that LlamaBoard's arguments and the field's text mean; ``None`` with the section off."""

    def preview(self, run: Any) -> str:
        """It as Markdown."""

    def command(self, run: Any) -> list[str]:
        """Write its run file; gives what starts it."""

    def save(self, path: Path, text: str) -> None:
        """Keep the field's text beside a file of LlamaBoard's."""

    def load(self, path: Path) -> str:
        """The text that was kept there."""


@dataclass(frozen=True)
class Board:
    """LlamaBoard's modules."""

    interface: ModuleType
    runner: ModuleType
    common: ModuleType
    manager: type
    locales: dict[str, dict[str, Any]]

    @classmethod
    def load(cls) -> Board:
        """Import them: takes seconds, and gradio."""
        names = ("interface", "runner", "common", "manager", "locales")
        interface, runner, common, manager, locales = (importlib.import_module(f"{_WEBUI}.{name}") for name in names)
        return cls(interface, runner, common, manager.Manager, locales.LOCALES)


def seams() -> dict[str, Callable[[], None]]:
    """A check for each symbol of LlamaBoard that we hold on to, by name."""
    names = ("create_train_tab", "Manager.get_base_elems", "LOCALES", "Runner._parse_train_args", "gen_cmd", "Popen")
    names += ("save_args", "load_args", "_clean_cmd")
    return {f"webui: {name}": functools.partial(require, name) for name in names}


def require(name: str) -> None:
    """Refuse a LlamaBoard that has moved a symbol.

    Raises:
        IncompatibleError: names it.
    """
    board = Board.load()
    users: dict[str, tuple[Any, Any]] = {
        "create_train_tab": (board.interface, getattr(board.interface, "create_ui", None)),
        "Manager.get_base_elems": (board.manager, getattr(board.interface, "create_train_tab", None)),
        "Runner._parse_train_args": (getattr(board.runner, "Runner", None), _method(board, "_launch")),
        "gen_cmd": (board.runner, _method(board, "_preview")),
        "Popen": (board.runner, _method(board, "_launch")),
        "save_args": (board.runner, _method(board, "_launch")),
        "load_args": (board.runner, _method(board, "load_args")),
        "_clean_cmd": (board.common, getattr(board.common, "save_cmd", None)),
    }
    if name == "LOCALES":
        if not all(set(LANGUAGES) <= set(words) for words in board.locales.values()):
            raise incompatible(f"LOCALES in {_WEBUI}.locales has not the languages {', '.join(LANGUAGES)} any more")
        return
    home, user = users[name]
    last = name.rpartition(".")[2]
    if not hasattr(home, last) or user is None or last not in user.__code__.co_names:
        raise incompatible(f"{name} is not used any more where LlamaBoard builds its page or starts a run")


def _method(board: Board, name: str) -> Any:
    return getattr(getattr(board.runner, "Runner", None), name, None)


class _Arguments(dict[str, Any]):
    """LlamaBoard's arguments of a run that is ours; files of LlamaBoard's are written from a copy."""

    run: Any = None


@contextlib.contextmanager
def board_with(section: Section) -> Iterator[None]:
    """LlamaBoard has a section while the body runs.

    Raises:
        IncompatibleError: naming the symbol, if the installed LlamaFactory has other seams.
    """
    for check in seams().values():
        check()
    board = Board.load()
    runner, waiting = board.runner, dict[str, Any]()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_words(board.locales, section.words()))
        put = functools.partial(_put, stack)
        put(board.interface, "create_train_tab", _tab(board, section))
        put(runner.Runner, "_parse_train_args", _parsing(runner.Runner._parse_train_args, board, section, waiting))
        put(runner, "gen_cmd", _previewing(runner.gen_cmd, section))
        put(runner, "Popen", _starting(runner.Popen, section, waiting))
        put(runner, "save_args", _saving(runner.save_args, section))
        put(runner, "load_args", _loading(runner.load_args, section))
        yield


def _put(stack: contextlib.ExitStack, home: Any, name: str, value: Any) -> None:
    stack.enter_context(rebound(home, name, value))


@contextlib.contextmanager
def _words(locales: dict[str, dict[str, Any]], ours: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[None]:
    """Our words among LlamaBoard's: in all of its languages, English where we have none."""
    for name, words in ours.items():
        locales[name] = {language: dict(words.get(language, words["en"])) for language in LANGUAGES}
    try:
        yield
    finally:
        for name in ours:
            locales.pop(name, None)


def _tab(board: Board, section: Section) -> Callable[[Any], dict[str, Any]]:
    stock, base = board.interface.create_train_tab, board.manager.get_base_elems  # type: ignore[attr-defined]

    def create_train_tab(engine: Any) -> dict[str, Any]:
        field, elements = section.build(engine)

        def with_ours(manager: Any) -> set[Any]:
            return {*base(manager), field}

        with rebound(board.manager, "get_base_elems", with_ours):  # no longer: other tabs begin with it too
            return {FIELD: field, **elements, **stock(engine)}

    return create_train_tab


def _parsing(
    stock: Callable[..., dict[str, Any]], board: Board, section: Section, waiting: dict[str, Any]
) -> Callable[..., Any]:
    @functools.wraps(stock)
    def parse(self: Any, data: Mapping[Any, Any]) -> dict[str, Any]:
        arguments = stock(self, data)
        place = os.path.abspath(arguments["output_dir"])
        waiting.pop(place, None)  # of a preview, or a start that came to nothing
        text = data[self.manager.get_elem_by_id(f"train.{FIELD}")] or ""
        run = section.run(board.common._clean_cmd(arguments), text)
        if run is None:
            return arguments
        ours = _Arguments(arguments)
        ours.run = waiting[place] = run
        return ours

    return parse


def _previewing(stock: Callable[[Any], str], section: Section) -> Callable[[Any], str]:
    @functools.wraps(stock)
    def gen_cmd(arguments: Any) -> str:
        return section.preview(arguments.run) if isinstance(arguments, _Arguments) else stock(arguments)

    return gen_cmd


def _starting(stock: Any, section: Section, waiting: dict[str, Any]) -> Callable[..., Any]:
    """``Popen`` of a training run that is ours starts ours; every other call is LlamaBoard's."""

    @functools.wraps(stock)
    def popen(command: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(command, list) and command[:2] == ["llamafactory-cli", "train"]:
            run = waiting.pop(os.path.abspath(os.path.dirname(command[2])), None)
            command = command if run is None else section.command(run)
        return stock(command, *args, **kwargs)

    return popen


def _saving(stock: Callable[[str, dict[str, Any]], None], section: Section) -> Callable[[str, dict[str, Any]], None]:
    name = f"train.{FIELD}"

    @functools.wraps(stock)
    def save_args(path: str, fields: dict[str, Any]) -> None:
        stock(path, {key: value for key, value in fields.items() if not key.startswith(name)})
        section.save(Path(path), str(fields.get(name) or ""))

    return save_args


def _loading(stock: Callable[[str], Any], section: Section) -> Callable[[str], Any]:
    @functools.wraps(stock)
    def load_args(path: str) -> Any:
        fields = stock(path)
        return fields if fields is None else {**fields, f"train.{FIELD}": section.load(Path(path))}

    return load_args
