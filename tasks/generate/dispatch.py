"""Send one round of requests in order; retry where it helps, give up where it does not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tenacity

from tasks.core.answer_store import Answer
from tasks.core.vllm.client import REQUEST_TIMEOUT_SECONDS, Unanswered, chat, delay, first_of
from tasks.core.vllm.request import Request
from tasks.generate.budget import Budget
from tasks.generate.endpoints import Endpoint, OwnEndpoint, Pool
from tasks.generate.stats import Meter

TRIES = {"busy": 10, "timeout": 2, "lost": 4, "error": 4, "barred": 4}
WATCH_SECONDS = 0.25
WIND_DOWN_SECONDS = 15.0
KNOWN_ANSWERS = 20
SPARE_SECONDS = 30.0
SLOWER = 3.0


class Try(NamedTuple):
    request: Request
    sent_at: float
    timeout: asyncio.Timeout


class Round:
    """Sends requests to a pool of endpoints; ``keep`` gets every answer, also a refused or failed one, as it arrives.

    ``in_flight`` has the requests in flight by id, after an error the possible causes of the server's death.
    ``stopped`` is the limit that ended the round early, or None.
    """

    def __init__(self, pool: Pool, budget: Budget, meter: Meter, keep: Callable[[Answer], None]) -> None:
        self._pool, self._budget, self._meter, self._keep = pool, budget, meter, keep
        self._running: set[asyncio.Task[None]] = set()
        self._stopped_at = 0.0
        self.in_flight: dict[str, Try] = {}
        self.stopped: str | None = None

    def run(self, requests: Sequence[Request]) -> None:
        """Send until every request is answered or given up, or a limit is reached.

        Raises ServerError: no endpoint is left; answers so far were kept; GenerationError: from ``keep``.
        """
        try:
            with self._meter.asking():
                asyncio.run(self._ask(requests))
        except ExceptionGroup as failures:
            raise first_of(failures) from None
        finally:
            self._meter.concurrency = sum(one.pace.limit for one in self._pool.endpoints if one.out is None)

    async def _ask(self, requests: Sequence[Request]) -> None:
        async with self._pool.connected(), asyncio.TaskGroup() as group:
            watch = group.create_task(self._watch())
            for request in requests:
                endpoint = await self._pool.acquire()
                if endpoint is None:
                    break
                task = group.create_task(self._answer(request, endpoint))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
                self._stop_at_limits()
            while self._running:
                await asyncio.wait(self._running)
            watch.cancel()

    async def _answer(self, request: Request, place: Endpoint) -> None:
        """Try a request until it is answered, or until one class of failure has used up its tries."""
        failures: Counter[str] = Counter()
        places: list[Endpoint] = [place]

        async def attempt() -> None:
            if failures:
                other = await self._pool.acquire(avoid=places[-1])
                if other is None:
                    return
                places.append(other)
                self._meter.retried += 1
            await self._try(request, places[-1])

        def spent(state: tenacity.RetryCallState) -> bool:
            error = state.outcome.exception() if state.outcome else None
            assert isinstance(error, Unanswered)
            failures[error.kind] += 1
            return failures[error.kind] >= TRIES[error.kind]

        retrying = tenacity.AsyncRetrying(
            stop=spent, wait=delay, retry=tenacity.retry_if_exception_type(Unanswered), reraise=True
        )
        try:
            await retrying(attempt)
        except Unanswered as error:
            self.in_flight.pop(request.request_id, None)
            self._meter.count_failed()
            tries = "1 try" if failures.total() == 1 else f"{failures.total()} tries"
            self._keep(Answer(request.request_id, "", f"failed: {error} ({tries})", 0, 0))

    async def _try(self, request: Request, endpoint: Endpoint) -> None:
        sent_at = time.monotonic()
        try:
            async with asyncio.timeout(self._allowance(request)) as timeout:
                self.in_flight[request.request_id] = Try(request, sent_at, timeout)
                answer = await chat(endpoint.client, endpoint.model, request, is_vllm=endpoint.is_vllm)
        except (Unanswered, TimeoutError) as failure:
            late = f"no answer within {time.monotonic() - sent_at:.0f} s"
            error = failure if isinstance(failure, Unanswered) else Unanswered(late, "timeout")
            await self._pool.complain(endpoint, error, sent_at)
            if endpoint.out is None:
                del self.in_flight[request.request_id]
            raise error from failure
        else:
            del self.in_flight[request.request_id]
            endpoint.pace.answered(answer.completion_tokens)
            self._meter.count(answer, endpoint.name, time.monotonic() - sent_at)
        finally:
            self._pool.release(endpoint)
        self._keep(answer)

    def _allowance(self, request: Request) -> float:
        """Time limit of an answer in seconds: three times a full-length answer at the slowest rate so far."""
        if len(self._meter.latencies) < KNOWN_ANSWERS or not self._meter.slowest_token:
            return REQUEST_TIMEOUT_SECONDS
        expected = self._meter.slowest_token * request.sampling.max_tokens
        return min(REQUEST_TIMEOUT_SECONDS, SPARE_SECONDS + SLOWER * expected)

    async def _watch(self) -> None:
        """Watch what no answer reports: a dead process, time limits, hanging requests."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            for endpoint in self._pool.endpoints:
                if isinstance(endpoint, OwnEndpoint) and endpoint.is_dead:
                    await self._pool.check(endpoint)
            await self._pool.require_one()
            self._stop_at_limits()
            now = time.monotonic()
            if self.stopped and now - self._stopped_at > WIND_DOWN_SECONDS:
                for task in self._running:
                    task.cancel()
            loop_ahead = asyncio.get_running_loop().time() - now
            for one in self.in_flight.values():
                with contextlib.suppress(RuntimeError):  # it ended meanwhile
                    one.timeout.reschedule(one.sent_at + self._allowance(one.request) + loop_ahead)

    def _stop_at_limits(self) -> None:
        if self.stopped is None and (reached := self._budget.reached()):
            self.stopped, self._stopped_at = reached, time.monotonic()
            self._pool.close()
