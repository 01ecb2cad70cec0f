"""HTTP sources against a real server on loopback: pages, patience, limits, and where they may not go."""

from __future__ import annotations

import base64
import gzip
import ipaddress
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.collect.config import HttpSource
from tasks.collect.records import ReaderSettings, Record
from tasks.collect.sources.addresses import is_public
from tasks.collect.sources.http import HttpReader
from tasks.collect.sources.http_client import MAX_REDIRECTS
from tasks.core.errors import SourceError, SourceUnavailable

JSON, JSONL = "application/json", "application/x-ndjson"


@dataclass
class Sent:
    """An answer of the test server."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    promised: int | None = None
    pause: float = 0.0


@dataclass
class Asked:
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]


class Site(ThreadingHTTPServer):
    """Answers with what a function says, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer: Callable[[Asked], Sent] = lambda asked: Sent(status=404)
        self.asked: list[Asked] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Site

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        asked = Asked(parts.path, parse_qs(parts.query), {name.lower(): value for name, value in self.headers.items()})
        self.server.asked.append(asked)
        sent = self.server.answer(asked)
        self.send_response(sent.status)
        for name, value in sent.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(sent.body) if sent.promised is None else sent.promised))
        self.end_headers()
        for start in range(0, len(sent.body), 20 if sent.pause else 2**20):
            time.sleep(sent.pause)
            self.wfile.write(sent.body[start : start + (20 if sent.pause else 2**20)])
        self.close_connection = sent.promised is not None

    def log_message(self, *arguments: object) -> None:
        """Silence."""


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def as_json(value: Any, **headers: str) -> Sent:
    return Sent(json.dumps(value).encode(), headers={"Content-Type": JSON, **headers})


def as_lines(*rows: Any, **headers: str) -> Sent:
    return Sent(b"".join(json.dumps(row).encode() + b"\n" for row in rows), headers={"Content-Type": JSONL, **headers})


class Reading:
    """A reader whose waits are noted, not waited."""

    def __init__(self, folder: Path, url: str, **settings: Any) -> None:
        source = {"url": url, "allow_hosts": ("127.0.0.1",), **settings}
        self.waits: list[float] = []
        self.reader = HttpReader(
            HttpSource.model_validate(source), ReaderSettings(folder, 10_000), sleep=self.waits.append
        )

    def records(self) -> list[Record]:
        self.reader.fetch()
        return list(self.reader.records())

    def texts(self) -> list[Any]:
        return [(record.values or {}).get("text") for record in self.records()]

    def refusal(self) -> SourceError:
        with pytest.raises(SourceError) as caught:
            self.reader.fetch()
        return caught.value


@pytest.mark.parametrize(
    ("answer", "settings"),
    [
        ([{"text": "a"}, {"text": "b"}], {}),
        ({"count": 2, "items": [{"text": "a"}, {"text": "b"}]}, {}),
        ({"tags": [], "data": {"rows": [{"text": "a"}, {"text": "b"}]}}, {"rows_at": "data.rows"}),
        ([{"page": [{"text": "a"}, {"text": "b"}]}], {"rows_at": "0.page"}),
    ],
)
def test_rows_are_found_in_json_or_where_the_recipe_says(
    site: Site, tmp_path: Path, answer: Any, settings: dict[str, str]
) -> None:
    site.answer = lambda asked: as_json(answer)
    records = Reading(tmp_path, f"{site.url}/rows", **settings).records()
    assert [(record.source, record.line, record.values) for record in records] == [
        ("127.0.0.1", 1, {"text": "a"}),
        ("127.0.0.1", 2, {"text": "b"}),
    ]


@pytest.mark.parametrize(
    ("body", "settings", "said"),
    [
        (b'{"error": "no such token"}', {}, "no list of rows"),
        (b'{"a": [], "b": []}', {}, "several lists: a, b"),
        (b'{"items": {}}', {"rows_at": "items"}, "no list at rows_at: 'items'"),
        (b'{"items": []}', {"rows_at": "item.s"}, "no list at rows_at: 'item.s'"),
        (b'"nothing"', {}, "no list of rows"),
        (b'[{"text": "a"}, {"te', {}, "not valid JSON: Unterminated string"),
        (b'[{"text": "a"}] []', {}, "not valid JSON: Extra data"),
        (b"", {}, "not valid JSON"),
        (b"[" * 100_000, {}, "nested too deeply"),
        ('[{"text": "ä"}]'.encode("utf-16") + b"\xd8", {}, "not valid JSON"),
    ],
)
def test_json_without_rows_is_one_clear_error(
    site: Site, tmp_path: Path, body: bytes, settings: dict[str, str], said: str
) -> None:
    site.answer = lambda asked: Sent(body, headers={"Content-Type": JSON})
    error = Reading(tmp_path, f"{site.url}/rows", **settings).refusal()
    assert said in error.what and error.where == f"{site.url}/rows" and error.remedy and not error.retryable


def test_bad_rows_of_json_cost_only_themselves(site: Site, tmp_path: Path) -> None:
    body = b'[{"text": "a"},\n {"text": 1, "text": 2}, {"text": NaN}, {"text": "\xff"}, {"text": "\\ud800"}, 7,'
    site.answer = lambda asked: Sent(body + b'\n\t{"text":\n"b"}]', headers={"Content-Type": JSON})
    records = Reading(tmp_path, f"{site.url}/rows").records()
    assert [bool(record.values) for record in records] == [True, False, False, False, False, False, True]
    said = ["appears twice", "NaN", "0xff", "surrogate", "not a JSON object"]
    assert all(word in record.problem for word, record in zip(said, records[1:6], strict=True))
    assert [record.line for record in records] == [1, 2, 3, 4, 5, 6, 7]


def test_half_a_line_of_jsonl_is_a_bad_row_and_the_others_are_read(site: Site, tmp_path: Path) -> None:
    site.answer = lambda asked: Sent(b'{"text": "a"}\n\n{"text": "b"}\n{"te', headers={"Content-Type": JSONL})
    records = Reading(tmp_path, f"{site.url}/rows").records()
    assert [(record.line, bool(record.values)) for record in records] == [(1, True), (3, True), (4, False)]
    assert records[2].raw == '{"te'


@pytest.mark.parametrize(
    ("path", "content_type", "settings"),
    [
        ("/rows", JSONL, {}),
        ("/rows", "application/jsonl; charset=utf-8", {}),
        ("/rows.ndjson", "text/plain", {}),
        ("/rows.jsonl", "", {}),
        ("/rows", "text/plain", {"format": "jsonl"}),
    ],
)
def test_the_format_is_stated_or_told_by_content_type_or_ending(
    site: Site, tmp_path: Path, path: str, content_type: str, settings: dict[str, str]
) -> None:
    site.answer = lambda asked: Sent(b'{"text": "a"}\n', headers={"Content-Type": content_type})
    assert Reading(tmp_path, site.url + path, **settings).texts() == ["a"]


def test_an_answer_of_unknown_format_is_an_error(site: Site, tmp_path: Path) -> None:
    site.answer = lambda asked: Sent(b'{"text": "a"}\n', headers={"Content-Type": "text/plain"})
    assert "state it" in Reading(tmp_path, f"{site.url}/rows").refusal().remedy


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", JSON, JSONL])
def test_html_is_an_error_that_shows_what_came(site: Site, tmp_path: Path, content_type: str) -> None:
    page = b"\n <!doctype html><title>Sign in</title>"
    site.answer = lambda asked: Sent(page, headers={"Content-Type": content_type})
    error = Reading(tmp_path, f"{site.url}/rows", format="jsonl").refusal()
    assert "<title>Sign in" in error.what and not error.retryable


def numbered(asked: Asked) -> int:
    return int(asked.query.get("page", asked.query.get("after", ["1"]))[0])


def test_pages_follow_a_url_in_the_answer(site: Site, tmp_path: Path) -> None:
    def answer(asked: Asked) -> Sent:
        page = numbered(asked)
        following = {1: "/rows?page=2", 2: f"{site.url}/rows?page=3"}.get(page)
        return as_json({"rows": [{"text": page}], "links": {"next": following}})

    site.answer = answer
    one = Reading(tmp_path, f"{site.url}/rows", next_at="links.next")
    assert [(record.line, record.values) for record in one.records()] == [(n, {"text": n}) for n in (1, 2, 3)]
    assert one.reader.fetched == {"pages": 3, "unchanged_pages": 0}
    assert list(one.reader.digests()) == ["page-00001", "page-00002", "page-00003"]


def test_pages_follow_a_cursor(site: Site, tmp_path: Path) -> None:
    def answer(asked: Asked) -> Sent:
        after = int(asked.query.get("after", ["0"])[0])
        return as_json({"rows": [{"text": after}], "next": after + 1 if after < 2 else None})

    site.answer = answer
    assert Reading(tmp_path, f"{site.url}/rows?size=1", next_at="next", cursor_parameter="after").texts() == [0, 1, 2]
    assert [asked.query for asked in site.asked][1:] == [
        {"size": ["1"], "after": ["1"]},
        {"size": ["1"], "after": ["2"]},
    ]


@pytest.mark.parametrize("first", [0, 1])
def test_pages_are_counted_until_one_is_empty(site: Site, tmp_path: Path, first: int) -> None:
    site.answer = lambda asked: as_json([{"text": numbered(asked)}] if numbered(asked) < first + 3 else [])
    one = Reading(tmp_path, f"{site.url}/rows", page_parameter="page", first_page=first)
    assert one.texts() == [first, first + 1, first + 2] and len(site.asked) == 4


def test_pages_follow_the_link_header_in_json_and_jsonl(site: Site, tmp_path: Path) -> None:
    def answer(asked: Asked) -> Sent:
        page = numbered(asked)
        link = {"Link": f'<?page={page + 1}>; rel="next", </rows>; rel="first"'} if page < 3 else {}
        return (as_lines if asked.path == "/lines" else lambda row, **link: as_json([row], **link))(
            {"text": page}, **link
        )

    site.answer = answer
    assert Reading(tmp_path, f"{site.url}/rows").texts() == [1, 2, 3]
    assert Reading(tmp_path, f"{site.url}/lines").texts() == [1, 2, 3]


def test_pages_that_run_in_a_circle_are_an_error(site: Site, tmp_path: Path) -> None:
    site.answer = lambda asked: as_json({"rows": [], "next": f"/rows?page={3 - numbered(asked)}"})
    assert "form a loop" in Reading(tmp_path, f"{site.url}/rows?page=1", next_at="next").refusal().what
    assert len(site.asked) == 2


def test_a_server_that_ignores_the_page_number_is_an_error(site: Site, tmp_path: Path) -> None:
    site.answer = lambda asked: as_json([{"text": "always"}])
    error = Reading(tmp_path, f"{site.url}/rows", page_parameter="pgae", max_pages=5).refusal()
    assert "same as the one before" in error.what and "pgae" in error.remedy and len(site.asked) == 2


@pytest.mark.parametrize(
    ("following", "settings", "said"),
    [
        ({"page": 2}, {"next_at": "next"}, "not a URL"),
        (7, {"next_at": "next"}, "not a URL"),
        ("/r?after=\ud800", {"next_at": "next"}, "not a URL"),
        ("\ud800", {"next_at": "next", "cursor_parameter": "after"}, "not a URL"),
        ("ftp://127.0.0.1/rows", {"next_at": "next"}, "only http:// and https://"),
        ("file:///etc/passwd", {"next_at": "next"}, "only http:// and https://"),
        (None, {"next_at": "meta.next"}, "no value at next_at"),
    ],
)
def test_a_next_page_that_makes_no_sense_is_an_error(
    site: Site, tmp_path: Path, following: Any, settings: dict[str, str], said: str
) -> None:
    site.answer = lambda asked: as_json({"rows": [], "next": following})
    assert said in Reading(tmp_path, f"{site.url}/rows", **settings).refusal().what


@pytest.mark.parametrize("validator", [("ETag", "If-None-Match"), ("Last-Modified", "If-Modified-Since")])
def test_a_page_that_has_not_changed_is_kept_and_the_others_are_read(
    site: Site, tmp_path: Path, validator: tuple[str, str]
) -> None:
    versions = {1: "Mon, 02 Nov 2026 00:00:00 GMT", 2: "Tue, 03 Nov 2026 00:00:00 GMT"}

    def answer(asked: Asked) -> Sent:
        page = numbered(asked)
        if asked.headers.get(validator[1].lower()) == versions[page]:
            return Sent(status=304)
        following = "/rows?page=2" if page == 1 else None
        row = {"text": f"{page} of {versions[page]}"}
        return as_json({"rows": [row], "next": following}, **{validator[0]: versions[page]})

    site.answer = answer
    one = Reading(tmp_path, f"{site.url}/rows", next_at="next")
    one.reader.fetch()
    first = dict(one.reader.digests())
    one.reader.fetch()
    assert one.reader.digests() == first and one.reader.fetched == {"pages": 2, "unchanged_pages": 2}
    versions[2] = "Wed, 04 Nov 2026 00:00:00 GMT"
    assert one.texts() == [f"1 of {versions[1]}", f"2 of {versions[2]}"]
    assert one.reader.fetched == {"pages": 2, "unchanged_pages": 1}


def test_validators_are_not_sent_to_another_server_or_with_another_identity(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.answer = lambda asked: as_json([{"text": asked.headers["x-user"]}], ETag='"1"')
    one = Reading(tmp_path, f"{site.url}/rows", headers={"X-User": "${READER_NAME}"})
    monkeypatch.setenv("READER_NAME", "alice")
    assert one.texts() == ["alice"]
    monkeypatch.setenv("READER_NAME", "bob")
    assert one.texts() == ["bob"] and "if-none-match" not in site.asked[-1].headers


def test_a_304_that_nobody_asked_for_is_an_error(site: Site, tmp_path: Path) -> None:
    site.answer = lambda asked: Sent(status=304)
    assert "304" in Reading(tmp_path, f"{site.url}/rows").refusal().what


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_stumbles_is_asked_again_ever_later(site: Site, tmp_path: Path, status: int) -> None:
    site.answer = lambda asked: Sent(status=status) if len(site.asked) < 4 else as_json([{"text": "at last"}])
    one = Reading(tmp_path, f"{site.url}/rows")
    assert one.texts() == ["at last"]
    assert len(one.waits) == 3 and 1 <= one.waits[0] <= 2 <= one.waits[1] <= 3 and 4 <= one.waits[2] <= 5
    assert len({wait % 1 for wait in one.waits}) > 1, "no jitter"


def test_a_server_that_keeps_failing_is_named_with_its_answer(site: Site, tmp_path: Path) -> None:
    site.answer = lambda asked: Sent(b"<h1>Out of\n order</h1>", status=500)
    one = Reading(tmp_path, f"{site.url}/rows?page=7")
    error = one.refusal()
    assert isinstance(error, SourceUnavailable) and error.retryable and len(site.asked) == 6
    assert "500" in error.what and "<h1>Out of order</h1>" in error.what and error.where == f"{site.url}/rows?page=7"


def test_the_wait_that_a_server_asks_for_is_kept_and_said(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.answer = lambda asked: (
        Sent(status=429, headers={"Retry-After": "17"}) if len(site.asked) < 2 else as_json([{"text": "a"}])
    )
    one = Reading(tmp_path, f"{site.url}/rows")
    assert one.texts() == ["a"] and one.waits == [17]
    assert "429" in (said := capsys.readouterr().err) and "attempt 2 of 6 in 17 s" in said


def test_a_server_that_asks_for_an_hour_is_left_for_the_next_run(site: Site, tmp_path: Path) -> None:
    site.answer = lambda asked: Sent(status=503, headers={"Retry-After": "3600"})
    one = Reading(tmp_path, f"{site.url}/rows")
    error = one.refusal()
    assert error.retryable and "3,600 s" in error.what and not one.waits and len(site.asked) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_refusal_is_not_asked_again(site: Site, tmp_path: Path, status: int) -> None:
    site.answer = lambda asked: Sent(b'{"error": "no"}', status=status)
    error = Reading(tmp_path, f"{site.url}/rows").refusal()
    assert not error.retryable and str(status) in error.what and '{"error": "no"}' in error.what
    assert len(site.asked) == 1


def test_an_answer_that_breaks_off_is_asked_for_again(site: Site, tmp_path: Path) -> None:
    whole = as_lines({"text": "a"}, {"text": "b"})
    half = Sent(whole.body[:20], headers=whole.headers, promised=len(whole.body))
    site.answer = lambda asked: half if len(site.asked) < 2 else whole
    one = Reading(tmp_path, f"{site.url}/rows")
    assert one.texts() == ["a", "b"] and len(one.waits) == 1


def test_a_server_that_is_away_is_worth_another_try(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    one = Reading(tmp_path, f"http://127.0.0.1:{port}/rows")
    error = one.refusal()
    assert error.retryable and "refused" in error.what and len(one.waits) == 5


def test_a_silent_server_is_given_up_on(site: Site, tmp_path: Path) -> None:
    def answer(asked: Asked) -> Sent:
        time.sleep(0.3)
        return Sent()

    site.answer = answer
    error = Reading(tmp_path, f"{site.url}/rows", timeout_seconds=0.05).refusal()
    assert error.retryable and "timed out" in error.what and len(site.asked) > 1


def test_a_server_that_drips_is_given_up_on(site: Site, tmp_path: Path) -> None:
    site.answer = lambda asked: Sent(b" " * 2_000, headers={"Content-Type": JSONL}, pause=0.05)
    begun = time.monotonic()
    error = Reading(tmp_path, f"{site.url}/rows", timeout_seconds=0.3).refusal()
    assert "longer than 0.3 s" in error.what and time.monotonic() - begun < 3


class Raw:
    """A server that writes bytes without regard to HTTP, on every connection anew."""

    def __init__(self, blocks: Callable[[], Iterator[bytes]], pause: float = 0.0) -> None:
        self._blocks, self._pause = blocks, pause
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Raw:
        self._threads[0].start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._answer, args=(connection,), daemon=True))
            self._threads[-1].start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65_536)
            for block in self._blocks():
                connection.sendall(block)
                time.sleep(self._pause)


def packed_nothing(status: str = "200 OK") -> Iterator[bytes]:
    """The head of an answer, and a gzip body that goes on for ever without a byte in it."""
    yield f"HTTP/1.1 {status}\r\nContent-Type: {JSONL}\r\nContent-Encoding: gzip\r\n\r\n".encode()
    yield gzip.compress(b"")[:10]
    while True:
        yield b"\x00\x00\x00\xff\xff" * 10_000


def dripping(head: bytes) -> Iterator[bytes]:
    yield head
    while True:
        yield b"x"


def test_a_packed_body_that_never_gives_a_byte_is_bounded_in_bytes_and_time(tmp_path: Path) -> None:
    begun = time.monotonic()
    with Raw(packed_nothing) as raw:
        assert "more than 1,000 bytes" in Reading(tmp_path, raw.url, max_bytes=1_000).refusal().what
    with Raw(packed_nothing, pause=0.05) as raw:
        assert "longer than 0.5 s" in Reading(tmp_path, raw.url, timeout_seconds=0.5).refusal().what
    with Raw(lambda: packed_nothing("403 Forbidden"), pause=0.05) as raw:
        assert "answered 403" in Reading(tmp_path, raw.url, timeout_seconds=0.5).refusal().what
    assert time.monotonic() - begun < 6


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nX-Long: ", b"HTTP/1.1 500 Oh\r\nX-Long: "])
def test_a_head_that_drips_is_given_up_on(tmp_path: Path, head: bytes) -> None:
    begun = time.monotonic()
    with Raw(lambda: dripping(head), pause=0.1) as raw:
        error = Reading(tmp_path, raw.url, timeout_seconds=0.5).refusal()
    assert "longer than 0.5 s" in error.what and error.retryable and time.monotonic() - begun < 3


def test_redirects_count_as_the_time_of_one_request(site: Site, tmp_path: Path) -> None:
    def answer(asked: Asked) -> Sent:
        time.sleep(0.3)
        return Sent(status=302, headers={"Location": f"/{len(site.asked)}"})

    site.answer = answer
    error = Reading(tmp_path, f"{site.url}/0", timeout_seconds=0.5).refusal()
    assert "longer than 0.5 s" in error.what and len(site.asked) <= 2


def test_more_pages_or_bytes_than_allowed_are_an_error_and_the_snapshot_stays(site: Site, tmp_path: Path) -> None:
    site.answer = lambda asked: as_json([{"text": numbered(asked)}] if numbered(asked) < 3 else [])
    plain = {"page_parameter": "page", "first_page": 1}
    assert Reading(tmp_path, f"{site.url}/rows", **plain).texts() == [1, 2]
    few = Reading(tmp_path, f"{site.url}/rows", **plain, max_pages=2)
    assert "more than 2 pages" in few.refusal().what
    small = Reading(tmp_path, f"{site.url}/rows", **plain, max_bytes=20)
    assert "more than 20 bytes" in small.refusal().what
    assert [record.values for record in small.reader.records()] == [{"text": 1}, {"text": 2}]


def test_bytes_are_counted_after_unpacking(site: Site, tmp_path: Path) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    site.answer = lambda asked: Sent(bomb, headers={"Content-Type": JSONL, "Content-Encoding": "gzip"})
    assert len(bomb) < 20_000
    assert "more than 1,000,000 bytes" in Reading(tmp_path, f"{site.url}/rows", max_bytes=10**6).refusal().what
    assert sum(file.stat().st_size for file in tmp_path.rglob("*.tmp")) <= 10**6


def test_a_packed_answer_is_unpacked_and_an_odd_packing_is_refused(site: Site, tmp_path: Path) -> None:
    body = gzip.compress(b'{"text": "a"}\n')
    site.answer = lambda asked: Sent(body, headers={"Content-Type": JSONL, "Content-Encoding": "gzip"})
    assert Reading(tmp_path, f"{site.url}/rows").texts() == ["a"]
    site.answer = lambda asked: Sent(
        gzip.compress(body), headers={"Content-Type": JSONL, "Content-Encoding": "gzip, gzip"}
    )
    assert "not asked for" in Reading(tmp_path, f"{site.url}/rows").refusal().what


def test_redirects_are_followed_but_not_for_ever(site: Site, tmp_path: Path) -> None:
    def answer(asked: Asked) -> Sent:
        if asked.path == "/rows":
            return as_json([{"text": "a"}])
        return Sent(status=302, headers={"Location": "/rows" if asked.path == "/old" else "/circle"})

    site.answer = answer
    assert Reading(tmp_path, f"{site.url}/old").texts() == ["a"]
    site.asked.clear()
    assert "redirects" in Reading(tmp_path, f"{site.url}/circle").refusal().what
    assert len(site.asked) == MAX_REDIRECTS + 1


def test_headers_go_to_the_sources_own_server_alone(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("READER_KEY", "open-sesame")
    other = Site()
    threading.Thread(target=other.serve_forever, args=(0.02,), daemon=True).start()
    other.answer = lambda asked: as_json([{"text": "elsewhere"}])
    headers = {"Authorization": "Bearer ${READER_KEY}", "X-Api-Key": "${READER_KEY}"}
    try:
        site.answer = lambda asked: Sent(status=307, headers={"Location": f"{other.url}/rows"})
        assert Reading(tmp_path, f"{site.url}/a", headers=headers).texts() == ["elsewhere"]
        site.answer = lambda asked: as_json([], Link=f'<{other.url}/rows>; rel="next"')
        assert Reading(tmp_path, f"{site.url}/b", headers=headers).texts() == ["elsewhere"]
    finally:
        other.shutdown()
        other.server_close()
    assert all("open-sesame" in asked.headers["x-api-key"] for asked in site.asked)
    assert len(other.asked) == 2
    assert not any("open-sesame" in value for asked in other.asked for value in asked.headers.values())


def test_secrets_are_neither_shown_nor_stored(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("READER_KEY", "open sesame&x")

    def answer(asked: Asked) -> Sent:
        assert asked.query["key"] == ["open sesame&x"]
        page = numbered(asked)
        if page == 3:
            return Sent(b"bad key: open sesame&x", status=403)
        return as_json({"rows": [{"text": page}], "next": f"/r?key=open%20sesame%26x&page={page + 1}"}, ETag='"1"')

    site.answer = answer
    error = Reading(tmp_path, f"{site.url}/r?key=${{READER_KEY}}", next_at="next").refusal()
    assert "sesame" not in str(error) and "${READER_KEY}" in str(error)
    site.answer = lambda asked: answer(asked) if numbered(asked) < 2 else as_json({"rows": [], "next": None})
    one = Reading(tmp_path, f"{site.url}/r?key=${{READER_KEY}}", next_at="next")
    assert one.texts() == [1] and one.texts() == [1]
    states = [file.read_text() for file in tmp_path.rglob("state.json")]
    assert len(states) == 1 and "sesame" not in states[0]


def test_a_secret_is_hidden_as_any_url_spells_it(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("READER_KEY", "my secret&key/val")
    site.answer = lambda asked: Sent(b"my%20secret%26key/val", status=403)
    error = Reading(tmp_path, f"{site.url}/r?key=${{READER_KEY}}", page_parameter="page").refusal()
    assert "secret" not in str(error) and "key/val" not in str(error) and "${READER_KEY}" in error.where
    assert site.asked[0].query == {"key": ["my secret&key/val"], "page": ["1"]}


def test_a_password_in_the_url_is_taken_as_it_is_and_not_shown(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESK_PASSWORD", "hunter2secret/x@y?z")
    site.answer = lambda asked: as_json([{"text": asked.headers["authorization"]}])
    url = site.url.replace("http://", "http://ann:${DESK_PASSWORD}@")
    expected = base64.b64encode(b"ann:hunter2secret/x@y?z").decode()
    assert Reading(tmp_path, url).texts() == [f"Basic {expected}"]
    monkeypatch.setenv("DESK_HOST", "host:hunter2secret/xyz")
    assert "hunter2" not in str(Reading(tmp_path, "http://${DESK_HOST}/").refusal())


@pytest.mark.parametrize("value", ["sk-12345678\n", "sk-12345678\r\nX: y", "sk-12345678\u00e9", " sk-12345678"])
def test_a_header_that_cannot_be_sent_is_named_without_its_value(
    tmp_path: Path, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("READER_KEY", value)
    one = Reading(tmp_path, "http://x.org/", headers={"Authorization": "${READER_KEY}"})
    with pytest.raises(SourceError, match="value of the header 'Authorization'") as caught:
        one.reader.check()
    assert "12345678" not in str(caught.value)
    with pytest.raises(SourceError, match="name of the header 'a b'"):
        Reading(tmp_path, "http://x.org/", headers={"a b": "c"}).reader.check()


def test_validators_that_no_request_can_hold_are_not_sent_back(site: Site, tmp_path: Path) -> None:
    site.answer = lambda asked: as_json([{"text": "a"}], ETag='"\u00e9"')
    one = Reading(tmp_path, f"{site.url}/rows")
    assert one.texts() == one.texts() == ["a"] and "if-none-match" not in site.asked[1].headers


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "10.1.2.3",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "2130706433",
        "0x7f.1",
        "127.1",
        "[::1]",
        "[::]",
        "[fe80::1]",
        "[fd00::1]",
        "[ff02::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
    ],
)
def test_an_address_inside_somebodys_network_is_refused(tmp_path: Path, host: str) -> None:
    error = Reading(tmp_path, f"http://{host}:9/rows", allow_hosts=("example.org",)).refusal()
    assert "not a public address" in error.what and "allow_hosts" in error.remedy and not error.retryable


@pytest.mark.parametrize("host", ["127.0.0.1", "LOCALHOST"])
def test_a_host_that_the_recipe_allows_may_be_private(site: Site, tmp_path: Path, host: str) -> None:
    site.answer = lambda asked: as_json([{"text": "a"}])
    url = f"http://{host}:{site.server_port}/rows"
    assert Reading(tmp_path, url, allow_hosts=("localhost", "127.0.0.1")).texts() == ["a"]


def test_a_redirect_into_a_private_network_is_refused(site: Site, tmp_path: Path) -> None:
    site.answer = lambda asked: Sent(status=302, headers={"Location": f"http://localhost:{site.server_port}/secret"})
    assert "localhost is at" in Reading(tmp_path, f"{site.url}/rows").refusal().what
    assert [asked.path for asked in site.asked] == ["/rows"]


@pytest.mark.parametrize("location", ["file:///etc/passwd", "gopher://127.0.0.1/"])
def test_a_redirect_to_no_web_page_is_refused(site: Site, tmp_path: Path, location: str) -> None:
    site.answer = lambda asked: Sent(status=302, headers={"Location": location})
    error = Reading(tmp_path, f"{site.url}/rows").refusal()
    assert "only http:// and https://" in error.what and not error.retryable and len(site.asked) == 1


def test_a_name_that_resolves_otherwise_a_moment_later_gains_nothing(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the address that was checked is the one that is connected to."""
    answers = iter(["93.184.216.34", "127.0.0.1", "127.0.0.1", "127.0.0.1"])
    connected: list[str] = []

    def resolve(host: str, port: int, *arguments: Any, **options: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    def connect(address: tuple[str, int], *arguments: Any, **options: Any) -> socket.socket:
        connected.append(address[0])
        raise ConnectionRefusedError("nobody there")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    error = Reading(tmp_path, f"http://rebind.example:{site.server_port}/rows").refusal()
    assert connected == ["93.184.216.34"], "the second attempt resolved to loopback and must not connect"
    assert "rebind.example is at 127.0.0.1" in error.what


def test_a_name_with_one_private_address_among_others_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 80)) for ip in ("93.184.216.34", "10.0.0.7")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: found)
    assert "10.0.0.7" in Reading(tmp_path, "http://mixed.example/rows").refusal().what


def test_proxies_and_passwords_of_the_environment_are_not_used(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password open-sesame\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    site.answer = lambda asked: as_json([{"text": "a"}])
    assert Reading(tmp_path, f"{site.url}/rows").texts() == ["a"]
    assert "authorization" not in site.asked[0].headers


PRIVATE = st.one_of(
    *(st.ip_addresses(v=4, network=network) for network in ("10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16"))
)


@given(PRIVATE)
def test_no_spelling_makes_a_private_address_public(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    wrapped = [0xFFFF << 32, 0x0064FF9B << 96]
    assert not is_public(str(address))
    assert not any(is_public(str(ipaddress.IPv6Address(prefix | number))) for prefix in wrapped)
    assert not is_public(str(ipaddress.IPv6Address((0x2002 << 112) | (number << 80))))


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::93.184.216.34"]
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "ftp://example.org/rows"}, "only http:// and https://"),
        ({"url": "example.org/rows"}, "only http:// and https://"),
        ({"url": "http://[::1/rows"}, "cannot be read"),
        ({"url": "http://example.org:port/"}, "cannot be read"),
        ({"url": "http://10.0.0.1/"}, "not a public address"),
        ({"url": "http://x.org/?key=${NO_SUCH_KEY}"}, "NO_SUCH_KEY is not set"),
        ({"url": "http://x.org/", "headers": {"X": "${NO_SUCH_KEY}"}}, "NO_SUCH_KEY is not set"),
        ({"url": "http://x.org/", "cursor_parameter": "after"}, "needs next_at"),
        ({"url": "http://x.org/", "page_parameter": "page", "next_at": "next"}, "exclude each other"),
        ({"url": "http://x.org/", "format": "jsonl", "next_at": "next"}, "are for JSON"),
    ],
)
def test_what_makes_no_sense_is_found_before_anything_is_asked(
    tmp_path: Path, settings: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(SourceError, match=said):
        HttpReader(HttpSource.model_validate(settings), ReaderSettings(tmp_path, 100)).check()


def test_a_page_of_json_is_limited_but_jsonl_is_streamed(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.collect.sources.json_pages.LARGEST_PAGE", 100)
    site.answer = lambda asked: as_json([{"text": "x" * 200}])
    assert "JSONL" in Reading(tmp_path, f"{site.url}/rows").refusal().remedy
    site.answer = lambda asked: as_lines({"text": "x" * 200})
    assert Reading(tmp_path, f"{site.url}/rows").texts() == ["x" * 200]


def test_reading_before_fetching_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has not been fetched"):
        list(Reading(tmp_path, "http://example.org/").reader.records())


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=20, deadline=None)
@given(
    rows=st.lists(st.dictionaries(st.text(), JSON_VALUES, max_size=3), max_size=5), indent=st.none() | st.integers(0, 3)
)
def test_rows_are_cut_out_of_a_page_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], indent: int | None
) -> None:
    from tasks.collect.sources.json_pages import JsonPage

    file = tmp_path_factory.getbasetemp() / "page.json"
    file.write_bytes(json.dumps({"next": "x", "rows": rows, "n": [1, 2]}, indent=indent, ensure_ascii=False).encode())
    page = JsonPage(file, "here")
    lines = list(page.rows("rows"))
    assert [json.loads(line) for line in lines] == rows
    assert not any(b"\n" in line or b"\r" in line for line in lines)
    assert page.value("next", required=True) == "x" and page.value("gone", required=True) is None


def test_certificates_are_checked_against_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ssl

    server = Site()
    key, certificate = _certificate(tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    server.answer = lambda asked: as_json([{"text": "a"}])
    allowed = {"allow_hosts": ("localhost", "127.0.0.1")}
    try:
        untrusted = Reading(tmp_path, f"https://localhost:{server.server_port}/rows", **allowed).refusal()
        assert "not trusted" in untrusted.what and not untrusted.retryable
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert Reading(tmp_path, f"https://localhost:{server.server_port}/rows", **allowed).texts() == ["a"]
        misnamed = Reading(tmp_path, f"https://127.0.0.1:{server.server_port}/rows", **allowed).refusal()
        assert "not trusted" in misnamed.what
    finally:
        server.shutdown()
        server.server_close()


def _certificate(folder: Path, name: str) -> tuple[Path, Path]:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_file, certificate_file = folder / "key.pem", folder / "certificate.pem"
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return key_file, certificate_file
