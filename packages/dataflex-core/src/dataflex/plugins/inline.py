"""Plugins that are a single file: ``-p ./mine.py``."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

from dataflex.failures.foreign import USERS_FILE


def import_file(path: Path) -> ModuleType:
    """Import a Python file, once per process.

    The module stays in :data:`sys.modules` under a name made from path and content, so that a class in it is found
    again by its ``target``. The file's folder goes to the *end* of ``sys.path``: a helper beside the file can be
    imported, and nothing installed is shadowed by a namesake in that folder.

    Raises:
        BaseException: whatever the file raises; the module is then not kept.
    """
    name = module_name(path)
    if name in sys.modules:
        return sys.modules[name]
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.append(folder)
    spec = spec_from_loader(name, SourceFileLoader(name, str(path)))
    assert spec is not None and spec.loader is not None  # a loader was given
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def module_name(path: Path) -> str:
    """Name the file's module gets: readable, and different for another path or another content."""
    digest = hashlib.sha256(os.fsencode(path) + b"\0" + path.read_bytes()).hexdigest()[:12]
    return f"{USERS_FILE}{re.sub(r'[^0-9A-Za-z]+', '_', path.stem)}_{digest}"
