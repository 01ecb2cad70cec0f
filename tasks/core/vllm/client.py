"""The client of every served model: it sends chat requests, retries them, and names each failure."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import urllib.parse
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import aiohttp
import openai
import tenacity

from tasks.core.answer_store import Answer
from tasks.core.content import NotText, content_text
from tasks.core.errors import RetuneError, ServerError
from tasks.core.files import storable
from tasks.core.retry_after import retry_after
from tasks.core.vllm.request import Request, request_body
from tasks.core.vllm.server import Server

REQUEST_TIMEOUT_SECONDS = 600.0
CONNECT_TIMEOUT_SECONDS = 10.0
RETRIES = 4
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.5, 30.0
LONGEST_RETRY_AFTER_SECONDS = 300.0
NO_KEY = "none"
"""The key for a server that needs none."""
MOST_TOKENS = 2**31 - 1
"""The highest token count accepted from a server; counts are added up and stored."""

T = TypeVar("T")


class Unanswered(Exception):
    """A try that brought no answer.

    ``kind``: ``busy`` (429, or 503 with Retry-After), ``timeout``, ``lost`` (no connection), ``error`` (5xx, or an
    unreadable answer), ``barred`` (wrong key, unknown model: a retry cannot help). ``retry_after``: seconds that the
    server asks to wait, or None.
    """

    def __init__(
        self, why: str, kind: Literal["busy", "timeout", "lost", "error", "barred"], retry_after: float | None = None
    ) -> None:
        super().__init__(why)
        self.kind, self.retry_after = kind, retry_after


def connect(base_url: str, api_key: str, connections: int) -> openai.AsyncOpenAI:
    """A client of a server, whose URL ends with ``/v1``; the caller does the retries."""
    # The type of openai's own limits: it depends on the HTTP library that this version is built on.
    limits = type(openai.DEFAULT_CONNECTION_LIMITS)(max_connections=connections, max_keepalive_connections=connections)
    timeout = openai.Timeout(REQUEST_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS)
    is_here = is_loopback(base_url)
    needs_tls = not is_here or base_url.startswith("https:")  # loading the certificates takes 40 ms
    http = openai.DefaultAioHttpClient(limits=limits, timeout=timeout, trust_env=not is_here, verify=needs_tls)
    return openai.AsyncOpenAI(base_url=base_url, api_key=api_key, max_retries=0, timeout=timeout, http_client=http)


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this machine, so that no proxy is used."""
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def chat(client: openai.AsyncOpenAI, model: str, request: Request, *, is_vllm: bool = True) -> Answer:
    """Send a request once. If the server rejects it (400: too long), the finish reason is ``refused: ...``.

    Text parts of an answer are joined; an answer with other content is refused as well.

    vLLM gets a schema as ``structured_outputs`` and all parameters that only it knows, so that the model's own
    generation_config decides nothing. Other servers get OpenAI's ``response_format``, with an array as the property
    ``rows`` of an object, and such parameters only if the prompt sets them.

    Raises Unanswered: there is no answer.
    """
    try:
        with unanswered(client):
            # The library's typed route builds models of request and answer, which takes half as much CPU time again.
            completion: Any = await client.post(
                "/chat/completions", body={"model": model, **request_body(request, is_vllm)}, cast_to=object
            )
    except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
        return Answer(request.request_id, "", f"refused: {_clean(error.message, client)}", 0, 0)
    try:
        choice = completion["choices"][0]
        text, finish_reason = content_text(choice["message"]["content"]), choice["finish_reason"]
    except NotText as odd:
        refused = f"refused: the answer's content{odd.place} is {_clean(odd.what, client)}, not text"
        return Answer(request.request_id, "", refused, *_usage(completion.get("usage")))
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        what = f"this is not a chat completion: {_clean(repr(completion), client, 200)}"
        raise Unanswered(what, "error") from error
    reason = _clean(str(finish_reason or ""), client)
    return Answer(request.request_id, text, reason, *_usage(completion.get("usage")))


def _usage(usage: Any) -> tuple[int, int]:
    """Tokens in and out, cut to the valid range; 0 for a value that is not a number."""

    def count(name: str) -> int:
        try:
            return min(max(0, int(usage[name])), MOST_TOKENS)
        except (KeyError, TypeError, ValueError, OverflowError):
            return 0

    return count("prompt_tokens"), count("completion_tokens")


def _clean(text: str, client: openai.AsyncOpenAI, most: int = 500) -> str:
    """A server's text for messages and reports: valid UTF-8, shortened, and without the client's key."""
    hidden = text if client.api_key in ("", NO_KEY) else text.replace(client.api_key, "***")
    return storable(hidden)[:most]


@contextlib.contextmanager
def unanswered(client: openai.AsyncOpenAI) -> Iterator[None]:
    """Turn the openai library's errors into :class:`Unanswered`, without the client's key; 400 and 422 pass."""
    try:
        yield
    except (openai.BadRequestError, openai.UnprocessableEntityError):
        raise
    except (openai.APITimeoutError, aiohttp.ClientError) as error:
        if broken := _broken_connection(error):
            raise Unanswered(f"no connection ({_clean(str(broken), client)})", "lost") from error
        raise Unanswered(f"no answer within {REQUEST_TIMEOUT_SECONDS:.0f} s", "timeout") from error
    except openai.APIConnectionError as error:
        raise Unanswered(f"no connection ({_clean(str(error.__cause__ or error), client)})", "lost") from error
    except openai.APIStatusError as error:
        status, header = error.status_code, error.response.headers.get("retry-after")
        wait = retry_after(header, datetime.now(UTC), LONGEST_RETRY_AFTER_SECONDS)
        why = f"HTTP {status}: {_clean(error.message, client)}"
        if status == 429 or (status == 503 and wait is not None):
            raise Unanswered(why, "busy", wait) from error
        passing = status >= 500 or status in (408, 409, 425)
        raise Unanswered(why, "error" if passing else "barred", wait) from error
    except (openai.OpenAIError, ValueError) as error:  # status 200 without JSON
        what = f"the answer cannot be read ({type(error).__name__}: {_clean(str(error), client)})"
        raise Unanswered(what, "error") from error


def _broken_connection(error: BaseException) -> aiohttp.ClientError | None:
    """The aiohttp error of a refused or broken connection, which openai's transport reports as a timeout, too."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, aiohttp.ClientError):
        cause = cause.__cause__
    return None if isinstance(cause, TimeoutError) else cause


def delay(state: tenacity.RetryCallState) -> float:
    """Seconds before the next try: what the server asks for, or exponential with full jitter."""
    error = state.outcome.exception() if state.outcome else None
    jitter = tenacity.wait_random_exponential(multiplier=FIRST_DELAY_SECONDS, max=LONGEST_DELAY_SECONDS)(state)
    asked_for = error.retry_after if isinstance(error, Unanswered) else None
    return jitter if asked_for is None else asked_for + min(jitter, 1.0)


def ask(
    server: Server,
    model: str,
    requests: Sequence[Request],
    *,
    concurrency: int,
    on_answer: Callable[[Answer], None],
    in_flight: set[str] | None = None,
) -> None:
    """Send requests to Retune's own server; ``on_answer`` gets each answer.

    Raises ServerError: it stopped answering; ``in_flight`` then has the ids of the requests that it was asked.
    """

    async def run() -> None:
        async with connect(f"{server.url}/v1", server.api_key, concurrency) as client:

            async def send(request: Request) -> None:
                on_answer(await with_retries(server, lambda: chat(client, model, request)))

            work = ((request.request_id, send(request)) for request in requests)
            await run_concurrently(concurrency, work, set() if in_flight is None else in_flight)

    run_to_end(server, run)


async def with_retries(server: Server, attempt: Callable[[], Awaitable[T]]) -> T:
    """Repeat an unanswered attempt while the server lives and a retry can help."""

    def can_help(error: BaseException) -> bool:
        return isinstance(error, Unanswered) and error.kind != "barred" and server.process.poll() is None

    retrying = tenacity.AsyncRetrying(
        stop=tenacity.stop_after_attempt(1 + RETRIES),
        wait=delay,
        retry=tenacity.retry_if_exception(can_help),
        reraise=True,
    )

    async def once() -> T:
        return await attempt()

    return await retrying(once)


async def run_concurrently(
    concurrency: int, work: Iterator[tuple[str, Coroutine[Any, Any, None]]], in_flight: set[str]
) -> None:
    """Await named coroutines, at most ``concurrency`` at a time, each created when it starts.

    The first failure ends all; ``in_flight`` has the names of those under way, also after a failure.
    """

    async def worker() -> None:
        for name, coroutine in work:
            in_flight.add(name)
            await coroutine
            in_flight.discard(name)

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(worker())


def run_to_end(server: Server, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine that uses Retune's own server; of several failures, which share a cause, raise the first."""
    try:
        asyncio.run(main())
    except (ExceptionGroup, openai.OpenAIError, Unanswered, RetuneError) as failure:
        first = first_of(failure)
        if isinstance(first, Unanswered) and first.kind == "barred":
            raise ServerError(f"vLLM refused a request: {first}", where=str(server.log)) from first
        if isinstance(first, Unanswered):
            raise server.failure(str(first)) from first
        raise first from None


def first_of(failure: BaseException) -> BaseException:
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure
