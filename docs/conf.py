"""The documentation site: Markdown pages, the API from the docstrings, and the executed notebook."""

import qgnet

project = "QGNet on Lightning"
author = copyright = "the contributors to QGNet on Lightning"
version = release = qgnet.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton"]
exclude_patterns = ["_build"]
highlight_language = "bash"  # the pages' commands
default_role = "code"  # single backquotes in docstrings

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_ivar = True  # attributes are described, not indexed a second time

myst_heading_anchors = 4
nb_execution_mode = "cache"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_output_stderr = "remove"  # tqdm's advice

html_theme = "furo"
html_title = f"{project} {release}"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1f6b63", "color-brand-content": "#1f6b63"},
    "dark_css_variables": {"color-brand-primary": "#7cc8be", "color-brand-content": "#7cc8be"},
}
