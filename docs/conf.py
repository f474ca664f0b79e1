"""How the documentation is built: `sphinx-build -W -b html docs site`."""

import fluxflex

project = "fluxflex"
author = "The fluxflex developers"
release = version = fluxflex.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["examples"]
html_theme = "furo"
html_title = "fluxflex"
html_show_copyright = False
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
# Docstrings are written in Markdown's single backticks: code, not cross-references.
default_role = "code"
