"""``dataflex doctor``: what is installed, what is broken, what to do about it."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum

import importlib_metadata

from dataflex.bridge import versions
from dataflex.console import print_json, print_table, stdout
from dataflex.plugins.manager import REPAIR, RIVAL, PluginManager, PluginStatus, rival_installed
from dataflex.plugins.options import PluginOptions, normalise

_LIBRARIES = ("llamafactory", "transformers", "torch", "accelerate", "peft")


class State(StrEnum):
    """Outcome of one check."""

    OK = "ok"
    OFF = "off"
    FAILED = "failed"


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        area: Heading it stands under.
        name: What was looked at.
        state: Whether it is as it should be.
        detail: Version, reason or repair.
    """

    area: str
    name: str
    state: State = State.OK
    detail: str = ""


@dataclass(frozen=True)
class Report:
    """All checks."""

    checks: list[Check] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return all(check.state is not State.FAILED for check in self.checks)


def doctor(plugin_values: Sequence[str], as_json: bool) -> bool:
    """Print the report.

    Args:
        plugin_values: The values of ``-p``.
        as_json: Print a JSON object instead of a table.

    Returns:
        Whether everything is in order.
    """
    report = examine(PluginManager.load(PluginOptions.gather(plugin_values, os.environ)))
    if as_json:
        print_json({"ok": report.ok, "checks": [asdict(check) for check in report.checks]})
        return report.ok
    from rich.table import Table
    from rich.text import Text

    styles = {State.OK: "green", State.OFF: "dim", State.FAILED: "bold red"}
    table = Table(show_edge=False, pad_edge=False)
    for heading in ("area", "name", "state"):
        table.add_column(heading, no_wrap=True, overflow="ignore")
    table.add_column("detail", overflow="fold", min_width=24)
    for check in report.checks:
        table.add_row(check.area, Text(check.name), Text(check.state, style=styles[check.state]), Text(check.detail))
    print_table(table)
    failed = sum(check.state is State.FAILED for check in report.checks)
    stdout.print(f"\n{failed} of {len(report.checks)} checks failed." if failed else "\nEverything is in order.")
    return report.ok


def examine(plugins: PluginManager) -> Report:
    """Look at everything; a library that cannot be imported is a failed check, not an error."""
    checks = [*_versions(), *_plugins(plugins)]
    # Libraries print banners while they are imported.
    with contextlib.redirect_stdout(sys.stderr):
        checks += [*_seams(), *_devices()]
    return Report(checks)


def _versions() -> Iterator[Check]:
    yield Check("version", "python", detail=f"{platform.python_version()} on {platform.system()}")
    for name, version in sorted(_our_distributions().items()):
        yield Check("version", name, detail=version)
    rival = rival_installed()
    if rival is not None:
        detail = f"{rival} from PyPI owns the same import package and dataflex-cli. Repair: {REPAIR}"
        yield Check("version", RIVAL, State.FAILED, detail)
    for name in _LIBRARIES:
        try:
            yield Check("version", name, detail=importlib_metadata.version(name) or "unknown")
        except importlib_metadata.PackageNotFoundError:
            yield Check("version", name, State.FAILED, f"not installed. Repair: pip install {name}")
    reason = versions.misfit()
    if reason:
        yield Check("version", "together", State.FAILED, f"{reason}. Repair: {versions.advice()}")


def _our_distributions() -> dict[str, str]:
    found: dict[str, str] = {}
    for dist in importlib_metadata.distributions():
        try:
            name, version = normalise(dist.name), str(dist.version)
        except Exception:  # somebody's metadata is damaged: not ours to report
            continue
        if name.startswith("dataflex-"):
            found.setdefault(name, version)
    return found


def _plugins(plugins: PluginManager) -> Iterator[Check]:
    states = {PluginStatus.LOADED: State.OK, PluginStatus.BLOCKED: State.OFF}
    for plugin in plugins.plugins:
        names = ", ".join(f"{spec.kind} {spec.name}" for spec in plugin.components)
        detail = f"{plugin.status}: {plugin.reason}" if plugin.reason else f"{plugin.status}: {names or 'hooks only'}"
        yield Check("plugin", plugin.label, states.get(plugin.status, State.FAILED), detail)


def _seams() -> Iterator[Check]:
    try:
        from dataflex.bridge.llamafactory import seam_report

        report = seam_report()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # LlamaFactory's own version check may exit
        yield Check("llamafactory", "import", State.FAILED, f"{type(error).__name__}: {error}")
        return
    for seam in report:
        yield Check("llamafactory", seam.symbol, State.OK if seam.ok else State.FAILED, seam.detail)
    yield from _board()


def _board() -> Iterator[Check]:
    """LlamaBoard's seams; without gradio nothing else is missing."""
    from dataflex.bridge import board_seams
    from dataflex.bridge.llamafactory import checked

    wrong = board_seams.gradio_misfit()
    if wrong:
        yield Check("llamafactory", "webui", State.OFF, f"{wrong}: `dataflex webui` will not start")
        return
    for seam in checked(board_seams.seams()):
        yield Check("llamafactory", seam.symbol, State.OK if seam.ok else State.FAILED, seam.detail)


def _devices() -> Iterator[Check]:
    try:
        import torch
    except Exception as error:
        yield Check("device", "torch", State.FAILED, f"{type(error).__name__}: {error}")
        return
    yield Check("device", "cpu", detail=f"{os.cpu_count()} cores, {torch.get_num_threads()} threads for torch")
    for backend in ("cuda", "xpu", "npu"):
        module = getattr(torch, backend, None)
        if module is not None and module.is_available():
            for index in range(module.device_count()):
                yield Check("device", f"{backend}:{index}", detail=str(module.get_device_name(index)))
    if torch.backends.mps.is_available():
        yield Check("device", "mps", detail=platform.processor())
