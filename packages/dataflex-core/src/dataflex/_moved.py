"""Import paths of before 0.2: a module that moved is found under its old name until 0.3, with a warning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED: Mapping[str, str] = {
    "checkpoint_files": "checkpoint.files",
    "checkpoints": "checkpoint.folders",
    "component_state": "checkpoint.component",
    "config.plan": "config.prepared",
    "data.batch_order": "mixing.batch_order",
    "data.deficit": "mixing.deficit",
    "data.domain_rows": "mixing.domain_rows",
    "data.domains": "mixing.domains",
    "data.mixture": "mixing.sampler",
    "data.mixture_state": "mixing.state",
    "data.plan_sampler": "trainers.engine.plan_sampler",
    "data.proportions": "mixing.proportions",
    "data.ticket_loader": "trainers.engine.ticket_loader",
    "data.usage": "record.plans",
    "files": "record.files",
    "importing": "bridge.importing",
    "launch": "bridge.launch",
    "offline": "pool_scores",
    "records": "record.fields",
    "run_lock": "record.lock",
    "run_record": "record.run",
    "state": "checkpoint.state",
}
"""Old names and new ones, both below ``dataflex``."""


class MovedModules(MetaPathFinder, Loader):
    """Finds a moved module under its old name: the module itself, not a copy."""

    def __init__(self) -> None:
        self._specs: dict[str, ModuleSpec | None] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec for the old names alone."""
        package, _, name = fullname.partition(".")
        return ModuleSpec(fullname, self) if package == "dataflex" and name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module under its new name, after saying where it is."""
        new = f"dataflex.{MOVED[spec.name.partition('.')[2]]}"
        warnings.warn(f"{spec.name} is {new} from 0.2 on; the old name goes with 0.3", DeprecationWarning, 2)
        module = import_module(new)
        self._specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its own spec back; it has been executed under its own name."""
        assert module.__spec__ is not None
        module.__spec__ = self._specs.pop(module.__spec__.name)


def find_moved() -> None:
    """Let old names be found, after all others."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
