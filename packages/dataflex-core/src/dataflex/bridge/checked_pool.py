"""The pool of a run, checked as soon as it is tokenised: around LlamaFactory's ``get_dataset``."""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from dataflex.bridge.answer_header import answer_header
from dataflex.bridge.domains import load_by_domain
from dataflex.bridge.origins import Tracer, following
from dataflex.bridge.raw_columns import raw_column
from dataflex.bridge.rebound import rebound
from dataflex.bridge.tokenized import Look, TokenisedFolders
from dataflex.bridge.unloadable import told
from dataflex.bridge.versions import incompatible
from dataflex.config.order_params import ScoreKind
from dataflex.errors import ConfigError, IncompatibleError
from dataflex.failures.foreign import foreign
from dataflex.trainers.resume.repeated import leave_if_ended

if TYPE_CHECKING:
    from dataflex.trainers.session import Session

logger = logging.getLogger("dataflex")

LOADER = "llamafactory.data.loader"
"""LlamaFactory's module that loads data sets."""

_NO_CODE = compile("", "", "exec")


def checking(
    get_dataset: Callable[..., Any], session: Session, look: Look, tracer: Tracer | None
) -> Callable[..., Any]:
    """Check the pool as soon as it is tokenised, before the model loads.

    A mix run keeps its data sets apart; in another run's pool, rows are followed to the data set they come from.
    """
    source, loader = session.run.facts.source, importlib.import_module(LOADER)
    folders = TokenisedFolders(source, session.run.facts.arguments, look, refuse=True)
    guarded, signature = folders.guarding(marked(get_dataset)), inspect.signature(get_dataset)

    def checked(
        template: Any, model_args: Any, data_args: Any, training_args: Any, *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        given = (template, model_args, data_args, training_args)
        tokenizer = signature.bind(*given, *args, **kwargs).arguments.get("tokenizer")
        session.answer_header = answer_header(template, tokenizer)
        if session.run.mixture is None:
            load = traced(data_args, training_args.process_index)
            module: dict[str, Any] = told(load, loader, source)(*given, *args, **kwargs)
        else:
            session.check_domain_names(data_args.dataset)
            call = signature.bind(*given, *args, **kwargs).arguments
            one_by_one, compare = told(guarded, loader, source), functools.partial(folders.compare, call=call)
            module, session.domains = load_by_domain(one_by_one, *given, *args, compare=compare, **kwargs)
        folders.warn()
        session.unchecked = folders.unchecked
        if "train_dataset" not in module:
            raise ConfigError(
                f"LlamaFactory found no training rows for dataset: {session.run.facts.arguments.get('dataset')} (from "
                f"{source}): tokenized_path: {data_args.tokenized_path} holds {', '.join(module) or 'nothing'}."
            )
        schedule = session.check(module["train_dataset"], training_args)
        if schedule is not None:
            leave_if_ended(session, schedule, module["train_dataset"], training_args)
        return module

    def traced(data_args: Any, process: int) -> Callable[..., Any]:
        names = tuple(data_args.dataset or ())
        by_column = any(source.kind is ScoreKind.COLUMN for source in session.given_sources())
        follower = tracer or (Tracer(names) if len(names) > 1 or by_column else None)
        if follower is None:
            return guarded
        follower.names, follower.eval_names = names, tuple(data_args.eval_dataset or ())

        def load(*args: Any, **kwargs: Any) -> dict[str, Any]:
            seam = None
            try:
                seam = origins_seam()
            except IncompatibleError as error:
                if tracer is not None or by_column:
                    raise
                if process == 0:
                    logger.warning("the share of each data set in a selection will not be known: %s", error)
            if seam is None:
                return dict(guarded(*args, **kwargs))
            with following(seam, follower):
                module: dict[str, Any] = guarded(*args, **kwargs)
            if len(names) > 1 or tracer is not None:
                session.origins = follower.origins
            session.columns = functools.partial(raw_column, follower)
            return module

        return load

    return checked


def marked(get_dataset: Callable[..., Any]) -> Callable[..., Any]:
    """LlamaFactory's ``get_dataset``, whose own errors are marked as such.

    For ``neat_packing`` it writes masks as int64 from then on, in every run of this process: that is put back.
    """

    @functools.wraps(get_dataset)
    def load(*args: Any, **kwargs: Any) -> Any:
        from datasets.arrow_writer import OptimizedTypedSequence

        with foreign(), rebound(OptimizedTypedSequence, "__init__", OptimizedTypedSequence.__init__):
            return get_dataset(*args, **kwargs)

    return load


def origins_seam() -> ModuleType:
    """LlamaFactory's loader of data sets, after checking that its functions call each other by the names rebound."""
    loader = importlib.import_module(LOADER)
    for caller, name in (
        ("_load_single_dataset", "align_dataset"),
        ("get_dataset", "_get_preprocessed_dataset"),
        ("_get_preprocessed_dataset", "_get_dataset_processor"),
    ):
        function = getattr(loader, caller, None)
        stock = function if function is None else inspect.unwrap(function)  # it may be watched
        if name not in getattr(stock, "__code__", _NO_CODE).co_names:
            raise incompatible(f"{caller} in {loader.__file__} no longer uses {name}")
    return loader
