"""Sphinx: `sphinx-build -W docs build/docs`, with the package installed (its docstrings are read)."""

from pathlib import Path

import npipes

project = "npipes"
author = "the npipes authors"
copyright = author
release = version = npipes.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["changes", "examples"]
html_theme = "furo"
html_title = f"npipes {release}"
html_static_path = ["static"]
html_css_files = ["tables.css"]
html_copy_source = False

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "alphabetical"
autodoc_typehints = "none"
autoclass_content = "class"
autodoc_mock_imports = ["npipes._native"]

OPTIONAL = {"pytest", "cli"}  # pages of parts that may be left out


def leave_out_missing(app, docname, source):
    """Pages of the toctree that are not there."""
    missing = {name for name in OPTIONAL if not (Path(app.srcdir) / f"{name}.md").exists()}
    if docname == "index":
        source[0] = "\n".join(line for line in source[0].split("\n") if line not in missing)


def setup(app):
    app.connect("source-read", leave_out_missing)
