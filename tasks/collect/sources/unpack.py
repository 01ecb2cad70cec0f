"""The bytes of a text file, unpacked and as UTF-8, in bounded blocks."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

from tasks.core.errors import SourceError
from tasks.core.files import storable

BLOCK_BYTES = 2**16
HEAD_BYTES = 512
"""First bytes, which show what a file is: up to the mark of a tar archive."""
ZSTD_FEED_BYTES = 2**10
"""Packed bytes per step: the densest zstd expands them to 32 MiB (a block of 128 KiB from 4 bytes)."""
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
UTF_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
WORKBOOK = "xl/workbook.xml"
MOST_NAMES = 5


class BrokenStream(Exception):
    """A packed file is truncated or damaged; the bytes before that are good."""


class Packing(NamedTuple):
    """``magic``: the first bytes of every such file."""

    name: str
    magic: bytes
    unpack: Callable[[BinaryIO], Iterator[bytes]]


def text_blocks(path: Path) -> Iterator[bytes]:
    """The content of a text file in UTF-8 without a byte order mark, unpacked.

    UTF-16 is converted; invalid parts stay invalid UTF-8, to be found when the row is decoded.
    """
    first, blocks = begun(unpacked(path), HEAD_BYTES)
    encoding = _encoding(first)
    if encoding == "utf-32":
        raise SourceError("The file is UTF-32", where=storable(str(path)), remedy="save it as UTF-8")
    if encoding:
        yield from _from_utf_16(blocks, encoding)
    else:
        yield next(blocks, b"").removeprefix(codecs.BOM_UTF8)
        yield from blocks


def begun(blocks: Iterator[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes of a stream, ``size`` if it has as many, and the whole stream; a break stays in its place."""
    taken: list[bytes] = []
    broken: BrokenStream | None = None
    try:
        while sum(map(len, taken)) < size and (block := next(blocks, b"")):
            taken.append(block)
    except BrokenStream as error:
        broken = error
    if len(taken) > 1:
        taken = [b"".join(taken)]

    def whole() -> Iterator[bytes]:
        if taken:
            yield taken.pop()  # and no longer in memory: a block can have megabytes
        if broken:
            raise broken
        yield from blocks

    return (taken[0][:size] if taken else b""), whole()


def _encoding(first: bytes) -> str:
    """UTF-16 or UTF-32, by the mark or, without one, by the zeros of its ASCII characters; empty for others."""
    if first.startswith(UTF_32):
        return "utf-32"
    if first.startswith(UTF_16):
        return "utf-16"
    characters = len(first) // 4
    zeros = [first[place : 4 * characters : 4].count(0) for place in range(4)]
    if not characters or sum(zeros) < characters:
        return ""
    if sorted(zeros)[1:] == [characters] * 3:
        return "utf-32"
    if not zeros[0] + zeros[2]:
        return "utf-16-le"
    return "" if zeros[1] + zeros[3] else "utf-16-be"


def _from_utf_16(blocks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
    for block in blocks:
        yield _utf8(decoder.decode(block))
    try:
        yield _utf8(decoder.decode(b"", final=True))
    except UnicodeDecodeError:
        yield b"\xff"  # an incomplete character at the end


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogatepass")


def unpacked(path: Path) -> Iterator[bytes]:
    """The bytes of a file, unpacked if its first bytes are those of a packed file, whatever its name."""
    try:
        with path.open("rb") as file:
            start = file.read(HEAD_BYTES)
            file.seek(0)
            packing = packing_of(start)
            named = PACKED.get(path.suffix.lower())
            if named and start and packing is None:
                what = f"The file is not packed with {named.name}, as its name says"
                raise SourceError(what, where=storable(str(path)), remedy=f"rename it, or pack it with {named.name}")
            try:
                yield from packing.unpack(file) if packing else _plain(file)
            except _Refused as refused:
                raise SourceError(str(refused), where=storable(str(path)), remedy=refused.remedy) from refused
    except OSError as error:
        raise SourceError(f"The file cannot be read: {error.strerror or error}", where=storable(str(path))) from error


def packing_of(first: bytes) -> Packing | None:
    """How a file with these first bytes is packed."""
    return next((packing for packing in PACKED.values() if first.startswith(packing.magic)), None)


class _Refused(Exception):
    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


def _plain(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block


def _opened_by(open_stream: Callable[[BinaryIO], Any], name: str) -> Callable[[BinaryIO], Iterator[bytes]]:
    def unpack(file: BinaryIO) -> Iterator[bytes]:
        with open_stream(file) as stream:
            while True:
                try:
                    block = stream.read1(BLOCK_BYTES)
                except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
                    raise BrokenStream(f"the {name} data are damaged here: {error}") from error
                if not block:
                    return
                yield block

    return unpack


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


def _zip(file: BinaryIO) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(file) as archive, archive.open(_only_member(archive)) as stream:
            yield from _plain(stream)
    except RuntimeError as error:  # a password
        raise _Refused(f"The zip archive cannot be read: {error}", "unpack it") from error
    except (zipfile.BadZipFile, EOFError, OSError, zlib.error, lzma.LZMAError, NotImplementedError) as error:
        raise BrokenStream(f"the zip data are damaged here: {error}") from error


def _only_member(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    if WORKBOOK in archive.namelist():
        raise _Refused("The file is an Excel workbook", "save the sheet as CSV")
    members = [one for one in archive.infolist() if not one.is_dir() and not one.filename.startswith("__MACOSX/")]
    if len(members) != 1:
        names = ", ".join(storable(one.filename) for one in members[:MOST_NAMES])
        what = (
            f"The file is a zip archive of {len(members)} files: {names}{', ...' if len(members) > MOST_NAMES else ''}"
        )
        raise _Refused(what, "unpack it, and name its folder as the source")
    return members[0]


PACKED = {
    ".gz": Packing("gzip", b"\x1f\x8b", _opened_by(lambda file: gzip.GzipFile(fileobj=file), "gzip")),
    ".zst": Packing("zstd", b"\x28\xb5\x2f\xfd", _zstd),
    ".bz2": Packing("bzip2", b"BZh91AY&SY", _opened_by(bz2.BZ2File, "bzip2")),
    ".xz": Packing("xz", b"\xfd7zXZ\x00", _opened_by(lzma.LZMAFile, "xz")),
    ".zip": Packing("zip", b"PK\x03\x04", _zip),
}
"""The packings by the ending of a name; files are known by their magic, whatever their name."""
