"""The documentation as a site: ``nox -s docs``. The pages are plain Markdown, for readers of the repository as well."""

import re
from importlib.metadata import version as version_of

project = "DataFlex"
author = "The DataFlex authors"
version = release = version_of("dataflex-core")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "performance_notes.md"]
myst_heading_anchors = 3  # links to `page.md#heading`, as code hosts make them

html_theme = "furo"
html_title = f"DataFlex {version}"

autodoc_member_order = "bysource"
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!dataflex\.).*"),  # other libraries: their inventories would have to be downloaded
    ("py:class", r"dataflex\.(components\.registry\.Class|gradients\.engine\.Result)"),  # type variables
    # Of core alone:
    ("py:class", r"dataflex\.(gradients\.measuring\.Measuring|kinds\.StepKeys|math\.projection\.SparseProjection)"),
]


def setup(app):
    """Links that leave ``docs/`` lead nowhere on the site: they become the path of the file."""
    app.connect("source-read", _spell_paths)


def _spell_paths(app, name, source):
    if "/" not in name:
        source[0] = re.sub(r"\[([^\]]+)\]\(\.\./([^)]+)\)", r"\1 (`\2`)", source[0])
