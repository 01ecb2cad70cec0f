"""Print to the terminal. Text is never markup, and control codes in it are spelled out."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from retune.display_text import visible

out = Console(highlight=False)


def plain(text: str, style: str = "") -> Text:
    """Text as it is: brackets are not markup, and control codes are spelled out."""
    return Text(visible(text), style)


def show(text: str, style: str = "") -> None:
    """Print one line, never wrapped, so that paths and ids can be copied."""
    out.print(plain(text, style), soft_wrap=True)
