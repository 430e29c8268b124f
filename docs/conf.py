"""Settings of Sphinx for these pages, which are read without a network."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

from public_names import MOCKED, REFERENCE  # noqa: E402

project = "attsvm"
author = "The attsvm developers"
release = metadata.version("attsvm")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "matplotlib.sphinxext.plot_directive",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_argparse_cli",
    "gallery",
    "mathml",
    "public_names",
]
exclude_patterns = ["_ext", "_templates"]
templates_path = ["_templates"]
nitpicky = True

html_theme = "furo"
pygments_style = "tango"
pygments_dark_style = "monokai"
html_title = f"attsvm {release}"
html_static_path = ["_static"]
html_css_files = ["attsvm.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_math_renderer = "mathml"

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_mock_imports = MOCKED
autosummary_context = {"reference": REFERENCE}
numpydoc_show_class_members = False
default_role = "public"

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

plot_formats = [("png", 200)]
plot_html_show_formats = False
plot_html_show_source_link = True
plot_basedir = str(HERE / "figures")
plot_rcparams = {
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}
plot_apply_rcparams = True

gallery_figures = "all"
"""Names of the reproduced figures to show, with commas between them."""

SPECIAL = re.compile(r"(?<!\\)\||(?<=\w)_(?!\w)")


def as_plain_text(app, what, name, obj, options, lines):
    """Escape what docstrings have as it is: |x| is a norm, and μ_i has an index."""
    in_example = False
    for k, line in enumerate(lines):
        in_example = line.lstrip().startswith(">>>") or (in_example and bool(line.strip()))
        if not in_example:
            parts = re.split(r"(`+[^`]*`+)", line)
            parts[::2] = [SPECIAL.sub(r"\\\g<0>", part) for part in parts[::2]]
            lines[k] = "".join(parts)


def setup(app):
    app.connect("autodoc-process-docstring", as_plain_text, priority=900)
