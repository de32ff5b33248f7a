"""The documentation as a site: `make docs`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

from vfnet import __version__

project = "VFNet for Detectron2"
author = copyright = "VFNet for Detectron2 developers"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "key_tables",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["extensions"]
# `x` in docstrings is code.
default_role = "code"

myst_heading_anchors = 4
# "--resume" stays what it is.
smartquotes = False

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"

html_theme = "furo"
html_title = project
