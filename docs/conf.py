"""The site: pages in Markdown, the reference from docstrings, formulas as MathML. Building it needs no network."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))

from inventories import build_inventories  # noqa: E402 (the path above is needed first)

from hftransfer import __version__  # noqa: E402

project = "hftransfer"
author = "the hftransfer contributors"
project_copyright = "the hftransfer contributors"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "mathml",
    "docstrings",
    "public_names",
    "short_cells",
]
exclude_patterns = ["_*", "results/*"]

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
default_role = "code"
smartquotes = False

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_class_signature = "mixed"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_rtype = False
# Headings of settings, which docstrings of dataclasses are composed under; see hftransfer.settings.explain_fields.
SETTINGS = (
    "Domains",
    "Model",
    "Candidates",
    "Checkpoints",
    "Ranking",
    "Rows",
    "Encoder",
    "Method",
    "Adaptation",
    "Policy",
    "Masking",
    "Training objective",
    "Data",
    "Output",
    "Training defaults that differ",
)
napoleon_custom_sections = [(heading, "params_style") for heading in SETTINGS]

# Names of neighbouring libraries that docstrings link to; the inventories are kept here, as plain text.
intersphinx_mapping = build_inventories(HERE / "_inventories", HERE / "_build_inventories")
intersphinx_timeout = 0.1

html_theme = "furo"
html_title = "hftransfer"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
copybutton_exclude = ".linenos, .gp"
