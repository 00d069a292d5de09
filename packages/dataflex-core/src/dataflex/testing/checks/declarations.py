"""Checks of what a component says about itself: its plugin module, its parameters, its constructor."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from typing import Any

from dataflex.config.bind import RUN_NAMES, schema
from dataflex.errors import ConfigError
from dataflex.testing.bench import Bench
from dataflex.testing.check import CheckFailed, NotApplicable
from dataflex.testing.subject import bind_values

_PROBE = """
import importlib, json, sys
module = importlib.import_module(sys.argv[1])
if hasattr(module, "dataflex_components"):
    list(module.dataflex_components())
for name in sys.argv[2:]:
    importlib.import_module(name)
print(json.dumps("torch" in sys.modules))
"""
_UNKNOWN = "no_such_parameter"


def plugin_imports_without_torch(bench: Bench) -> None:
    """Listing components does not import torch: not the plugin's module, its hook, nor the module of its parameters.

    Mend: give the entry point a module of its own with ``dataflex_components()``, and put the class elsewhere; name it
    as ``target``, and a dataclass in a third module as ``params``.
    """
    if bench.entry.inline:
        raise NotApplicable("a file given with -p may import torch")
    params = bench.entry.spec.params
    modules = [bench.subject.find_plugin().module, *([params.partition(":")[0]] if params else [])]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    command = [sys.executable, "-c", _PROBE, *modules]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise CheckFailed(f"{modules[0]} cannot be imported alone: {done.stderr.strip().splitlines()[-1]}")
    if json.loads(done.stdout.splitlines()[-1]):
        raise CheckFailed(f"importing {' and '.join(modules)} imports torch")


def says_what_it_is(bench: Bench) -> None:
    """The list of components has one line about it.

    Mend: set ``summary`` in its ComponentSpec, or give the registered class a docstring.
    """
    summary = bench.entry.spec.summary
    if not summary.strip() or "\n" in summary:
        raise CheckFailed(f"its summary is {summary!r}, not one line")


def parameters_are_typed(bench: Bench) -> None:
    """Every parameter has a type, so that a wrong value is refused before anything loads.

    Mend: annotate the field or the argument, with types that can be imported when the module runs.
    """
    untyped = [info.name for info in schema(bench.entry) if info.annotation is Any]
    if untyped:
        raise CheckFailed(f"without a type: {', '.join(untyped)}")


def parameters_are_documented(bench: Bench) -> None:
    """Every parameter has a help text, which ``dataflex show-component`` prints.

    Mend: declare fields as ``name: type = param(default, "One sentence.")``.
    """
    if bench.entry.spec.params is None:
        raise NotApplicable("its parameters are the arguments of its constructor")
    silent = [info.name for info in schema(bench.entry) if not info.help.strip()]
    if silent:
        raise CheckFailed(f"without a help text: {', '.join(silent)}")


def parameters_are_frozen(bench: Bench) -> None:
    """Parameters cannot change while a run goes on, so that what is recorded is what was used.

    Mend: write ``@dataclass(frozen=True)``.
    """
    declared: Any = bench.entry.load_params()
    if declared is None:
        raise NotApplicable("its parameters are the arguments of its constructor")
    if not declared.__dataclass_params__.frozen:
        raise CheckFailed(f"{declared.__name__} is not frozen")


def unknown_parameter_is_refused(bench: Bench) -> None:
    """A misspelt parameter is an error, in a run file and in a test of one's own.

    Mend: leave the dataclass its own ``__init__``; one that takes ``**kwargs`` swallows what is misspelt.
    """
    try:
        bind_values(bench.entry, {**bench.values, _UNKNOWN: 1})
    except ConfigError:
        pass
    else:
        raise CheckFailed(f"component_params.{_UNKNOWN} was accepted")
    declared: Any = bench.entry.load_params()
    if declared is None:
        return
    given = {field.name: getattr(bench.bound.params, field.name) for field in dataclasses.fields(declared)}
    try:
        declared(**given, **{_UNKNOWN: 1})
    except TypeError:
        return
    raise CheckFailed(f"{declared.__name__}({_UNKNOWN}=1) was accepted")


def old_names_are_no_parameters(bench: Bench) -> None:
    """No name that the component says it ignores or refuses is one that it takes: what it says would never be read.

    Mend: take the name out of ``legacy`` or ``refused`` of the ComponentSpec, or out of the parameters and aliases.
    """
    spec, infos = bench.entry.spec, schema(bench.entry)
    taken = {*RUN_NAMES, *(name for info in infos for name in (info.name, *info.aliases))}
    both = [name for name in (*spec.legacy, *spec.refused) if name in taken]
    if both:
        raise CheckFailed(f"both old and taken: {', '.join(both)}")


def can_be_built(bench: Bench) -> None:
    """The component can be constructed with the parameters of the check, by its defaults where they are left out.

    Mend: the constructor gets ``(params, context)``, or what it asks for by name; give the check required parameters.
    """
    try:
        bench.build()
    except Exception as error:
        raise CheckFailed(f"its constructor raised {type(error).__name__}: {error}") from error


DECLARATIONS = (
    plugin_imports_without_torch,
    says_what_it_is,
    parameters_are_typed,
    parameters_are_documented,
    parameters_are_frozen,
    unknown_parameter_is_refused,
    old_names_are_no_parameters,
    can_be_built,
)
