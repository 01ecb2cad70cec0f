"""One client for every served model: a chat request and its answer, and what can go wrong in between."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import email.utils
import ipaddress
import json
import urllib.parse
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import aiohttp
import openai
import tenacity

from tasks.core.answer_store import Answer
from tasks.core.errors import RetuneError, ServerError
from tasks.core.files import storable
from tasks.core.prompts import Sampling
from tasks.core.vllm.server import Server

REQUEST_TIMEOUT_SECONDS = 600.0
CONNECT_TIMEOUT_SECONDS = 10.0
RETRIES = 4
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.5, 30.0
LONGEST_RETRY_AFTER_SECONDS = 300.0
NO_KEY = "none"
"""Sent to a server that wants no key."""
MOST_TOKENS = 2**31 - 1
"""That an answer is believed to have; what servers say is added up and stored."""
ROWS = "rows"
"""The property that holds an array for servers whose schemas must be of objects."""
LENIENT = {"lenient": True, "coerce_one_of": True}
"""For llguidance in vLLM: what it cannot hold an answer to (``uniqueItems``, ``not``) is left to the validation of the
answer; without this it refuses the request."""

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """One chat request.

    Attributes:
        request_id: digest of everything that determines it.
        messages: the conversation so far.
        sampling: sampling parameters.
        seed: of the server's random numbers for this request.
        json_schema: a schema that the answer must follow, or None.
        tools: what the template may tell the model that it can call (OpenAI's form, JSON text), or None. A call comes
            back as the model wrote it, in the answer's text.
    """

    request_id: str
    messages: Sequence[Mapping[str, Any]]
    sampling: Sampling
    seed: int
    json_schema: Mapping[str, Any] | None = None
    tools: str | None = None


class Unanswered(Exception):
    """A try that brought no answer.

    Attributes:
        kind: ``busy`` (429, or 503 with Retry-After), ``timeout``, ``lost`` (no connection), ``error`` (5xx, or an
            answer that is none), ``barred`` (wrong key, no such model: no retry can help).
        retry_after: seconds that the server asks to wait, or None.
    """

    def __init__(
        self,
        why: str,
        kind: Literal["busy", "timeout", "lost", "error", "barred"],
        retry_after: float | None = None,
    ) -> None:
        super().__init__(why)
        self.kind, self.retry_after = kind, retry_after


def connect(base_url: str, api_key: str, connections: int) -> openai.AsyncOpenAI:
    """A client of a server; retries are the caller's.

    Args:
        base_url: up to and including ``/v1``.
        connections: how many it may hold open.
    """
    # Of whichever HTTP library this version of openai is built on.
    limits = type(openai.DEFAULT_CONNECTION_LIMITS)(max_connections=connections, max_keepalive_connections=connections)
    timeout = openai.Timeout(REQUEST_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS)
    http = openai.DefaultAioHttpClient(limits=limits, timeout=timeout, trust_env=not is_loopback(base_url))
    return openai.AsyncOpenAI(base_url=base_url, api_key=api_key, max_retries=0, timeout=timeout, http_client=http)


def is_loopback(url: str) -> bool:
    """Whether a URL is of this machine: no proxy is asked for it."""
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def chat(client: openai.AsyncOpenAI, model: str, request: Request, *, is_vllm: bool = True) -> Answer:
    """Ask once. A request that the server refuses (400: too long, say) has the finish reason ``refused: ...``.

    A schema goes to vLLM as ``structured_outputs``; to other servers as OpenAI's ``response_format``, an array as the
    property ``rows`` of an object. vLLM also gets the parameters that only it knows, so that the model's own
    generation_config decides nothing; others get them only where the prompt sets them.

    Raises:
        Unanswered: there is no answer.
    """
    try:
        with unanswered(client):
            # The library's typed route builds models of request and answer, which takes half as much CPU time again.
            completion: Any = await client.post(
                "/chat/completions", body={"model": model, **_body(request, is_vllm)}, cast_to=object
            )
    except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
        return Answer(request.request_id, "", f"refused: {_sayable(error.message, client)}", 0, 0)
    try:
        choice = completion["choices"][0]
        text, finish_reason = choice["message"]["content"], choice["finish_reason"]
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        said = _sayable(repr(completion), client, 200)
        raise Unanswered(f"this is no chat completion: {said}", "error") from error
    reason = _sayable(str(finish_reason or ""), client)
    return Answer(request.request_id, str(text or ""), reason, *_usage(completion.get("usage")))


def _usage(usage: Any) -> tuple[int, int]:
    """Tokens in and out. No answer is lost for a count that makes no sense: it is cut to what can be, else 0."""

    def count(name: str) -> int:
        try:
            return min(max(0, int(usage[name])), MOST_TOKENS)
        except (KeyError, TypeError, ValueError, OverflowError):
            return 0

    return count("prompt_tokens"), count("completion_tokens")


def _sayable(text: str, client: openai.AsyncOpenAI, most: int = 500) -> str:
    """What a server said, fit for messages and reports: as text that UTF-8 can hold, and without our key."""
    hidden = text if client.api_key in ("", NO_KEY) else text.replace(client.api_key, "***")
    return storable(hidden)[:most]


def _body(request: Request, is_vllm: bool) -> dict[str, Any]:
    sampling = request.sampling
    body: dict[str, Any] = {
        "messages": list(request.messages),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "seed": request.seed,
    }
    for name in ("presence_penalty", "frequency_penalty"):
        if value := getattr(sampling, name):
            body[name] = value
    if request.tools is not None:
        body |= {"tools": json.loads(request.tools), "tool_choice": "none"}
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    body |= {name: getattr(sampling, name) for name in ("top_k", "min_p") if is_vllm or getattr(sampling, name)}
    if is_vllm:
        body["repetition_penalty"] = 1.0
    if request.json_schema is not None:
        schema = dict(request.json_schema)
        if is_vllm:
            body["structured_outputs"] = {"json": {"x-guidance": LENIENT, **schema}}
        else:
            named = {"name": "answer", "schema": _of_an_object(schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
    return body


def _of_an_object(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that OpenAI takes: one of an array becomes that of an object which holds it; its definitions stay."""
    if schema.get("type") != "array":
        return schema
    shared: dict[str, Any] = {name: schema[name] for name in ("$defs", "definitions") if name in schema}
    array = {name: value for name, value in schema.items() if name not in shared}
    return {
        "type": "object",
        "properties": {ROWS: array},
        "required": [ROWS],
        "additionalProperties": False,
        **shared,
    }


@contextlib.contextmanager
def unanswered(client: openai.AsyncOpenAI) -> Iterator[None]:
    """Turn the errors of the openai library into :class:`Unanswered`; a refused request (400, 422) passes.

    What the server says is shown and reported: if it repeats the client's key, the key is hidden.
    """
    try:
        yield
    except (openai.BadRequestError, openai.UnprocessableEntityError):
        raise
    except (openai.APITimeoutError, aiohttp.ClientError) as error:
        if broken := _broken_connection(error):
            raise Unanswered(f"no connection ({_sayable(str(broken), client)})", "lost") from error
        raise Unanswered(f"no answer within {REQUEST_TIMEOUT_SECONDS:.0f} s", "timeout") from error
    except openai.APIConnectionError as error:
        raise Unanswered(f"no connection ({_sayable(str(error.__cause__ or error), client)})", "lost") from error
    except openai.APIStatusError as error:
        status, wait = error.status_code, retry_after(error.response.headers)
        why = f"HTTP {status}: {_sayable(error.message, client)}"
        if status == 429 or (status == 503 and wait is not None):
            raise Unanswered(why, "busy", wait) from error
        passing = status >= 500 or status in (408, 409, 425)
        raise Unanswered(why, "error" if passing else "barred", wait) from error
    except (openai.OpenAIError, ValueError) as error:  # 200, but no JSON
        said = _sayable(str(error), client)
        raise Unanswered(f"the answer cannot be read ({type(error).__name__}: {said})", "error") from error


def _broken_connection(error: BaseException) -> aiohttp.ClientError | None:
    """What aiohttp says of a connection that was refused or broke: its transport calls that a timeout, too."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, aiohttp.ClientError):
        cause = cause.__cause__
    return None if isinstance(cause, TimeoutError) else cause


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a Retry-After header asks to wait, given in seconds or as a date; at most five minutes."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(value)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        seconds = (moment - datetime.datetime.now(datetime.UTC)).total_seconds()
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS) if seconds == seconds else None


def delay(state: tenacity.RetryCallState) -> float:
    """Seconds before the next try: what the server asks for, or exponential with full jitter."""
    error = state.outcome.exception() if state.outcome else None
    jitter = tenacity.wait_random_exponential(multiplier=FIRST_DELAY_SECONDS, max=LONGEST_DELAY_SECONDS)(state)
    asked_for = error.retry_after if isinstance(error, Unanswered) else None
    return jitter if asked_for is None else asked_for + min(jitter, 1.0)


def ask(
    server: Server, model: str, requests: Sequence[Request], *, concurrency: int, on_answer: Callable[[Answer], None]
) -> None:
    """Ask all requests of a server of ours, so many at a time; ``on_answer`` is called as each answer arrives.

    Raises:
        ServerError: the server stopped answering; answers so far were handed over.
    """

    async def run() -> None:
        async with connect(f"{server.url}/v1", server.api_key, concurrency) as client:

            async def one(request: Request) -> None:
                on_answer(await patiently(server, lambda: chat(client, model, request)))

            await bounded(concurrency, (one(request) for request in requests))

    run_to_end(server, run)


async def patiently(server: Server, attempt: Callable[[], Awaitable[T]]) -> T:
    """Repeat an attempt that brings no answer, as long as the server lives and a retry can help."""

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


async def bounded(concurrency: int, work: Iterator[Coroutine[Any, Any, None]]) -> None:
    """Await coroutines, at most ``concurrency`` at a time, each made in its turn; the first failure ends all."""

    async def worker() -> None:
        for coroutine in work:
            await coroutine

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(worker())


def run_to_end(server: Server, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine that asks a server of ours; of several failures, which have one cause, the first is raised."""
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
    """The first failure of a group, or of a group within it."""
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure
