"""The bytes of a text file, unpacked and as UTF-8, in bounded blocks."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from tasks.core.errors import SourceError
from tasks.core.files import storable

BLOCK_BYTES = 2**16
ZSTD_FEED_BYTES = 2**10
"""Packed bytes per step: the densest zstd expands them to 32 MiB (a block of 128 KiB from 4 bytes)."""
PACKED = {".gz": "gzip", ".zst": "zstd"}
MAGIC = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd"}
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
UTF_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


class BrokenStream(Exception):
    """A packed file is truncated or damaged; the bytes before that are good."""


def text_blocks(path: Path) -> Iterator[bytes]:
    """The content of a text file in UTF-8 without a byte order mark; ``.gz`` and ``.zst`` are unpacked.

    A file with the mark of UTF-16 is converted; invalid parts stay invalid UTF-8, to be found when the row is decoded.
    """
    blocks = unpacked(path)
    first = next(blocks, b"")
    while len(first) < 4 and (block := next(blocks, b"")):  # a packed file may yield its first bytes in pieces
        first += block
    if first.startswith(UTF_32):
        raise SourceError("The file is UTF-32", where=storable(str(path)), remedy="save it as UTF-8")
    if first.startswith(UTF_16):
        yield from _from_utf_16(first, blocks)
    else:
        yield first.removeprefix(codecs.BOM_UTF8)
        yield from blocks


def _from_utf_16(first: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-16")("surrogatepass")
    yield _utf8(decoder.decode(first))
    for block in blocks:
        yield _utf8(decoder.decode(block))
    try:
        yield _utf8(decoder.decode(b"", final=True))
    except UnicodeDecodeError:
        yield b"\xff"  # an incomplete character at the end


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogatepass")


def unpacked(path: Path) -> Iterator[bytes]:
    """The bytes of a file, unpacked if its name ends in ``.gz`` or ``.zst``."""
    ending = path.suffix.lower()
    try:
        with path.open("rb") as file:
            if ending in PACKED:
                _require_magic(file, path, ending)
            yield from UNPACKERS.get(ending, _plain)(file)
    except OSError as error:
        raise SourceError(f"The file cannot be read: {error.strerror or error}", where=storable(str(path))) from error


def _require_magic(file: BinaryIO, path: Path, ending: str) -> None:
    start = file.read(4)
    file.seek(0)
    if start and not start.startswith(MAGIC[ending]):
        what = f"The file is not packed with {PACKED[ending]}, as its name says"
        raise SourceError(what, where=storable(str(path)), remedy=f"rename it, or pack it with {PACKED[ending]}")


def _plain(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block


def _gzip(file: BinaryIO) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=file) as stream:
        while True:
            try:
                block = stream.read1(BLOCK_BYTES)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise BrokenStream(f"the gzip data are damaged here: {error}") from error
            if not block:
                return
            yield block


def _zstd(file: BinaryIO) -> Iterator[bytes]:
    import zstandard

    reader = zstandard.ZstdDecompressor()
    frame, inside = reader.decompressobj(), False
    pending = b""
    while packed := pending or file.read(ZSTD_FEED_BYTES):
        try:
            block = frame.decompress(packed)
        except zstandard.ZstdError as error:
            raise BrokenStream(f"the zstd data are damaged here: {error}") from error
        inside, pending = not frame.eof, frame.unused_data
        if frame.eof:
            frame = reader.decompressobj()
        if block:
            yield block
    if inside:
        raise BrokenStream("the zstd data are truncated")


UNPACKERS: dict[str, Callable[[BinaryIO], Iterator[bytes]]] = {".gz": _gzip, ".zst": _zstd}
