"""How Sphinx builds the documentation: `make docs-site`."""

from importlib import metadata

project = "mipoison"
author = "The mipoison developers"
copyright = "2026, The mipoison developers"
release = metadata.version("mipoison")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"mipoison {release}"

# Headings can be linked to as GitHub links to them.
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True, "show-inheritance": False}
autodoc_preserve_defaults = True
# What an adapter builds on, and the documentation does without.
autodoc_mock_imports = ["art"]
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
# Names of a library that has no entry here are shown, not linked.
nitpicky = False
