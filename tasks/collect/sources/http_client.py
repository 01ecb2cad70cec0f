"""HTTP client of one source: retries, and keeps within the limits of the recipe."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from tasks.collect.config import HttpSource
from tasks.collect.sources.addresses import CheckedTransport
from tasks.collect.sources.allowance import Allowance, Exceeded, TooLong, TooMuch
from tasks.collect.sources.environment import Environment
from tasks.core.errors import SourceError, SourceUnavailable
from tasks.core.progress import say
from tasks.core.retry_after import retry_after

ATTEMPTS = 6
LONGEST_WAIT = 300.0
"""Seconds; if a server asks for a longer wait, the next run tries again."""
MAX_REDIRECTS = 5
AGAIN = {408, 425, 429}
PASSING = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.DecodingError)
ENCODINGS = {"", "identity", "gzip", "deflate"}
DEFAULT_PORTS = {"http": 80, "https": 443}
HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
HEADER_VALUE = re.compile(r"(?:[!-~](?:[\t -~]*[!-~])?)?")
"""Both as in RFC 9110, 5.5 and 5.6.2, without the obsolete bytes above ASCII."""


@dataclass(frozen=True)
class Answer:
    """A server's answer; ``size`` counts the unpacked body, which is in the file passed to ``get``."""

    url: str
    status: int
    headers: httpx.Headers
    size: int = 0
    next_link: str | None = None


class _Again(Exception):
    def __init__(self, error: SourceUnavailable, after: float | None = None) -> None:
        super().__init__(error)
        self.error, self.after = error, after


class Client:
    """Requests a source's pages within its limits; its headers go to the scheme, host and port of ``origin`` only."""

    def __init__(
        self,
        source: HttpSource,
        origin: httpx.URL,
        headers: Mapping[str, str],
        environment: Environment,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.source, self.origin, self.headers, self.environment = source, origin, dict(headers), environment
        self.left = source.max_bytes
        self._allowance = Allowance()
        self._retrying = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=_wait,
            retry=retry_if_exception_type(_Again),
            sleep=sleep,
            before_sleep=_tell,
            reraise=True,
        )
        self._client = httpx.Client(
            transport=CheckedTransport(source.allow_hosts, self._allowance),
            timeout=source.timeout_seconds,
            headers={"user-agent": "retune", "accept-encoding": "gzip, deflate"},
            trust_env=False,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.close()

    def get(self, url: str, conditions: Mapping[str, str], into: Path) -> Answer:
        """Request a URL and store the body; valid answers are 200, 204 and, if ``conditions`` were sent, 304."""
        try:
            answer = self._retrying(self._try, url, conditions, into)
        except _Again as again:
            raise again.error from again.__cause__
        self.left -= answer.size
        return answer

    def _try(self, url: str, conditions: Mapping[str, str], into: Path) -> Answer:
        try:
            self._allowance.grant(self.source.timeout_seconds, self.left)
            return self._follow(url, conditions, into)
        except TooLong as error:
            what = f"The answer took longer than {self.source.timeout_seconds:g} s"
            remedy = "raise timeout_seconds, or ask for smaller pages"
            raise self._failure(SourceUnavailable, what, url, remedy) from error
        except TooMuch as error:
            what = f"The source gives more than {self.source.max_bytes:,} bytes"
            raise self._failure(SourceError, what, url, "raise max_bytes if this is expected") from error
        except PASSING as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                remedy = "set SSL_CERT_FILE to the certificates of the authority that signed the server's"
                raise self._failure(
                    SourceError, f"The server's certificate is not trusted: {error}", url, remedy
                ) from error
            what = f"The server does not answer: {error or type(error).__name__}"
            raise _Again(self._unavailable(what, url)) from error
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise self._failure(SourceError, f"The request cannot be made: {error}", url) from error

    def _follow(self, url: str, conditions: Mapping[str, str], into: Path) -> Answer:
        here = httpx.URL(url)
        for _ in range(MAX_REDIRECTS + 1):
            require_http(here, self.environment)
            headers = {**(self.headers if self._is_origin(here) else {}), **conditions}
            request = self._client.build_request("GET", here, headers=headers)
            response = self._client.send(request, stream=True)
            try:
                if not response.has_redirect_location:
                    return self._store(url, response, bool(conditions), into)
                here = here.join(response.headers["location"])
            finally:
                response.close()
        raise self._failure(
            SourceError, f"More than {MAX_REDIRECTS} redirects", url, "name the final URL in the recipe"
        )

    def _store(self, url: str, response: httpx.Response, conditional: bool, into: Path) -> Answer:
        status = response.status_code
        link = response.links.get("next", {}).get("url")
        next_link = str(response.url.join(link)) if link else None
        if status not in (200, 204) and not (status == 304 and conditional):
            raise self._refusal(url, response)
        if response.headers.get("content-encoding", "").strip().lower() not in ENCODINGS:
            what = f"The answer is packed as {response.headers['content-encoding']!r}, which was not asked for"
            raise self._failure(SourceError, what, url)
        size = 0
        with into.open("wb") as file:
            for block in response.iter_bytes():
                size += len(block)
                if max(size, response.num_bytes_downloaded) > self.left:
                    raise TooMuch
                file.write(block)
        return Answer(url, status, response.headers, size, next_link)

    def _refusal(self, url: str, response: httpx.Response) -> Exception:
        body = b""
        with suppress(Exceeded, *PASSING):  # the status is enough
            for block in response.iter_bytes():
                body += block
                if len(body) > 2_000:
                    break
        status = response.status_code
        what = f"The server answered {status} {response.reason_phrase}: {first_characters(body)}"
        if status not in AGAIN and status < 500:
            remedy = {401: "check the credentials in headers", 403: "check the credentials in headers"}
            return self._failure(SourceError, what, url, remedy.get(status, "check the URL and its parameters"))
        error = self._unavailable(what, url)
        after = retry_after(response.headers.get("retry-after"), datetime.now(UTC))
        if after is not None and after > LONGEST_WAIT:
            error.what += f" (it asks for a pause of {after:,.0f} s)"
            return self._unavailable(error.what, url)
        return _Again(error, after)

    def _is_origin(self, url: httpx.URL) -> bool:
        upgraded = (self.origin.scheme, _port(self.origin), url.scheme, _port(url)) == ("http", 80, "https", 443)
        same = (url.scheme, _port(url)) == (self.origin.scheme, _port(self.origin))
        return url.host == self.origin.host and (same or upgraded)

    def _unavailable(self, what: str, url: str) -> SourceUnavailable:
        remedy = "check that the server is up and reachable; data read before are kept"
        error = self._failure(SourceUnavailable, what, url, remedy)
        assert isinstance(error, SourceUnavailable)
        return error

    def _failure(self, kind: type[SourceError], what: str, url: str, remedy: str = "") -> SourceError:
        return kind(self.environment.hide(what), where=public_url(url, self.environment), remedy=remedy)


def require_http(url: httpx.URL, environment: Environment) -> None:
    if url.scheme not in DEFAULT_PORTS or not url.host:
        what = f"The URL begins with {url.scheme or 'no scheme'!r}: only http:// and https:// are supported"
        raise SourceError(what, where=public_url(str(url), environment), remedy="correct the url of the source")


def header_problem(name: str, value: str) -> str | None:
    """Why a header cannot be sent, without its value; None if it can."""
    if not HEADER_NAME.fullmatch(name):
        return f"The name of the header {name!r} contains a character that header names cannot have"
    if not HEADER_VALUE.fullmatch(value):
        return f"The value of the header {name!r} is not printable ASCII without white space at its ends"
    return None


def public_url(url: str, environment: Environment) -> str:
    """A URL without credentials, for messages."""
    try:
        url = str(httpx.URL(url).copy_with(userinfo=b""))
    except httpx.InvalidURL:
        url = url.rpartition("@")[2]
    return environment.hide(url)


def first_characters(body: bytes, count: int = 200) -> str:
    """The beginning of a body as one printable line."""
    text = " ".join(body[: 4 * count].decode("utf-8", "replace").split())
    return "".join(character if character.isprintable() else "?" for character in text)[:count] or "(nothing)"


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, _Again) and error.after is not None:
        return error.after
    return wait_exponential_jitter(initial=1, max=60)(state)


def _tell(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, _Again):
        say(f"  {error.error.what}; attempt {state.attempt_number + 1} of {ATTEMPTS} in {state.upcoming_sleep:.0f} s")


def _port(url: httpx.URL) -> int | None:
    return url.port or DEFAULT_PORTS.get(url.scheme)
