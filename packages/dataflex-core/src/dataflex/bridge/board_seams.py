"""What DataFlex holds on to in LlamaBoard, each symbol checked before it is used."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import importlib_metadata

from dataflex.bridge.versions import incompatible
from dataflex.errors import ConfigError

LANGUAGES = ("en", "ru", "zh", "ko", "ja")
_WEBUI = "llamafactory.webui"
_GRADIO = "5"
"""The major version of gradio that the section is made for: that of the LlamaFactory it was tested with."""

_SEAMS = (
    "create_train_tab",
    "create_footer",
    "Manager.get_base_elems",
    "LOCALES",
    "Runner._initialize",
    "Runner._parse_train_args",
    "gen_cmd",
    "Popen",
    "save_args",
    "load_args",
    "_clean_cmd",
)


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
        """Import them: takes seconds.

        Raises:
            ConfigError: without gradio, or with another version of it.
        """
        require_gradio()
        names = ("interface", "runner", "common", "manager", "locales")
        interface, runner, common, manager, locales = (importlib.import_module(f"{_WEBUI}.{name}") for name in names)
        return cls(interface, runner, common, manager.Manager, locales.LOCALES)


def require_gradio() -> None:
    """Refuse a machine without the gradio that the page is made with. Does not import it.

    Raises:
        ConfigError: says what to install.
    """
    wrong = gradio_misfit()
    if wrong:
        raise ConfigError(
            f"{wrong}. The section is made for gradio {_GRADIO} (pip install 'gradio=={_GRADIO}.*'); without it, write "
            "a run file and use `dataflex train`."
        )


def gradio_misfit() -> str:
    """Why the page cannot be made with the gradio there is; ``""`` if it can."""
    try:
        found = str(importlib_metadata.version("gradio"))
    except importlib_metadata.PackageNotFoundError:
        return "gradio is not installed"
    return "" if found.partition(".")[0] == _GRADIO else f"gradio {found} is installed"


def seams() -> dict[str, Callable[[], None]]:
    """A check for each symbol of LlamaBoard that we hold on to, by name."""
    return {f"webui: {name}": functools.partial(require, name) for name in _SEAMS}


def require(name: str) -> None:
    """Refuse a LlamaBoard that has moved a symbol.

    Raises:
        IncompatibleError: names it.
    """
    board = Board.load()
    users: dict[str, tuple[Any, Any]] = {
        "create_train_tab": (board.interface, getattr(board.interface, "create_ui", None)),
        "create_footer": (board.interface, getattr(board.interface, "create_ui", None)),
        "Manager.get_base_elems": (board.manager, getattr(board.interface, "create_train_tab", None)),
        "Runner._initialize": (getattr(board.runner, "Runner", None), _method(board, "_launch")),
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
