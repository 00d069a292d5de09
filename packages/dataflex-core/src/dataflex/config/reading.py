"""Reading the files that users write: whatever is wrong with one is an error that names it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dataflex.config.written import Place, Written
from dataflex.errors import ConfigError
from dataflex.paths import expand

_TEXT, _NULL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"
_QUOTE = " (both are read as the same value: quote names)"
_OF_NAMES = ("init_mixture_proportions", "mixture_max_epochs")
"""Keys below which only names of domains stand."""
_WHOLE = re.compile(r"[+-]?\d+")
_PARTS = re.compile(r"\[([^\[\]]+)\]|([^.\[\]]+)")
_UNSET = re.compile(r"[Ee]nvironment variable '([^']+)' not found")
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
        raise ConfigError(f"{what} cannot be read: {_in_our_words(error)}") from error


def _in_our_words(error: Exception) -> str:
    """What an error says, without the lines in which OmegaConf describes its own objects."""
    from omegaconf.errors import OmegaConfBaseException

    if not isinstance(error, OmegaConfBaseException):
        return str(error)
    said = (str(error).splitlines() or [type(error).__name__])[0]
    if variable := _UNSET.search(said):
        name = variable[1]
        said = f"the environment variable {name} is not set. Set it, or give a default: ${{oc.env:{name},...}}"
    return f"{error.full_key}: {said}" if error.full_key else said


def read_yaml(path: Path) -> tuple[Any, Written]:
    """YAML in which no key stands twice, as OmegaConf reads it, and the texts of its words and numbers.

    Raises:
        yaml.YAMLError: for a key that stands twice; and whatever OmegaConf raises.
    """
    from omegaconf import OmegaConf

    text = path.read_text(encoding="utf-8-sig")
    named = _with_null_keys_quoted(text)
    found = OmegaConf.load(path) if named is None else OmegaConf.create(named)
    return found, _composed(text, path.name, file=str(path))


def read_dotlist(
    items: Sequence[str], source: str = "the command line", over: Any = None, names: Sequence[str] = ()
) -> tuple[Any, Written, list[Place]]:
    """``key=value`` items as OmegaConf reads them; no key stands twice in one value.

    A dot separates keys, but for one in a name that stands in ``over``, or where a name alone can stand:
    ``init_mixture_proportions.v1.5=0.5``. A number is a number where ``over`` has numbers for keys.

    Args:
        items: The items.
        source: What they are from, for messages.
        over: What they are going to replace parts of, if that is known.
        names: Further keys below which only names stand.

    Returns:
        The values; the texts of their words and numbers; and the places of those that replace what stood there, as a
        mapping does not.

    Raises:
        yaml.YAMLError: for a key that stands twice; and whatever OmegaConf raises.
    """
    from omegaconf import OmegaConf

    pairs = [item.partition("=")[::2] for item in items]
    for key, value in pairs:
        _require_yaml(value, f"the value of {key} on {source}")
    quoted = {value: _with_null_keys_quoted(value) for _, value in pairs}
    places = [_named_place(key, over, (*_OF_NAMES, *names)) for key, _ in pairs]
    ordinary = [
        f"{key}={quoted[value] or value}" for (key, value), place in zip(pairs, places, strict=True) if place is None
    ]
    found: Any = OmegaConf.from_dotlist(ordinary)
    for (_, value), named in zip(pairs, places, strict=True):
        if named is not None:
            held: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={quoted[value] or value}"]))
            nested: Any = held["value"]
            for name in reversed(named):
                nested = {name: nested}
            found = OmegaConf.merge(found, nested)
    written, replaced = Written(source=source), []
    for (key, value), named in zip(pairs, places, strict=True):
        place = tuple(key.split(".")) if named is None else tuple(map(str, named))
        written = _composed(value, source, place).over(written, [place])
        if not _is_mapping(value):
            replaced.append(place)
    return found, written, replaced


def _named_place(key: str, over: Any, of_names: Sequence[str]) -> list[str | int] | None:
    """The keys that a dotted one stands for, where they are not simply its parts; ``None`` where they are."""
    bracketed = "[" in key  # each bracket is a name, and so is what a dot ends
    parts = [inside or outside for inside, outside in _PARTS.findall(key)] if bracketed else key.split(".")
    node, left, names = over, list(parts), list[str | int]()
    while left:
        if names and names[-1] in of_names and not bracketed:
            names.append(".".join(left))
            break
        keys = list(node) if _is_dict(node) else []
        most = 1 if bracketed else len(left)
        taken = next((end for end in range(most, 0, -1) if ".".join(left[:end]) in keys), 1)
        name: str | int = ".".join(left[:taken])
        if name not in keys and _WHOLE.fullmatch(str(name)) and keys and all(type(one) is int for one in keys):
            name = int(name)
        names.append(name)
        node, left = node[name] if name in keys else None, left[taken:]
    return None if names == parts else names


def _is_dict(node: Any) -> bool:
    from omegaconf import OmegaConf

    return bool(OmegaConf.is_dict(node))


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
    wanted = expand(written)
    places = [folder / wanted for folder in folders]
    found = next((place for place in places if os.path.isfile(place)), None)
    return found, " and ".join(dict.fromkeys(str(place.absolute()) for place in places))


def _composed(text: str, source: str, above: Place = (), *, file: str = "<unicode string>") -> Written:
    """The texts of a document's words and numbers; refuses a key that stands twice."""
    # OmegaConf looks among keys that are texts only: of 0 and 0x0, which are one key, the last value would count.
    import yaml

    loader = _loader(text, file)
    try:
        root = loader.get_single_node()
        for mapping in _mappings(root):
            keys: set[Any] = set()
            for key, _ in mapping.value:
                name = loader.construct_object(key) if key.tag in _NUMBERS else key.value
                if name in keys:
                    problem = f"found duplicate key {key.value}" + _QUOTE * (key.tag in _NUMBERS)
                    raise yaml.constructor.ConstructorError(
                        "while constructing a mapping", mapping.start_mark, problem, key.start_mark
                    )
                keys.add(name)
        return Written.of(root, loader, source, above)
    finally:
        loader.dispose()


def _with_null_keys_quoted(text: str) -> str | None:
    """The same YAML with keys such as ``null`` in quotes, as OmegaConf takes no other; ``None`` if there are none."""
    import yaml

    loader = _loader(text)
    try:
        root = loader.get_single_node()
        found = [key for mapping in _mappings(root) for key, _ in mapping.value if key.tag == _NULL and key.value]
        for key in found:
            key.tag, key.style = _TEXT, '"'
        return yaml.serialize(root) if found else None
    except yaml.YAMLError:  # OmegaConf will say what is wrong
        return None
    finally:
        loader.dispose()


def _require_yaml(text: str, what: str) -> None:
    """Say of a value that is no YAML which one it is, without the lines and columns of a document."""
    import yaml

    loader = _loader(text)
    try:
        loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{what} cannot be read: {error.problem or error}.") from error
    finally:
        loader.dispose()


def _is_mapping(text: str) -> bool:
    import yaml

    loader = _loader(text)
    try:
        return isinstance(loader.get_single_node(), yaml.MappingNode)
    finally:
        loader.dispose()


def _loader(text: str, name: str = "") -> Any:
    import yaml

    stream = io.StringIO(text)
    stream.name = name  # for its messages
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)(stream)  # libyaml's where PyYAML has it, as in OmegaConf


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
