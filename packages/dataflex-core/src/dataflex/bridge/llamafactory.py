"""The only file that imports LlamaFactory.

LlamaFactory is called, not copied: ``run_exp(dict)`` trains, and for the time of that call two names of one workflow
module are rebound, its Trainer class and its ``get_dataset``. :func:`seam_report` checks that both are still used.
Its parsers are rebound as well, to say what they refuse without a traceback.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import inspect
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from dataflex.bridge import argument_keys, trial
from dataflex.bridge.checked_pool import LOADER, checking, marked, origins_seam
from dataflex.bridge.importing import uncollected
from dataflex.bridge.origins import Tracer
from dataflex.bridge.rebound import rebound
from dataflex.bridge.refusals import explained
from dataflex.bridge.tokenized import TokenisedFolders
from dataflex.bridge.unloadable import told
from dataflex.bridge.versions import advice, describe, incompatible
from dataflex.config.run_warnings import COUNTS_WHOLE_POOL
from dataflex.config.stages import STAGES
from dataflex.config.theirs import is_enabled
from dataflex.errors import ConfigError, IncompatibleError
from dataflex.failures.foreign import foreign
from dataflex.failures.saying import said

if TYPE_CHECKING:
    from dataflex.trainers.session import Session

logger = logging.getLogger("dataflex")

_TRAINERS = {
    "sft": "CustomSeq2SeqTrainer",
    "pt": "CustomTrainer",
    "dpo": "CustomDPOTrainer",
    "kto": "CustomKTOTrainer",
    "rm": "PairwiseTrainer",
}
_TRAIN_PARSER = "get_train_args"
_PARSERS = ("get_ray_args", _TRAIN_PARSER)
ORIGINS = "origins of rows"
"""Name of the check that rows can be followed to the data set they come from."""

AnySession = TypeVar("AnySession", bound="Session")
_GET_DATASET_ARGUMENTS = {"template", "model_args", "data_args", "training_args", "stage", "tokenizer", "processor"}


@dataclasses.dataclass(frozen=True)
class SeamCheck:
    """Whether one symbol this release relies on is where it should be."""

    symbol: str
    ok: bool
    detail: str = ""


def seam_report() -> list[SeamCheck]:
    """Check every place where DataFlex holds on to LlamaFactory. Imports it: takes seconds."""
    seams: dict[str, Callable[[], object]] = {
        f"{stage}: {symbol}": functools.partial(check, stage)
        for stage in STAGES
        for symbol, check in (("trainer", _trainer_seam), ("get_dataset", _dataset_seam))
    }
    return checked({**seams, ORIGINS: origins_seam})


def checked(seams: Mapping[str, Callable[[], object]]) -> list[SeamCheck]:
    """Make checks that raise where something is not as it should be, by their names."""
    checks = []
    for name, check in seams.items():
        try:
            check()
        except Exception as error:  # whatever another version of LlamaFactory does when it is asked
            checks.append(SeamCheck(name, False, f"{type(error).__name__}: {error}"))
        else:
            checks.append(SeamCheck(name, True))
    return checks


def known_keys() -> dict[str, Any]:
    """Every key LlamaFactory's ``train`` accepts, with its type annotation.

    Raises:
        IncompatibleError: if LlamaFactory cannot be imported with the transformers that is installed.
    """
    try:
        from llamafactory.hparams import parser
    except Exception as error:  # whatever modules of other versions do when they are imported
        raise IncompatibleError(f"{describe()} cannot be imported ({said(error)}). {advice()}") from error
    return argument_keys.types_of(parser._TRAIN_ARGS)


def known_defaults() -> dict[str, Any]:
    """The same keys with their defaults; those that have to be given are left out."""
    from llamafactory.hparams import parser

    return argument_keys.defaults(parser._TRAIN_ARGS)


def lookups() -> tuple[Callable[[list[str], Any], Any], Mapping[str, Any]]:
    """LlamaFactory's function that looks data sets up by name, and its chat templates by name."""
    from llamafactory.data.parser import get_dataset_list
    from llamafactory.data.template import TEMPLATES

    return get_dataset_list, TEMPLATES


def parser_refusals(arguments: Mapping[str, Any], source: str, *, as_ranks: bool = False) -> list[ConfigError]:
    """What LlamaFactory's own parser will refuse, with every other trace of having asked it removed.

    Args:
        arguments: LlamaFactory's own keys; only those it knows.
        source: The run file, for the message.
        as_ranks: Whether torchrun will start the run.
    """
    from llamafactory.hparams import parser

    return trial.refusals(parser, arguments, known_keys(), source, as_ranks=as_ranks)


@uncollected()
def load_training() -> ModuleType:
    """Import what every training run needs, ``llamafactory.train.tuner``, and return it. Takes seconds."""
    with foreign(f"{describe()} could not be imported"):
        return importlib.import_module("llamafactory.train.tuner")


def run_static(arguments: Mapping[str, Any], source: str) -> None:
    """Train with LlamaFactory itself; only its errors while it loads data are told in other words.

    Args:
        arguments: LlamaFactory's own keys.
        source: The run file, for messages.

    Raises:
        ConfigError: when LlamaFactory refuses the keys, or cannot load the data sets.
    """
    load_training()
    from dataflex.bridge import stock_loads  # loads transformers' Trainer

    workflow = sys.modules.get(f"llamafactory.train.{arguments.get('stage', 'sft')}.workflow")
    with contextlib.ExitStack() as stack:
        if workflow is not None and hasattr(workflow, "get_dataset"):
            loader = importlib.import_module(LOADER)
            folders = TokenisedFolders(source, arguments, lookups()[0], refuse=False)
            get_dataset = folders.guarding(marked(workflow.get_dataset))
            stack.enter_context(rebound(workflow, "get_dataset", told(get_dataset, loader, source)))
        stack.enter_context(stock_loads.warned_of())
        _run_exp(dict(arguments), source)


def _run_exp(arguments: dict[str, Any], source: str, parsed: Callable[[Any], None] | None = None) -> None:
    tuner = load_training()
    with contextlib.ExitStack() as stack:
        for parser in _PARSERS:
            if hasattr(tuner, parser):  # without it, a refusal keeps its traceback
                parse = explained(getattr(tuner, parser), arguments, source)
                if parsed is not None and parser == _TRAIN_PARSER:
                    parse = _reporting(parse, parsed)
                stack.enter_context(rebound(tuner, parser, parse))
        with foreign("LlamaFactory's run failed"):
            tuner.run_exp(arguments)


def run_dynamic(
    session: AnySession,
    make_trainer: Callable[[type, AnySession], type],
    arguments: Mapping[str, Any],
    tracer: Tracer | None = None,
) -> None:
    """Train with LlamaFactory, under a dynamic Trainer class.

    Args:
        session: The run.
        make_trainer: Derives the dynamic class from LlamaFactory's.
        arguments: LlamaFactory's own keys.
        tracer: Follows the rows of the pool; by default one is made for a pool of several data sets.

    Raises:
        ConfigError: when LlamaFactory refuses the keys.
        IncompatibleError: naming the symbol, if the installed LlamaFactory has other seams.
    """
    stage = session.run.facts.stage
    home, name = _trainer_seam(stage)
    workflow = _dataset_seam(stage)
    with (
        rebound(home, name, make_trainer(getattr(home, name), session)),
        rebound(workflow, "get_dataset", checking(workflow.get_dataset, session, lookups()[0], tracer)),
    ):
        kept = {key: value for key, value in arguments.items() if key != COUNTS_WHOLE_POOL}
        _run_exp(kept, session.run.facts.source, lambda read: _keep_arguments(session, read, arguments))
    own = getattr(workflow, f"run_{stage}", None)
    if (
        not session.began and getattr(load_training(), f"run_{stage}", own) is own
    ):  # nobody has put another in its place
        raise incompatible(f"run_{stage} in {workflow.__file__} has ended without training with DataFlex's {name}")


def _reporting(parse: Callable[..., Any], parsed: Callable[[Any], None]) -> Callable[..., Any]:
    """The parser, which hands what it has read to ``parsed`` before anybody changes it."""

    @functools.wraps(parse)
    def reporting(*args: Any, **kwargs: Any) -> Any:
        read = parse(*args, **kwargs)
        parsed(read)
        return read

    return reporting


def _keep_arguments(session: Session, read: Any, given: Mapping[str, Any]) -> None:
    from dataflex.trainers.resume.arguments import Arguments

    session.arguments = Arguments.read(read, given.keys())


def run_command(argv: Sequence[str]) -> None:
    """Run one of LlamaFactory's own commands (``export``, ``chat``, ...) with its arguments untouched."""
    from llamafactory import cli

    sys.argv = ["llamafactory-cli", *argv]
    with foreign(f"LlamaFactory's {argv[0]} failed"):
        cli.main()


def device_count() -> int:
    """Accelerators LlamaFactory would use on this machine."""
    from llamafactory.extras.misc import get_device_count

    return int(get_device_count())


def _trainer_seam(stage: str) -> tuple[ModuleType, str]:
    """The module whose global of that name the workflow will read, and the name."""
    name = _TRAINERS[stage]
    workflow = importlib.import_module(f"llamafactory.train.{stage}.workflow")
    # run_dpo imports its Trainer when it is called, so the name to rebind is the trainer module's.
    home = workflow if hasattr(workflow, name) else importlib.import_module(f"llamafactory.train.{stage}.trainer")
    _require(workflow, stage, name, home)
    return home, name


def _dataset_seam(stage: str) -> ModuleType:
    workflow = importlib.import_module(f"llamafactory.train.{stage}.workflow")
    _require(workflow, stage, "get_dataset", workflow)
    missing = _GET_DATASET_ARGUMENTS - set(inspect.signature(workflow.get_dataset).parameters)
    if missing:
        raise incompatible(f"get_dataset in {workflow.__file__} no longer takes {', '.join(sorted(missing))}")
    return workflow


def _require(workflow: ModuleType, stage: str, name: str, home: ModuleType) -> None:
    runner = getattr(workflow, f"run_{stage}", None)
    if runner is None or name not in runner.__code__.co_names or not hasattr(home, name):
        raise incompatible(f"run_{stage} in {workflow.__file__} no longer uses {name}")


def allows_extra_keys() -> bool:
    """Whether ``ALLOW_EXTRA_ARGS`` tells LlamaFactory to accept unknown keys."""
    return is_enabled("ALLOW_EXTRA_ARGS")
