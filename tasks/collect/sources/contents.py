"""What a file holds, whatever its name says: read as that where it is safe, refused in one sentence where it is not."""

from __future__ import annotations

import json
import re
from itertools import islice
from pathlib import Path

from tasks.collect.config import FileFormat
from tasks.collect.sources.lines import read_lines
from tasks.collect.sources.unpack import HEAD_BYTES, BrokenStream, begun, packing_of, text_blocks, unpacked
from tasks.core.errors import SourceError
from tasks.core.files import storable

PARQUET = b"PAR1"
SAVE = "save it as CSV, JSON Lines or Parquet"
BINARY = (
    (b"\xd0\xcf\x11\xe0", "an Excel or Office file of the older kind", SAVE),
    (b"%PDF-", "a PDF document", "extract its text"),
    (b"{\\rtf", "an RTF document", "save it as plain text"),
    (b"SQLite format 3\0", "a SQLite database", "name it as a source of its own: sql: sqlite:///FILE, and a query"),
    (b"ARROW1", "an Arrow (Feather) file", "save it as Parquet"),
    (b"\xff\xff\xff\xff", "an Arrow stream", "save it as Parquet"),
    (b"Obj\x01", "an Avro file", SAVE),
    (b"\x93NUMPY", "a NumPy array", SAVE),
    (b"\x80\x04", "a Python pickle", SAVE),
    (b"\x80\x05", "a Python pickle", SAVE),
    (b"\x89PNG", "an image", "name files of text"),
    (b"\xff\xd8\xff", "an image", "name files of text"),
    (b"version https://git-lfs.github.com/spec/", "a pointer of Git LFS, not the file itself", "run git lfs pull"),
)
"""The first bytes of what no reader reads: what it is, and what to do."""
TAR, TAR_AT = b"ustar", 257
PAGE = re.compile(rb"\s*(?:<!--.*?-->\s*)*<(?:!doctype html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
XML = re.compile(rb"\s*<\?xml\b")
JSON_ROWS = re.compile(rb'\s*(?:\[\s*)?\{\s*(?:"|\})')
OPEN_BRACE = re.compile(rb"\s*\{[ \t]*[\r\n]")
DELIMITED = ("csv", "tsv")
ROWS = (*DELIMITED, "json", "jsonl")
LONGEST_LINE = 2**20


def held_format(path: Path, format: FileFormat) -> FileFormat:
    """The format to read a file in, by its first bytes: another than its name says if these are certain.

    Raises SourceError if it is something that no format reads, such as a web page.
    """
    where = storable(str(path))
    try:
        first, _ = begun(unpacked(path), HEAD_BYTES)
        if first.startswith(PARQUET):
            return "parquet"
        _refuse_binary(first, where)
        text, _ = begun(text_blocks(path), HEAD_BYTES)
    except BrokenStream:
        return format
    if format not in ROWS:
        return format
    if PAGE.match(text) or XML.match(text):
        kind = "a web page (HTML)" if PAGE.match(text) else "an XML document"
        raise SourceError(f"The file is {kind}", where=where, remedy=f"download the data themselves, or {SAVE}")
    if format in DELIMITED:
        return "json" if JSON_ROWS.match(text) else format
    return "json" if format == "jsonl" and _is_one_document(path, text, where) else format


def _refuse_binary(first: bytes, where: str) -> None:
    packing = packing_of(first)
    if packing is not None:
        what = f"The file is packed twice: inside is {packing.name}"
        raise SourceError(what, where=where, remedy="unpack it once")
    if first[TAR_AT:].startswith(TAR):
        raise SourceError("The file is a tar archive", where=where, remedy="unpack it, and name its folder")
    for magic, what, remedy in BINARY:
        if first.startswith(magic):
            raise SourceError(f"The file is {what}", where=where, remedy=remedy)


def _is_one_document(path: Path, text: bytes, where: str) -> bool:
    """Whether a file named as JSON Lines is one JSON document: a list of rows, or an object over several lines."""
    if not text.lstrip().startswith(b"["):
        return OPEN_BRACE.match(text) is not None
    lines = (line.content for line in read_lines(text_blocks(path), LONGEST_LINE) if line.content.strip())
    first, second = [*islice(lines, 2), b"", b""][:2]
    if second.lstrip().startswith(b"[") and _is_json(first):
        what, remedy = "Each line is a JSON list, not an object", 'write rows such as {"messages": [...]}'
        raise SourceError(what, where=where, remedy=remedy)
    return True


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True
