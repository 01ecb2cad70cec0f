"""Fetch JSON or JSONL over HTTP(S), page by page, into a snapshot.

Each page's ETag and Last-Modified are sent with the next night's request for the same URL: an unchanged page (304) is
kept, and the next page is requested all the same.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from tasks.collect.config import HttpSource
from tasks.collect.records import ReaderSettings, Record
from tasks.collect.sources.addresses import is_address, require_public
from tasks.collect.sources.environment import Environment
from tasks.collect.sources.formats import read_file
from tasks.collect.sources.http_client import Answer, Client, first_characters, header_problem, public_url, require_http
from tasks.collect.sources.json_pages import JsonPage
from tasks.collect.sources.snapshots import Part, Snapshot, State
from tasks.core.errors import SourceError
from tasks.core.files import digest_of, storable

JSONL_TYPES = {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}
JSONL_TYPES |= {"application/jsonlines", "application/x-jsonl", "text/jsonl"}
ENDINGS = {".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl"}

USERINFO = re.compile(r"(?<=://)[^/?#]*(?=@)")
PAGING = {"rows_at", "next_at", "cursor_parameter", "page_parameter", "first_page"}
"""Fields that, with the URL, determine what a source reads."""


class Page(NamedTuple):
    part: Part
    next_url: str | None


class HttpReader:
    """Reads a ``url`` source; after ``fetch``, ``fetched`` counts the pages, and the unchanged ones."""

    def __init__(
        self,
        source: HttpSource,
        settings: ReaderSettings,
        columns: Iterable[str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.source, self.settings, self._sleep = source, settings, sleep
        self.columns = None if columns is None else tuple(columns)
        self.fetched: Mapping[str, int] = {}
        where = public_url(source.url, Environment(source.url))
        self._environment = Environment(where)
        identity = source.model_dump(include={"url", "headers", "format", *PAGING})
        self._snapshot = Snapshot(settings.snapshots, "http", identity, where)

    @property
    def name(self) -> str:
        return self.source.name or self._url().host

    def check(self) -> None:
        url = self._url()
        require_http(url, self._environment)
        if is_address(url.host):  # the addresses of a name are checked at the connection
            require_public(url.host, [url.host], self.source.allow_hosts)
        self._headers()
        if problem := _paging_problem(self.source):
            raise SourceError(problem, where=public_url(self.source.url, self._environment))

    def fetch(self) -> None:
        """Read all pages; the new snapshot replaces the old one after the last page."""
        self.check()
        url, headers = self._url(), self._headers()
        origin = digest_of([str(url), headers])
        with (
            self._snapshot.update(origin) as former,
            Client(self.source, url, headers, self._environment, self._sleep) as client,
        ):
            known = {part.details["request"]: part for part in former.parts} if former else {}
            self.fetched = {"pages": 0, "unchanged_pages": 0}
            parts = tuple(self._pages(client, known, str(url)))
            self._snapshot.commit(State(origin, parts))

    def digests(self) -> Mapping[str, str]:
        return {part.label: part.digest for part in self._snapshot.current().parts}

    def records(self) -> Iterator[Record]:
        limit, name, columns = self.settings.max_field_bytes, self.name, self.columns
        before = 0
        for part in self._snapshot.current().parts:
            path = self._snapshot.path(part)
            for record in read_file(path, "jsonl", name=name, max_field_bytes=limit, columns=columns):
                yield replace(record, line=before + record.line)
            before += part.details["lines"]

    def _url(self) -> httpx.URL:
        expand = self._environment.expand
        path, mark, query = self.source.url.partition("?")
        path = USERINFO.sub(lambda match: expand(match[0], quoted=True), path, count=1)
        written = expand(path) + mark + expand(query, quoted=True)
        try:
            return httpx.URL(written)
        except (httpx.InvalidURL, UnicodeError):  # the exception's message shows parts of the URL, possibly of a secret
            remedy = "correct the url of the source, and the values of the variables in it"
            raise SourceError("The URL cannot be read", where=self._environment.where, remedy=remedy) from None

    def _headers(self) -> dict[str, str]:
        headers = {name: self._environment.expand(value) for name, value in self.source.headers.items()}
        for problem in filter(None, (header_problem(name, value) for name, value in headers.items())):
            remedy = "correct it, or the environment variable that it is taken from"
            raise SourceError(problem, where=self._environment.where, remedy=remedy)
        return headers

    def _pages(self, client: Client, known: Mapping[str, Part], url: str) -> Iterator[Part]:
        counter = self.source.page_parameter
        next_url: str | None = _with_parameter(url, counter, self.source.first_page) if counter else url
        asked: set[str] = set()
        before: Part | None = None
        while next_url is not None:
            self._require_progress(next_url, asked)
            asked.add(next_url)
            part, following = self._page(client, known, next_url, len(asked))
            if counter:
                if before and part.details["lines"] and part.digest == before.digest:
                    what = f"Page {len(asked)} is the same as the one before it"
                    remedy = f"check that the server counts pages with the parameter {counter!r}"
                    raise SourceError(what, where=public_url(next_url, self._environment), remedy=remedy)
                is_last = not part.details["lines"]
                number = self.source.first_page + len(asked)
                following = None if is_last else _with_parameter(url, counter, number)
            yield part
            before, next_url = part, following

    def _require_progress(self, url: str, asked: set[str]) -> None:
        where = public_url(url, self._environment)
        if url in asked:
            remedy = "check next_at and cursor_parameter"
            raise SourceError("The pages form a loop: this one was read before", where=where, remedy=remedy)
        if len(asked) >= self.source.max_pages:
            remedy = "raise max_pages if this is expected"
            raise SourceError(f"There are more than {self.source.max_pages:,} pages", where=where, remedy=remedy)

    def _page(self, client: Client, known: Mapping[str, Part], url: str, number: int) -> Page:
        request = digest_of(url)
        former = known.get(request)
        body = self._snapshot.new_file()
        answer = client.get(url, former.details["conditions"] if former else {}, body)
        self.fetched = {**self.fetched, "pages": number}
        if former and answer.status == 304:
            self.fetched = {**self.fetched, "unchanged_pages": self.fetched["unchanged_pages"] + 1}
            return Page(replace(former, label=f"page-{number:05}"), former.details["next"])
        rows, following = self._rows(body, answer, number)
        conditions = _conditions(answer.headers)
        if following and self._environment.hide(following) != following:
            conditions = {}  # the next URL holds a secret, which is not stored: request this page again
        kept = following if conditions else None
        details = {"request": request, "conditions": conditions, "next": kept, "lines": _count_lines(rows)}
        return Page(self._snapshot.keep(rows, f"page-{number:05}", ".jsonl", details), following)

    def _rows(self, body: Path, answer: Answer, number: int) -> tuple[Path, str | None]:
        where = public_url(answer.url, self._environment)
        if answer.status == 204:
            body.write_bytes(b"")
            return body, None
        if self._format(body, answer, where) == "jsonl":
            return body, answer.next_link
        page = JsonPage(body, where)
        rows = self._snapshot.new_file()
        with rows.open("wb") as file:
            for row in page.rows(self.source.rows_at):
                file.write(row + b"\n")
        if self.source.next_at is None:
            return rows, answer.next_link
        return rows, self._next_url(page.value(self.source.next_at, required=number == 1), answer.url, where)

    def _format(self, body: Path, answer: Answer, where: str) -> str:
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        with body.open("rb") as file:
            beginning = file.read(1000)
        if kind in ("text/html", "application/xhtml+xml") or beginning.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            what = f"The server sent markup instead of rows: {self._environment.hide(first_characters(beginning))}"
            remedy = "check the URL and the credentials: a login page or an error looks like this"
            raise SourceError(what, where=where, remedy=remedy)
        if self.source.format:
            return self.source.format
        if kind in JSONL_TYPES:
            return "jsonl"
        if kind == "application/json" or kind.endswith("+json"):
            return "json"
        found = ENDINGS.get(Path(httpx.URL(answer.url).path).suffix.lower())
        if found is None:
            what = f"The answer is of type {kind or '(none)'}: it could be JSON or JSONL"
            raise SourceError(what, where=where, remedy="state it: format: json | jsonl")
        return found

    def _next_url(self, value: Any, url: str, where: str) -> str | None:
        if value is None or value is False or value == "":
            return None
        with suppress(httpx.InvalidURL, UnicodeError):  # a URL cannot contain a lone surrogate
            if self.source.cursor_parameter and isinstance(value, str | int):
                return _with_parameter(url, self.source.cursor_parameter, value)
            if isinstance(value, str):
                following = httpx.URL(url).join(value)
                require_http(following, self._environment)
                return str(following)
        what = f"The value at next_at is not a URL: {storable(self._environment.hide(str(value)))[:200]}"
        remedy = "if it is a cursor, name the query parameter that takes it: cursor_parameter"
        raise SourceError(what, where=where, remedy=remedy)


def _paging_problem(source: HttpSource) -> str | None:
    if source.cursor_parameter and not source.next_at:
        return "cursor_parameter needs next_at: where the cursor is in an answer"
    if source.page_parameter and source.next_at:
        return "page_parameter and next_at exclude each other: use one of them"
    if source.format == "jsonl" and (source.rows_at or source.next_at):
        return "rows_at and next_at are for JSON: a line of JSONL is a row"
    return None


def _with_parameter(url: str, name: str, value: str | int) -> str:
    return str(httpx.URL(url).copy_set_param(name, value))


def _conditions(headers: httpx.Headers) -> dict[str, str]:
    sent = {"if-none-match": headers.get("etag"), "if-modified-since": headers.get("last-modified")}
    return {name: value for name, value in sent.items() if value and header_problem(name, value) is None}


def _count_lines(file: Path) -> int:
    ends, blank, last = 0, True, b"\n"
    with file.open("rb") as stream:
        while block := stream.read(2**20):
            ends, blank, last = ends + block.count(b"\n"), blank and block.isspace(), block[-1:]
    return 0 if blank else ends + (last != b"\n")
