"""Make Great Expectations' Data Docs readable without a network.

Their icons, styles and the table of the first page come from other servers. Without those, no page shows which rule
held, and the first page is empty. With a network, their own styles replace what is added here.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from types import CodeType
from typing import Any

from jinja2 import BytecodeCache
from jinja2.bccache import Bucket

HEAD, TABLE = "<head>", "<table"
STYLE = """
    <style>
      body { font-family: sans-serif; }
      td, th { padding: 0.2rem 0.6rem; text-align: left; vertical-align: top; }
      .fa-check-circle::before { content: "\\2714"; }
      .fa-times::before { content: "\\2718"; }
      .fa-exclamation-triangle::before { content: "\\26A0"; }
      .text-success { color: #28a745; }
      .text-warning { color: #b8860b; }
      .text-danger { color: #dc3545; }
    </style>"""
LOGO = re.compile(r"<img\b[^>]*\bsrc=\"https://great-expectations-web-assets\.[^>]*>")
"""Its request carries an id of the installation and the time of the page."""


def make_readable_offline(data_docs: Path) -> None:
    """Add plain styles to the pages and links to the results to ``index.html``; remove the remote logo."""
    for page in data_docs.rglob("*.html"):
        text = LOGO.sub("", page.read_text(encoding="utf-8")).replace(HEAD, HEAD + STYLE, 1)
        page.write_text(text, encoding="utf-8")
    first = data_docs / "index.html"
    links = "".join(_link(page, data_docs) for page in sorted(data_docs.glob("validations/**/*.html")))
    first.write_text(first.read_text(encoding="utf-8").replace(TABLE, links + TABLE, 1), encoding="utf-8")


def _link(page: Path, data_docs: Path) -> str:
    place = page.relative_to(data_docs)
    return f'<p><a href="{escape(place.as_posix())}">{escape(place.parts[1])}: each rule</a></p>\n'


class CompiledTemplates(BytecodeCache):
    """Compiled Jinja templates in memory, by name and source."""

    def __init__(self) -> None:
        self._codes: dict[tuple[str, str], CodeType] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._codes.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        assert bucket.code is not None
        self._codes[bucket.key, bucket.checksum] = bucket.code


def compile_templates_once() -> None:
    """Make Great Expectations compile each template once: it creates a Jinja environment for every page."""
    from great_expectations.render.view.view import DefaultJinjaView

    if hasattr(DefaultJinjaView, "compiled"):
        return
    create, DefaultJinjaView.compiled = DefaultJinjaView.__init__, CompiledTemplates()

    # Great Expectations passes only the arguments that it sees in the signature.
    def create_with_cache(view: Any, custom_styles_directory: Any = None, custom_views_directory: Any = None) -> None:
        create(view, custom_styles_directory, custom_views_directory)
        view.env.bytecode_cache = DefaultJinjaView.compiled

    DefaultJinjaView.__init__ = create_with_cache
