"""Limits of one request: time to its last byte, and bytes on the wire.

Both are counted where bytes arrive, below headers, redirects, chunks and compression, so that none of them evades it.
"""

from __future__ import annotations

import ssl
import time
from typing import Any

import httpcore

FRAMING_BYTES = 2**20
"""Bytes of headers and chunk sizes, in addition to the bodies."""


class Exceeded(Exception):
    """A request exceeded a limit."""


class TooLong(Exceeded):
    """The time limit."""


class TooMuch(Exceeded):
    """The byte limit."""


class Allowance:
    """What is left to the current request; ``grant`` starts another."""

    def __init__(self) -> None:
        self._ends, self._bytes, self._answered = float("inf"), 0, False

    def grant(self, seconds: float, size: int) -> None:
        """Start a request, redirects included: its seconds until the last byte, and the bytes of the answer's body."""
        self._ends, self._bytes, self._answered = time.monotonic() + seconds, size + FRAMING_BYTES, False

    def wait(self, timeout: float | None) -> float:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TooLong
        return left if timeout is None else min(timeout, left)

    def take(self, count: int) -> None:
        self._answered = True
        self._bytes -= count
        if self._bytes < 0:
            raise TooMuch

    def require_silence(self) -> None:
        """A timeout without any byte may be retried; one in the middle of an answer ends the request."""
        if self._answered:
            raise TooLong


class LimitedStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, allowance: Allowance) -> None:
        self._stream, self._allowance = stream, allowance

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            block = self._stream.read(max_bytes, self._allowance.wait(timeout))
        except httpcore.ReadTimeout:
            self._allowance.require_silence()
            raise
        self._allowance.take(len(block))
        return block

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._allowance.wait(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._allowance.wait(timeout))
        return LimitedStream(stream, self._allowance)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
