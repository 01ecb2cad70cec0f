"""The text of a turn's content, which data sets and servers also write in parts.

The shapes are those of OpenAI's chat and responses APIs, Anthropic's and Gemini's messages, and ChatGPT's exports
(``{"content_type": "text", "parts": ["..."]}``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.core.characters import is_blank

TEXT_PARTS = ("text", "input_text", "output_text")
THOUGHTS = ("thinking", "redacted_thinking", "reasoning", "thought")
MEDIA = frozenset({
    "image", "images", "image_url", "image_urls", "image_path", "audio", "audios", "audio_url", "input_audio", "video",
    "videos", "video_url", "file",
})  # fmt: skip
"""Keys of pictures, sound and files, of a part, a turn or a row."""


class NotText(ValueError):
    """A content, or a part of it, is not text. ``place``: of the part in the content, such as ``[1]``, or empty."""

    def __init__(self, place: str, what: str) -> None:
        super().__init__(place, what)
        self.place, self.what = place, what


def content_text(content: Any, thoughts: set[str] | None = None) -> str:
    """A text as it is; text parts joined by line ends; "" for None. Raises NotText.

    Thoughts are left out; their types are added to ``thoughts``.
    """
    if content is None or isinstance(content, str):
        return content or ""
    parts = content
    if isinstance(content, Mapping) and isinstance(content.get("parts"), list):
        if content.get("content_type", "text") != "text":
            raise NotText("", _kind(content["content_type"]))
        parts = content["parts"]
    if not isinstance(parts, list):
        return _part_text(parts, "", thoughts)
    texts = [_part_text(part, f"[{number}]", thoughts) for number, part in enumerate(parts)]
    return "\n".join(text for text in texts if text)


def says_nothing(value: Any) -> bool:
    """Whether a value says nothing: None, a blank text, NaN, or a list or mapping of blank values."""
    if isinstance(value, str):
        return is_blank(value)
    if isinstance(value, Mapping):
        return all(map(says_nothing, value.values()))
    if isinstance(value, list | tuple):
        return all(map(says_nothing, value))
    return value is None or bool(value != value)


def _part_text(part: Any, place: str, thoughts: set[str] | None) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise NotText(place, f"of type {type(part).__name__}")
    kind = part.get("type") or part.get("content_type")
    if kind in THOUGHTS:
        if thoughts is not None:
            thoughts.add(kind)
        return ""
    if kind is not None and kind not in TEXT_PARTS:
        raise NotText(place, _kind(kind))
    if medium := next((key for key in part if key in MEDIA and not says_nothing(part[key])), None):
        raise NotText(place, _kind(medium))
    text = part.get("text")
    if isinstance(text, Mapping):  # of OpenAI's assistants: {"value": "...", "annotations": []}
        text = text.get("value")
    is_part = kind in TEXT_PARTS or all(key == "text" or says_nothing(value) for key, value in part.items())
    if not is_part or not (isinstance(text, str) or (text is None and kind in TEXT_PARTS)):
        raise NotText(place, "an object without a known type")
    return text or ""


def _kind(kind: Any) -> str:
    return f"of type {str(kind)[:60]!r}"
