"""The visible form, in gradio: controls that read and write the one hidden field, and the tab of a run to watch."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dataflex.errors import ConfigError, DataFlexError
from dataflex.kinds import TrainType
from dataflex.plugins.catalog import Catalog
from dataflex.plugins.manager import PluginManager
from dataflex.webui import edits, run_file
from dataflex.webui.choice import SHOWN, Choice
from dataflex.webui.drawn import Drawn
from dataflex.webui.offer import broken
from dataflex.webui.started import Check, Started, as_text
from dataflex.webui.watching import REPORT, Watching, framed, report_of
from dataflex.webui.words import WORDS, word

EVERY = 2.0
"""Seconds between two looks at a run."""

_WORDS = {
    "dataflex_tab": ("title", "label"),
    "dataflex_on": ("on", "label"),
    "dataflex_train_type": ("train_type", "label"),
    "dataflex_file": ("download", "value"),
    "dataflex_follow": ("follow", "label"),
    "dataflex_report": ("report", "value"),
}
"""Elements that are always there: a word of ours, and the property of the element that takes it."""

_UNSEEN = "dataflex-unseen"
_HIDING = f"<style>.{_UNSEEN} {{ display: none !important; }}</style>"
_SAVING = """(text) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  link.download = "NAME";
  link.click();
  URL.revokeObjectURL(link.href);
}"""


class Section(Started):
    """DataFlex in LlamaBoard, as :class:`dataflex.bridge.board.Section` asks for it.

    Args:
        plugins: The plugins, loaded.
        check: Finds what is wrong with a run.
        values: The values of ``-p``.
    """

    def __init__(self, plugins: PluginManager, check: Check, values: Sequence[str] = ()) -> None:
        super().__init__(Catalog(plugins.plugins), check, values)
        self._broken = broken(plugins.plugins, self._catalog)
        self._watching = Watching()
        self._file: Any = None  # the button for the run file

    def words(self) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
        """Labels of the elements that are always there."""
        return {
            element: {language: {of: text} for language, text in WORDS[name].items()}
            for element, (name, of) in _WORDS.items()
        }

    def build(self, engine: Any) -> tuple[Any, Mapping[str, Any]]:
        """Build the form within the tab."""
        import gradio

        language = engine.manager.get_elem_by_id("top.lang")
        with gradio.Column(elem_classes=_UNSEEN):  # not invisible: gradio leaves out what is
            gradio.HTML(_HIDING)
            field = gradio.Textbox(value=Choice().to_json())
        seen, drawings = gradio.State(""), gradio.State(0)  # the form is drawn anew where the latter changes
        with gradio.Accordion(open=False) as tab:
            with gradio.Row():
                on = gradio.Checkbox(value=False)
                types = [each.value for each in TrainType if each is not TrainType.STATIC]
                train_type = gradio.Dropdown(types, value=TrainType.SELECT.value)
            drawn_for = [drawings.change, language.change]
            # One at a time: gradio forgets events of a drawing that another overtakes.
            gradio.render([field, language], drawn_for, concurrency_limit=1)(self._drawing(field))
            self._file = gradio.Button(size="sm")
        quiet: dict[str, Any] = {"show_progress": "hidden"}
        both = [field, on, train_type]
        on.input(_switched, both, field, **quiet)
        train_type.input(_switched, both, field, **quiet)
        field.change(_seen, [field, seen, drawings], [on, train_type, seen, drawings], **quiet)
        return field, {
            "dataflex_tab": tab,
            "dataflex_on": on,
            "dataflex_train_type": train_type,
            "dataflex_file": self._file,
        }

    def _drawing(self, field: Any) -> Callable[[str, str], None]:
        def form(text: str, language: str) -> None:
            import gradio

            choice = Choice.from_json(text)
            if choice.on:
                Drawn(self._catalog, choice, language).draw(field)
                for name, reason in self._broken:
                    gradio.Markdown(as_text(word("broken", language, name=name, reason=reason)))

        return form

    def connect(self, inputs: set[Any], run_of: Callable[[Mapping[Any, Any]], Any]) -> None:
        """Let the button hand out the run file of what all the tab's inputs say."""

        def text(data: Mapping[Any, Any]) -> str:
            return run_file.as_yaml(run_of(data))

        _handing_out(self._file, text, inputs, run_file.NAME)

    def watch(self, engine: Any) -> Mapping[str, Any]:
        """Build the tab that shows the run that was started last."""
        import gradio

        language = engine.manager.get_elem_by_id("top.lang")
        with gradio.Tab("DataFlex"):
            with gradio.Row():
                follow = gradio.Checkbox(value=True)
                report = gradio.Button(size="sm")
            shown = gradio.HTML()
        seen, timer = gradio.State(""), gradio.Timer(EVERY)
        timer.tick(self._look, [seen, language], [seen, shown], show_progress="hidden")
        follow.input(lambda on: gradio.Timer(active=bool(on)), follow, timer, show_progress="hidden")
        _handing_out(report, lambda lang: report_of(self._started(lang)), language, REPORT)
        return {"dataflex_follow": follow, "dataflex_report": report}

    def _look(self, seen: str, language: str) -> tuple[Any, Any]:
        import gradio

        now, shown = ("", None) if self.folder is None else self._watching.look(self.folder)
        if shown is None:
            now = word("no_run" if self.folder is None else "waiting", language, folder=self.folder)
        if now == seen:
            return gradio.skip(), gradio.skip()
        return now, f"<p>{html.escape(now)}</p>" if shown is None else framed(shown.whole, shown.title)

    def _started(self, language: str) -> Path:
        if self.folder is None:
            raise ConfigError(word("no_run", language))
        return self.folder

    def load(self, path: Path) -> str:
        """The text that was kept beside a file of LlamaBoard's; nothing chosen, with a warning, where it is damaged."""
        import gradio

        try:
            return super().load(path)
        except ConfigError as error:
            gradio.Warning(str(error))
            return Choice().to_json()


def _handing_out(button: Any, text: Callable[[Any], str], inputs: Any, name: str) -> None:
    """Let a button hand out a text as a file, which the browser makes: nothing is written on the server's side."""
    import gradio

    def told(given: Any) -> str:
        try:
            return text(given)
        except DataFlexError as error:
            raise gradio.Error(str(error)) from error

    with gradio.Column(elem_classes=_UNSEEN):
        unseen = gradio.Textbox()
    made = button.click(told, inputs, unseen)
    made.success(None, unseen, None, js=_SAVING.replace("NAME", name))


def _switched(text: str, on: bool, train_type: str) -> str:
    choice = edits.with_train_type(Choice.from_json(text), TrainType(train_type))
    return replace(choice, on=bool(on)).to_json()


def _seen(text: str, seen: str, drawings: int) -> tuple[bool, str, str, int]:
    """What the controls above the form show of the field, and how often the form has been drawn.

    No more often than before for a value that was just entered in it, nor where gradio tells of a change twice.
    """
    choice = Choice.from_json(text)
    anew = text != seen and not text.endswith(SHOWN)
    return choice.on, choice.train_type.value, text, drawings + anew
