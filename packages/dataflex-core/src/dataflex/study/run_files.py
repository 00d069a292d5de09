"""Writing the run file of a run, so that ``dataflex train`` reads back exactly what was meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from dataflex.config.run import RunFile
from dataflex.config.written import Place, Written
from dataflex.record import files
from dataflex.study.plan import PlannedRun


class _Spelt(str):
    """A word or number without quotes, as the user wrote it: it may be a name to whoever binds it."""


class _Dumper(yaml.SafeDumper):
    """Quotes texts that begin like a number: ``1e3`` is a text to PyYAML and a number to OmegaConf."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    quoted = text[:1].isdigit() or text[:1] in "+-."
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if quoted else None)


def _spelt(dumper: yaml.SafeDumper, text: _Spelt) -> yaml.ScalarNode:
    tag: Any = dumper.resolve(yaml.ScalarNode, str(text), (True, False))  # type: ignore[no-untyped-call]  # stubs leave it out
    return dumper.represent_scalar(tag, str(text))


_Dumper.add_representer(str, _text)
_Dumper.add_representer(_Spelt, _spelt)


def text_of(run: RunFile) -> str:
    """A run file as text."""
    keys: dict[str, Any] = {**run.llamafactory, **run.ours}
    spelt = {key: _as_written(value, run.written, (key,)) for key, value in keys.items()}
    return str(yaml.dump(spelt, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110))


def head_of(run: PlannedRun) -> str:
    """The line above it: what it is, and how to train it by hand."""
    command = run.arm.command or "train"
    return f"# {run.series}, seed {run.seed}, of a study. By hand: dataflex {command} {run.file}\n"


def write_run_file(run: PlannedRun) -> None:
    """Write it where the plan says."""
    files.replace_text(run.file, head_of(run) + text_of(run.run))


def _as_written(value: Any, written: Written, place: Place) -> Any:
    if isinstance(value, Mapping):
        return {
            _spelling(key, written.keys.get((*place, key))): _as_written(each, written, (*place, key))
            for key, each in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_as_written(each, written, (*place, number)) for number, each in enumerate(value)]
    known, text = written.values.get(place, (None, None))
    return _spelling(value, text) if known == value and type(known) is type(value) else value


def _spelling(value: Any, text: str | None) -> Any:
    return value if text is None or isinstance(value, str) else _Spelt(text)
