"""Models that the keys of a run name, known by their files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dataflex.checkpoint_keys import models
from dataflex.checkpoint_keys.at_work import COMPONENT_PARAMS
from dataflex.checkpoint_keys.compare import FILE, ModelFiles
from dataflex.checkpoint_keys.held import MODELS
from dataflex.paths import user_path
from dataflex.trainers.host import Host
from dataflex.trainers.resume.arguments import Arguments


def named_models(trainer: Host, arguments: Arguments, own: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """The keys that name models, each with what it names."""
    for item in arguments.objects:
        for key in MODELS:
            if hasattr(item, key):
                given = getattr(item, key)
                yield key, [str(path) for path in (given if isinstance(given, (list, tuple)) else [given]) if path]
    if "model_name_or_path" not in arguments.values:
        base = _base_of_adapter(getattr(trainer, "model", None))
        if base is not None:
            yield "model_name_or_path", [base]
    for name, value in (own.get(COMPONENT_PARAMS) or {}).items():
        if isinstance(value, str) and value and (models.is_model(user_path(value)) or _file_of(value) is not None):
            yield f"{COMPONENT_PARAMS}.{name}", [value]


def _base_of_adapter(model: Any) -> str | None:
    """Where the base of an adapter was loaded from. All of another model is in a checkpoint, whatever it began as."""
    if not hasattr(model, "peft_config") or not hasattr(model, "get_base_model"):
        return None
    return str(getattr(model.get_base_model().config, "_name_or_path", "") or "") or None


def look_at(paths: Sequence[str], arguments: Arguments) -> ModelFiles:
    """The models at some paths, or of some names on a hub, by what their files hold.

    Args:
        paths: As the key names them.
        arguments: Of the run, which say where a hub's cache lies.
    """
    found = []
    for path in paths:
        file = _file_of(path)
        folder = _folder(path, arguments) if file is None else None
        try:
            found.append(models.file_identity(file) if file else "" if folder is None else models.identity(folder))
        except OSError:  # whoever loads the model says what is wrong with its files
            found.append("")
    return ModelFiles(path=",".join(paths), identity=",".join(found) if all(found) else "")


def _file_of(value: str) -> Path | None:
    """The file of a parameter such as ``by: file:scores.npy``; ``None`` if it names none, or none that is there."""
    path = user_path(value.removeprefix(FILE))
    return path if value.startswith(FILE) and path.is_file() else None


def _folder(path: str, arguments: Arguments) -> Path | None:
    """The folder of a model: as named, or where a hub's cache keeps it."""
    subfolder = arguments.values.get("adapter_folder") or ""
    folder = user_path(path)
    if folder.is_dir():
        return folder / subfolder if (folder / subfolder / "adapter_config.json").is_file() else folder
    from transformers.utils.hub import cached_file

    revision, cache = (arguments.values.get(key) for key in ("model_revision", "cache_dir"))
    for name in ("config.json", f"{subfolder}/adapter_config.json".lstrip("/")):
        try:
            cached = cached_file(path, name, cache_dir=cache or None, revision=revision or None, local_files_only=True)
        except (OSError, ValueError):  # not in the cache, or no name that a hub could have
            continue
        if isinstance(cached, str):
            return Path(cached).parent
    return None
