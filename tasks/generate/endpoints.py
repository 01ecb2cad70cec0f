"""The servers that answer: health, load, and choice of the next one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
import urllib.parse
from collections.abc import AsyncIterator, Sequence

import openai

from tasks.core.errors import RecipeError, ServerError
from tasks.core.progress import say
from tasks.core.vllm.client import NO_KEY, Unanswered, connect, unanswered
from tasks.core.vllm.server import Server
from tasks.generate.adaptive_concurrency import Pace
from tasks.generate.config import GenerateConfig

PROBE_SECONDS = 5.0
PROBE_EVERY_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0)
PATIENCE_SECONDS = 60.0
LAST_ANSWERS_SECONDS, LAST_ANSWERS_POLLS = 1.0, 50
OWN = "vLLM"
ADAPTER_NAME = "teacher"
NO_LIST = (400, 404, 405)


class Endpoint:
    """One server: connection, load and health.

    Attributes:
        is_vllm: whether it accepts vLLM's own parameters, found from its list of models.
        out: why it gets no requests at present, or None.
        paused_until: monotonic time until which it asked for a pause.
    """

    def __init__(self, name: str, url: str, model: str, api_key: str, concurrency: int) -> None:
        self.name, self.url, self.model, self.api_key = name, url, model, api_key
        self.pace = Pace(concurrency)
        self.is_vllm = False
        self.out: str | None = None
        self.for_good = False
        self.paused_until = 0.0
        self.client: openai.AsyncOpenAI
        self.checking = asyncio.Lock()

    async def probe(self) -> None:
        """Raise Unanswered unless it serves: it lists its models or, without such a list, reports no illness."""
        try:
            with unanswered(self.client):
                models = await self.client.with_options(timeout=PROBE_SECONDS).models.list()
            self.is_vllm = any(model.owned_by == "vllm" for model in models.data)
        except (AttributeError, TypeError) as error:
            raise Unanswered("it has no list of models: is this the base URL, up to /v1?", "error") from error
        except Unanswered as error:
            if not isinstance(error.__cause__, openai.APIStatusError) or error.__cause__.status_code not in NO_LIST:
                raise
            try:
                await self.health()
            except Unanswered as ill:
                if ill.kind != "barred":
                    raise

    async def health(self) -> None:
        """Raise Unanswered if ``/health`` does not answer, or reports an illness."""
        url = urllib.parse.urljoin(self.url, "/health")
        with unanswered(self.client), contextlib.suppress(json.JSONDecodeError):  # any answer will do
            await self.client.with_options(timeout=PROBE_SECONDS).get(url, cast_to=object)


class OwnEndpoint(Endpoint):
    """The vLLM that the stage started; once its process is dead it stays out."""

    def __init__(self, server: Server, model: str, concurrency: int) -> None:
        super().__init__(OWN, f"{server.url}/v1", model, server.api_key, concurrency)
        self.server = server
        self.is_vllm = True

    @property
    def is_dead(self) -> bool:
        return self.server.process.poll() is not None

    async def probe(self) -> None:
        if self.is_dead:
            raise Unanswered(f"its process died with exit status {self.server.process.returncode}", "barred")
        await self.health()  # vLLM lists its models even when its engine is dead


def remote_endpoints(config: GenerateConfig) -> list[Endpoint]:
    """The endpoints of a recipe, not connected yet.

    Raises RecipeError: a URL is not valid, or the variable with a key is not set.
    """
    found = []
    for number, endpoint in enumerate(config.endpoints):
        where = f"generate.endpoints[{number}]"
        parts = urllib.parse.urlsplit(endpoint.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RecipeError(
                f"{endpoint.url!r} is not an http(s) URL",
                where=f"{where}.url",
                remedy="write it up to and including /v1",
            )
        key = os.environ.get(endpoint.api_key_env, "") if endpoint.api_key_env else NO_KEY
        if not key:
            raise RecipeError(
                f"The environment variable {endpoint.api_key_env} is not set",
                where=f"{where}.api_key_env",
                remedy=f"export {endpoint.api_key_env} with the endpoint's key before the run",
            )
        url = endpoint.url.rstrip("/")
        found.append(Endpoint(url, url, endpoint.model, key, config.concurrency))
    return found


class Pool:
    """Hands out slots at endpoints: at most ``concurrency`` in total, to the healthy endpoint with most room.

    An endpoint that fails its health check is out, and is checked until it serves again. When none is left, or none has
    returned within a minute, :meth:`acquire` raises.
    """

    def __init__(self, endpoints: Sequence[Endpoint], concurrency: int) -> None:
        self.endpoints = endpoints
        self._concurrency = concurrency
        self._waiters: list[asyncio.Future[None]] = []
        self._returning: dict[Endpoint, asyncio.Task[None]] = {}
        self._none_since: float | None = None
        self.closed = False

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Hold connections open; remote endpoints are checked first."""
        async with contextlib.AsyncExitStack() as stack:
            for endpoint in self.endpoints:
                endpoint.checking = asyncio.Lock()
                endpoint.pace.in_flight = 0
                endpoint.client = connect(endpoint.url, endpoint.api_key, self._concurrency + 1)
                await stack.enter_async_context(endpoint.client)
            stack.push_async_callback(self._stop_checks)
            strangers = [one for one in self.endpoints if not isinstance(one, OwnEndpoint) and not one.for_good]
            for endpoint in strangers:
                endpoint.out = None
            await asyncio.gather(*(self.check(endpoint) for endpoint in strangers))
            yield

    async def acquire(self, avoid: Endpoint | None = None) -> Endpoint | None:
        """Wait for a slot and take it; None once the pool is closed. ``avoid`` is used only if no other has room.

        Raises ServerError: no endpoint is left; names each with its reason.
        """
        while not self.closed:
            await self.require_one()
            free = [endpoint for endpoint in self.endpoints if self._has_room(endpoint)]
            if free and sum(endpoint.pace.in_flight for endpoint in self.endpoints) < self._concurrency:
                chosen = min(free, key=lambda one: (one is avoid, one.pace.in_flight / one.pace.limit))
                chosen.pace.in_flight += 1
                return chosen
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        return None

    def release(self, endpoint: Endpoint) -> None:
        endpoint.pace.in_flight -= 1
        self._wake()

    def close(self) -> None:
        self.closed = True
        self._wake()

    async def require_one(self) -> None:
        """Raise if no endpoint is left to wait for; answers in flight still arrive."""
        if any(endpoint.out is None for endpoint in self.endpoints):
            self._none_since = None
            return
        self._none_since = self._none_since or time.monotonic()
        waited = time.monotonic() - self._none_since
        if waited > PATIENCE_SECONDS or all(endpoint.for_good for endpoint in self.endpoints):
            for _ in range(LAST_ANSWERS_POLLS):
                if any(endpoint.pace.in_flight for endpoint in self.endpoints):
                    await asyncio.sleep(LAST_ANSWERS_SECONDS / LAST_ANSWERS_POLLS)
            reasons = "\n".join(f"    {endpoint.name}: {endpoint.out}" for endpoint in self.endpoints)
            raise ServerError(
                f"No endpoint answers any more:\n{reasons}",
                where="generate.endpoints",
                remedy="fix the servers, then run again: stored answers are reused",
            )

    async def complain(self, endpoint: Endpoint, error: Unanswered, sent_at: float) -> None:
        """React to a failed try: slow down, pause the endpoint, or take it out."""
        if error.kind in ("busy", "timeout"):
            endpoint.pace.overloaded(sent_at)
        if error.kind == "busy":
            if error.retry_after:
                endpoint.paused_until = time.monotonic() + error.retry_after
                asyncio.get_running_loop().call_later(error.retry_after, self._wake)
        elif error.kind == "barred":
            self._take_out(endpoint, str(error), for_good=True)
        else:
            await self.check(endpoint)

    async def check(self, endpoint: Endpoint) -> None:
        """Take an endpoint out if it fails its health check; concurrent failures share one check."""
        async with endpoint.checking:
            if endpoint.out is not None:
                return
            try:
                await endpoint.probe()
            except Unanswered as error:
                self._take_out(endpoint, str(error), for_good=error.kind == "barred")

    def _has_room(self, endpoint: Endpoint) -> bool:
        waits = endpoint.paused_until > time.monotonic()
        return endpoint.out is None and not waits and endpoint.pace.in_flight < endpoint.pace.limit

    def _take_out(self, endpoint: Endpoint, reason: str, for_good: bool) -> None:
        if endpoint.for_good or (endpoint.out is not None and not for_good):
            return
        endpoint.out, endpoint.for_good = reason, for_good
        if not isinstance(endpoint, OwnEndpoint):
            say(f"  {endpoint.name} is out: {reason}")
        if not for_good:
            self._returning[endpoint] = asyncio.create_task(self._wait_for(endpoint))
        self._wake()

    async def _wait_for(self, endpoint: Endpoint) -> None:
        tries = 0
        while endpoint.out is not None and not endpoint.for_good:
            await asyncio.sleep(PROBE_EVERY_SECONDS[min(tries, len(PROBE_EVERY_SECONDS) - 1)])
            tries += 1
            try:
                await endpoint.probe()
            except Unanswered as error:
                endpoint.out, endpoint.for_good = str(error), error.kind == "barred"
            else:
                endpoint.out = None
                say(f"  {endpoint.name} answers again")
            self._wake()

    async def _stop_checks(self) -> None:
        for task in self._returning.values():
            task.cancel()
        await asyncio.gather(*self._returning.values(), return_exceptions=True)
        self._returning.clear()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
