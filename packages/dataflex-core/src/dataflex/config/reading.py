"""Reading the files that users write: whatever is wrong with one is an error that names it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from dataflex.errors import ConfigError

_NUMBERS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool"))


@contextlib.contextmanager
def naming(what: str) -> Iterator[None]:
    """Say of any error in the body, which does nothing but read a file, what could not be read.

    Raises:
        ConfigError: in place of what the readers of YAML, JSON and interpolations raise.
    """
    try:
        yield
    except ConfigError:
        raise
    except RecursionError as error:
        raise ConfigError(f"{what} cannot be read: it nests too deeply, or a part of it contains itself.") from error
    except Exception as error:
        raise ConfigError(f"{what} cannot be read: {error}") from error


def read_yaml(path: Path) -> Any:
    """YAML in which no key stands twice, as OmegaConf reads it.

    Raises:
        yaml.YAMLError: for a key that stands twice; and whatever OmegaConf raises.
    """
    from omegaconf import OmegaConf

    found = OmegaConf.load(path)
    with path.open(encoding="utf-8") as file:
        _refuse_twice(file)
    return found


def read_dotlist(items: Sequence[str]) -> Any:
    """``key=value`` items as OmegaConf reads them; no key stands twice in one value.

    Raises:
        yaml.YAMLError: for a key that stands twice; and whatever OmegaConf raises.
    """
    from omegaconf import OmegaConf

    found = OmegaConf.from_dotlist(list(items))
    for item in items:
        _refuse_twice(item.partition("=")[2])
    return found


def parse_json(text: str) -> Any:
    """JSON in which no key stands twice; raises ``ValueError`` for anything else."""
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"duplicate key {next(name for name in names if names.count(name) > 1)!r}")
    return found


def look_for(written: str, folders: Sequence[Path]) -> tuple[Path | None, str]:
    """Look for a file that a key names.

    Args:
        written: The path as it was written; ``~`` is a home folder.
        folders: Where a relative one may lie, in order.

    Returns:
        The file, or ``None``; and where it was looked for, for the message.
    """
    wanted = os.path.expanduser(written)
    places = [folder / wanted for folder in folders]
    found = next((place for place in places if os.path.isfile(place)), None)
    return found, " and ".join(dict.fromkeys(str(place.absolute()) for place in places))


def _refuse_twice(text: IO[str] | str) -> None:
    # OmegaConf looks among keys that are texts only: of 0 and 0x0, which are one key, the last value would count.
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)  # libyaml's where PyYAML has it, as in OmegaConf
    try:
        for mapping in _mappings(loader.get_single_node()):
            keys: set[Any] = set()
            for key, _ in mapping.value:
                name = loader.construct_object(key) if key.tag in _NUMBERS else key.value
                if name in keys:
                    problem = f"found duplicate key {key.value}"
                    raise yaml.constructor.ConstructorError(
                        "while constructing a mapping", mapping.start_mark, problem, key.start_mark
                    )
                keys.add(name)
    finally:
        loader.dispose()


def _mappings(root: Any) -> Iterator[Any]:
    """Every mapping of a YAML document once: an alias is the node it stands for."""
    import yaml

    left, seen = [root], set()
    while left:
        node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield node
            left += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            left += node.value
