"""How Sphinx builds these pages: `tox -e docs`, or `sphinx-build -W --keep-going -n docs docs/_build`.

Nothing is fetched: not while the pages are built, and not by whoever reads them from files.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from art_snn import __version__  # noqa: E402

project, author, release = "art-snn", "the authors of art-snn", __version__
project_copyright = "the authors of art-snn, MIT licence"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_copybutton", "extension"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"art-snn {release}"
html_math_renderer = "mathml"  # of extension.py: browsers draw it by themselves
html_copy_source = False
copybutton_exclude = ".linenos, .gp"

nb_execution_mode = "off"  # the notebook is stored with its outputs, which the tests make again
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3  # links to headings, as code hosts make them

autodoc_typehints = "description"  # the types beside what `:param x:` says
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_class_signature = "separated"
add_module_names = False
toc_object_entries_show_parents = "hide"
python_use_unqualified_type_names = True

nitpicky = True
# What others document, and names inside the package that have no entry of their own.
nitpick_ignore_regex = [
    ("py:.*", r"(torch|nn|numpy|np|art|pandas|matplotlib|collections|pathlib|os|typing|contextlib)\..*"),
    ("py:.*", r"(Tensor|DataFrame|Path|Any|PyTorchClassifier|Module|Visitor|FolderInUse)"),
    ("py:.*", r"art_snn\.(adapters|audit|datasets|engine|health|neurons|suites)\..*"),
    ("py:.*", r"art_snn\.(attacks\.ball\.BallAttack|chains\.adaptive\._Merged)"),
]
