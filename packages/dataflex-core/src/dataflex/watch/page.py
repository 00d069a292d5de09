"""A run or a study that is watched, as HTML: with the report's templates, and without a word of script in a file."""

from __future__ import annotations

from pathlib import Path

from dataflex import __version__
from dataflex.errors import ConfigError
from dataflex.record import files
from dataflex.report import plots
from dataflex.report.page import environment, figure, section
from dataflex.study.page import is_study
from dataflex.watch.study import HEADS, StudyView, StudyViewer
from dataflex.watch.view import View, Viewer

AnyView = View | StudyView
AnyViewer = Viewer | StudyViewer


def viewer_of(folder: Path) -> AnyViewer:
    """Who looks at a folder: a run's output directory, or the folder of a study.

    Raises:
        ConfigError: if it is neither.
    """
    if is_study(folder):
        return StudyViewer(folder)
    viewer = Viewer(folder, folder.resolve().name)
    if not viewer.follower.begun:
        what = "holds neither dataflex/run.json nor decisions.jsonl nor trainer_log.jsonl"
        raise ConfigError(
            f"{folder} is not the output directory of a run: it {what if folder.is_dir() else 'is no folder'}. Name "
            "the output_dir of a run file, or the folder of a study; a run that was just started may take a moment."
        )
    return viewer


def version_of(viewer: AnyViewer) -> int:
    """A number that rises when what :func:`body` shows has changed."""
    return viewer.follower.changed if isinstance(viewer, Viewer) else 0


def head(view: AnyView) -> str:
    """The part of a page that is renewed at each look: state, facts, and all of a study."""
    return environment("dataflex.watch").get_template("head.html").render(view=view, heads=HEADS)


def body(view: AnyView) -> str:
    """The part of a page that is renewed when a run has written something: plots, samples, configuration."""
    if isinstance(view, StudyView) or view.run is None:
        return ""
    shared, own = plots.overlays([view.run]), plots.of_run(view.run, 0)
    template = environment("dataflex.watch").get_template("body.html")
    return template.render(shared=[figure(plot) for plot in shared], section=section(view.run, own))


def page(view: AnyView, *, nonce: str = "", version: str = "", drawn: str | None = None) -> str:
    """A whole page.

    Args:
        view: What it shows.
        nonce: Allows the one script that renews it from the server; without it the page holds none.
        version: Of its body, for that script.
        drawn: Its body; it is drawn if not given.
    """
    template = environment("dataflex.watch").get_template("watch.html")
    return template.render(
        name=view.name,
        state=view.state,
        head=head(view),
        body=body(view) if drawn is None else drawn,
        nonce=nonce,
        study=isinstance(view, StudyView),
        seen=version,
        version=__version__,
    )


def write_once(folder: Path, out: Path) -> None:
    """Write the page of one look into a file.

    Raises:
        ConfigError: if the folder is neither a run's nor a study's, or cannot be read.
    """
    view = viewer_of(folder).look()
    if view.trouble:
        raise ConfigError(view.trouble)
    files.replace_text(out, page(view))
