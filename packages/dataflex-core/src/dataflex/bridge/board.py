"""DataFlex's place in LlamaBoard: a section in its Train tab, a tab to watch, another command at its start.

LlamaBoard's lists of inputs are fixed when its page is built, so all of ours is one hidden field. What the field means
is handed in: this module knows neither components nor forms. With the field saying nothing, LlamaBoard starts what it
starts without us.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from dataflex.bridge.board_seams import LANGUAGES, Board, seams
from dataflex.bridge.rebound import rebound
from dataflex.errors import ConfigError, DataFlexError
from dataflex.failures.foreign import foreign

FIELD = "dataflex"
"""Our field among those of the tab."""

_ID = f"train.{FIELD}"

RunOf = Callable[[Mapping[Any, Any]], Any]
"""From the values of LlamaBoard's inputs to the run they mean."""


class Section(Protocol):
    """What is put into LlamaBoard."""

    def build(self, engine: Any) -> tuple[Any, Mapping[str, Any]]:
        """Build the visible form within the Train tab; gives the hidden field, and elements with words by name."""

    def connect(self, inputs: set[Any], run_of: RunOf) -> None:
        """Connect what needs all inputs of the Train tab, once it is built."""

    def watch(self, engine: Any) -> Mapping[str, Any]:
        """Build the tab that shows a run; gives elements with words by name."""

    def words(self) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
        """Properties of those elements by name and language, as LlamaBoard's ``LOCALES`` has them."""

    def is_on(self, text: str) -> bool:
        """Whether the field's text asks for a run of ours."""

    def run(self, arguments: Mapping[str, Any], text: str) -> Any:
        """The run that LlamaBoard's arguments and the field's text mean."""

    def refusal(self, run: Any, language: str) -> str:
        """Why it cannot start, as Markdown; ``""`` if nothing speaks against it."""

    def preview(self, run: Any, language: str) -> str:
        """It as Markdown."""

    def command(self, run: Any) -> list[str]:
        """Write its run file; gives what starts it."""

    def save(self, path: Path, text: str) -> None:
        """Keep the field's text beside a file of LlamaBoard's."""

    def load(self, path: Path) -> str:
        """The text that was kept there."""


class _Arguments(dict[str, Any]):
    """LlamaBoard's arguments of a run that is ours; files of LlamaBoard's are written from a copy."""

    run: Any = None
    language = "en"


def run_board(section: Section) -> None:
    """Open LlamaBoard with a section, and serve it until Ctrl-C.

    Raises:
        ConfigError: without gradio, or with another version of it.
        IncompatibleError: naming the symbol, if the installed LlamaFactory has other seams.
    """
    board = Board.load()
    with board_with(section), foreign("LlamaBoard failed"):
        board.interface.run_web_ui()


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
    engines: list[Any] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(_words(board.locales, section.words()))
        put = functools.partial(_put, stack)
        put(board.interface, "create_train_tab", _tab(board, section, engines))
        put(board.interface, "create_footer", _footer(board.interface.create_footer, section, engines))
        put(runner.Runner, "_initialize", _initializing(runner.Runner._initialize, section))
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


def _tab(board: Board, section: Section, engines: list[Any]) -> Callable[[Any], dict[str, Any]]:
    interface, manager = cast(Any, board.interface), cast(Any, board.manager)
    stock, base = interface.create_train_tab, manager.get_base_elems

    def create_train_tab(engine: Any) -> dict[str, Any]:
        engines[:] = [engine]
        field, elements = section.build(engine)
        inputs: set[Any] = set()

        def with_ours(manager: Any) -> set[Any]:
            inputs.update({*base(manager), field})
            return inputs  # LlamaBoard adds the tab's own

        with rebound(board.manager, "get_base_elems", with_ours):  # no longer: other tabs begin with it too
            stocks = stock(engine)
        section.connect(inputs, functools.partial(_run_of, engine.runner))
        return {FIELD: field, **elements, **stocks}

    return create_train_tab


def _footer(stock: Callable[[], dict[str, Any]], section: Section, engines: list[Any]) -> Callable[[], dict[str, Any]]:
    """The last tab is ours: a footer follows the tabs, whichever there are."""

    @functools.wraps(stock)
    def create_footer() -> dict[str, Any]:
        for engine in engines:
            engine.manager.add_elems(FIELD, dict(section.watch(engine)))
        return stock()

    return create_footer


def _run_of(runner: Any, data: Mapping[Any, Any]) -> Any:
    """The run that the page means now.

    Raises:
        ConfigError: with what LlamaBoard has against it, or for a page whose section is off.
    """
    refused = runner._initialize(data, do_train=True, from_preview=True)
    run = None if refused else getattr(runner._parse_train_args(data), "run", None)
    if run is None:
        raise ConfigError(refused or "DataFlex's section is off.")
    return run


def _text(runner: Any, data: Mapping[Any, Any]) -> str:
    return str(data[runner.manager.get_elem_by_id(_ID)] or "")


def _initializing(stock: Callable[..., str], section: Section) -> Callable[..., str]:
    """What LlamaBoard checks before it starts a run: for a run of ours, all that can be checked before it loads."""

    @functools.wraps(stock)
    def initialize(runner: Any, data: Mapping[Any, Any], do_train: bool, from_preview: bool) -> str:
        error = stock(runner, data, do_train, from_preview)
        if error or not do_train or not section.is_on(_text(runner, data)):
            return error
        try:
            ours = runner._parse_train_args(data)
        except DataFlexError as gone:  # a component that was there when the page was built
            return str(gone)
        return "" if from_preview else section.refusal(ours.run, ours.language)

    return initialize


def _parsing(
    stock: Callable[..., dict[str, Any]], board: Board, section: Section, waiting: dict[str, Any]
) -> Callable[..., Any]:
    @functools.wraps(stock)
    def parse(runner: Any, data: Mapping[Any, Any]) -> dict[str, Any]:
        arguments = stock(runner, data)
        place = os.path.abspath(arguments["output_dir"])
        waiting.pop(place, None)  # of a preview, or a start that came to nothing
        text = _text(runner, data)
        if not section.is_on(text):
            return arguments
        ours = _Arguments(arguments)
        ours.run = waiting[place] = section.run(board.common._clean_cmd(arguments), text)
        ours.language = data[runner.manager.get_elem_by_id("top.lang")] or "en"
        return ours

    return parse


def _previewing(stock: Callable[[Any], str], section: Section) -> Callable[[Any], str]:
    @functools.wraps(stock)
    def gen_cmd(arguments: Any) -> str:
        ours = isinstance(arguments, _Arguments)
        return section.preview(arguments.run, arguments.language) if ours else stock(arguments)

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
    @functools.wraps(stock)
    def save_args(path: str, fields: dict[str, Any]) -> None:
        stock(path, {name: value for name, value in fields.items() if name != _ID})
        section.save(Path(path), str(fields.get(_ID) or ""))

    return save_args


def _loading(stock: Callable[[str], Any], section: Section) -> Callable[[str], Any]:
    @functools.wraps(stock)
    def load_args(path: str) -> Any:
        fields = stock(path)
        return fields if fields is None else {**fields, _ID: section.load(Path(path))}

    return load_args
