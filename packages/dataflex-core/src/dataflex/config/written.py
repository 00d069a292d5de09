"""Names that YAML takes for something else: ``no``, ``on``, ``2023``, ``012``, ``1e3``.

YAML 1.1 reads the bare word ``no`` as false and ``012`` as ten. Where only a name can stand, the text is what was
meant, so it is kept beside the values: :class:`Written` gives it back to whoever knows that a place is for a name.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dataflex.errors import ConfigError

Place = tuple[Any, ...]
"""Where a value stands: keys of mappings and numbers of lists, from the outside."""

_PLAIN = tuple(f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float", "null"))
_EXPONENT = re.compile(r"[-+]?[0-9][0-9_]*\.?[0-9_]*[eE][-+]?[0-9]+")  # a number to OmegaConf, a text to PyYAML


@dataclass(frozen=True)
class Written:
    """The texts of words and numbers that stand without quotes.

    Attributes:
        values: Value and text, by place.
        keys: The text of a mapping's key, by the place of its value.
        source: The file, for messages.
    """

    values: Mapping[Place, tuple[Any, str]] = field(default_factory=dict)
    keys: Mapping[Place, str] = field(default_factory=dict)
    source: str = ""

    @classmethod
    def of(cls, root: Any, loader: Any, source: str, above: Place = ()) -> Written:
        """The texts of a composed YAML document.

        Args:
            root: Its root node.
            loader: What composed it, to make values of single nodes.
            source: Its name, for messages.
            above: Where the document's root stands.
        """
        values: dict[Place, tuple[Any, str]] = {}
        keys: dict[Place, str] = {}
        for place, node, is_key in _nodes(root, loader, above):
            value = _plain_value(node, loader)
            if isinstance(value, str):
                continue
            if is_key:
                keys[place] = node.value
            else:
                values[place] = (value, node.value)
        return cls(values, keys, source)

    def over(self, other: Written, replaced: Sequence[Place]) -> Written:
        """These texts over those of another document, some places of which were replaced by these."""

        def kept(place: Place) -> bool:
            return not any(place[: len(gone)] == gone for gone in replaced)

        values = {place: each for place, each in other.values.items() if kept(place)} | dict(self.values)
        keys = {place: each for place, each in other.keys.items() if kept(place)} | dict(self.keys)
        return Written(values, keys, other.source)

    def under(self, *place: Any) -> Written:
        """The texts below a place, as if it were the root."""
        depth = len(place)
        return Written(
            {each[depth:]: value for each, value in self.values.items() if each[:depth] == place},
            {each[depth:]: text for each, text in self.keys.items() if each[:depth] == place},
            self.source,
        )

    def below(self, *place: Any) -> Written:
        """The same texts, with the root at a place."""
        return Written(
            {(*place, *each): value for each, value in self.values.items()},
            {(*place, *each): text for each, text in self.keys.items()},
            self.source,
        )

    def take_names(self, value: Any, annotation: Any, *place: Any) -> Any:
        """A value in which every word that can only be a name is the text it was written as.

        Args:
            value: As YAML read it.
            annotation: What it is to be; where that says ``str``, only a name can stand.
            place: Where it stands.

        Raises:
            ConfigError: for a number or truth value in a name's place whose text is not known.
        """
        options = _alternatives(annotation)
        if isinstance(value, Mapping):
            key_kind, kind = _inside(options, (dict, Mapping), 2)
            return {
                self.key(key, *place) if key_kind is str else key: self.take_names(each, kind, *place, key)
                for key, each in value.items()
            }
        if isinstance(value, (list, tuple)):
            (kind,) = _inside(options, (list, tuple, set, frozenset, Sequence), 1)
            return [self.take_names(each, kind, *place, number) for number, each in enumerate(value)]
        if isinstance(value, str) or str not in options or _fits(value, options):
            return value
        text = self._text(value, place)
        return self._refuse(value, place) if text is None else text

    def key(self, key: Any, *place: Any) -> str:
        """The name that a key of the mapping at a place is."""
        if isinstance(key, str):
            return key
        text = self.keys.get((*place, key))
        return str(key) if text is None else text

    def _text(self, value: Any, place: Place) -> str | None:
        known, text = self.values.get(place, (None, ""))
        return text if text and known == value and type(known) is type(value) else None

    def _refuse(self, value: Any, place: Place) -> Any:
        if value is None:
            return None
        word = json.dumps(value, default=str)
        name = ".".join(map(str, place[:-1] if isinstance(place[-1], int) else place))
        raise ConfigError(
            f"{name}: {word} (from {self.source}) is a {'truth value' if isinstance(value, bool) else 'number'} where "
            f'only a name can stand. Quote it: "{word}".'
        )


def _nodes(node: Any, loader: Any, place: Place) -> Iterator[tuple[Place, Any, bool]]:
    """Every scalar of a document with its place, and whether it is a key."""
    import yaml

    if isinstance(node, yaml.ScalarNode):
        yield place, node, False
    elif isinstance(node, yaml.SequenceNode):
        for number, each in enumerate(node.value):
            yield from _nodes(each, loader, (*place, number))
    elif isinstance(node, yaml.MappingNode):
        for key, each in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                parts = each.value if isinstance(each, yaml.SequenceNode) else [each]
                for part in parts:
                    yield from _nodes(part, loader, place)
            elif isinstance(key, yaml.ScalarNode):
                inner = (*place, _plain_value(key, loader))
                yield inner, key, True
                yield from _nodes(each, loader, inner)


def _plain_value(node: Any, loader: Any) -> Any:
    """What OmegaConf makes of a scalar, if it stands without quotes and is no text; else its text."""
    if node.style or not node.value:  # PyYAML says None of a plain one, libyaml an empty text
        return str(node.value)
    if node.tag in _PLAIN:
        return loader.construct_object(node)
    if _EXPONENT.fullmatch(node.value):
        return float(node.value.replace("_", ""))
    return str(node.value)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """The members of a union; words that are given one by one count as ``str``."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return tuple(each for member in typing.get_args(annotation) for each in _alternatives(member))
    if typing.get_origin(annotation) is typing.Literal:
        return tuple({type(choice) for choice in typing.get_args(annotation)})
    if typing.get_origin(annotation) is typing.Annotated:
        return _alternatives(typing.get_args(annotation)[0])
    return (annotation,)


def _inside(options: Sequence[Any], containers: Sequence[Any], count: int) -> tuple[Any, ...]:
    """What a container among the alternatives holds; ``Any`` where none is, or it does not say."""
    for option in options:
        origin, inner = typing.get_origin(option), typing.get_args(option)
        if isinstance(origin, type) and any(issubclass(origin, each) for each in containers) and len(inner) >= count:
            return inner[:count]
    return (Any,) * count


def _fits(value: Any, options: Sequence[Any]) -> bool:
    """Whether something else than a text may stand here, and the value is that."""
    if Any in options:
        return True
    if value is None:
        return type(None) in options
    return type(value) in options or (isinstance(value, int) and not isinstance(value, bool) and float in options)
