"""The engine that answers planned requests: from the store, from its own vLLM, or from remote endpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from tasks.core.answer_store import Answer, AnswerStore
from tasks.core.config import ModelSource
from tasks.core.details import EngineStats
from tasks.core.errors import ServerError
from tasks.core.progress import progress, say
from tasks.core.stage import StageContext
from tasks.core.vllm.request import Request
from tasks.generate.budget import budget_of
from tasks.generate.config import GenerateConfig
from tasks.generate.dispatch import Round
from tasks.generate.early_stop import Failures
from tasks.generate.endpoints import Pool, remote_endpoints
from tasks.generate.own_server import OwnServer
from tasks.generate.stage_progress import Course
from tasks.generate.stats import Meter

Verdict = Callable[[Request, Answer], str | None]

MOST_DEATHS = 2


class Engine:
    """Answers requests and stores each answer as it arrives; a context manager that ends what it started.

    ``stopped`` is the limit that was reached ("deadline 04:30", "tokens 100000", "minutes 30", "rows 500"), or None;
    after that nothing more is sent.
    """

    def __init__(self, config: GenerateConfig, teacher: ModelSource, store: AnswerStore, context: StageContext) -> None:
        self._config, self._store, self._context = config, store, context
        self._budget = budget_of(config, store, context)
        self._failures = Failures(config.failure_limit)
        self._meter = Meter()
        self._remote = remote_endpoints(config)
        self._own = OwnServer(config, teacher, context)
        self._course: Course | None = None
        self.stopped: str | None = None

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self._own.close()

    @contextlib.contextmanager
    def course(self, title: str, total: int, phases: int = 1) -> Iterator[Course]:
        """Report the progress of all calls in the block: ``total`` rows, each written and judged in ``phases``."""
        with progress(title, total) as advance:
            counts = (self._budget, self._meter, self._failures)
            self._course = Course(title, total, phases, *counts, self._context.on_progress, advance)
            try:
                yield self._course
            finally:
                self._course = None

    def answer(self, requests: Sequence[Request], what: str, verdict: Verdict, attempt: int = 1) -> dict[str, Answer]:
        """The answers by request id: stored ones, and new ones requested in the given order.

        A request that the server refuses has the ``finish_reason`` ``refused: ...``, one that was given up ``failed:
        ...``; neither is stored, so that another night asks again. When :attr:`stopped` is set, unanswered requests are
        missing from the result. Do not retry a failed request: it had its tries, and it may have killed the server.
        ``verdict``: the rule that an answer breaks ("truncated: ...": the part before the colon is counted), or None.
        Called once for every answer, also a reused, refused or failed one; it may call :meth:`rows_written`.
        ``attempt``: after the first, broken rules do not count towards ``failure_limit``. Raises GenerationError: a
        larger share than ``failure_limit`` of at least 50 answers of this stage broke a rule; ServerError: vLLM died
        too often, or no endpoint is left; with the reasons; ServerStartError, MachineError, ModelError: vLLM could not
        be started.
        """
        wanted = {request.request_id: request for request in requests}
        answers = self._store.find(wanted)
        self._meter.reused += len(answers)
        for request_id, answer in answers.items():
            self._judge(answer, verdict(wanted[request_id], answer), attempt)
        self.stopped = self.stopped or self._budget.reached()
        missing = {request_id: request for request_id, request in wanted.items() if request_id not in answers}
        say(f"  {what}: {len(missing)} to ask, {len(answers)} answered before")
        if not missing or self.stopped:
            return answers
        with contextlib.nullcontext(self._course) if self._course else self.course(what, len(wanted)) as course:
            course.call(what, attempt, len(wanted), len(answers))

            def keep(answer: Answer) -> None:
                answer = replace(answer, run_id=self._context.run_id)
                answers[answer.request_id] = answer
                request = missing.pop(answer.request_id)
                if not answer.is_refused and not answer.is_failed:
                    self._store.add(answer, self._context.run_id)
                self._budget.tokens += answer.prompt_tokens + answer.completion_tokens
                self._own.answers += not answer.is_failed
                self._judge(answer, verdict(request, answer), attempt)
                course.answered(answer)

            (self._ask_endpoints if self._remote else self._ask_own)(missing, keep)
        if self.stopped:
            say(f"  {what}: stopped at the limit of {self.stopped}, {len(missing)} not asked")
        return answers

    def rows_written(self, count: int) -> None:
        """Report the number of finished rows (with judges: accepted ones), for ``limits.rows`` and the progress bar."""
        self._budget.rows = count

    @property
    def stats(self) -> EngineStats:
        """Statistics of all requests so far; read them while the server runs."""
        self._meter.server = self._own.metrics()
        self._meter.restarts, self._meter.deaths = self._own.restarts, self._own.deaths
        return self._meter.stats()

    def _ask_endpoints(self, missing: dict[str, Request], keep: Callable[[Answer], None]) -> None:
        asking = Round(Pool(self._remote, self._config.concurrency), self._budget, self._meter, keep)
        asking.run(list(missing.values()))
        self.stopped = asking.stopped

    def _ask_own(self, missing: dict[str, Request], keep: Callable[[Answer], None]) -> None:
        """Send to the stage's own server, and to a new one when it dies.

        Requests in flight at a death are then sent first and one at a time: a request that kills servers is found by
        its second death, is not sent a third time in this run, and takes no other with it.
        """
        run_id = self._context.run_id
        while missing and not self.stopped:
            deaths = self._store.deaths(run_id)
            for (request_id, death), count in deaths.items():
                if count >= MOST_DEATHS and request_id in missing:
                    self._meter.count_failed()
                    reason = f"failed: the server died {count} times while it was asked ({death})"
                    keep(Answer(request_id, "", reason, 0, 0))
            if not missing:
                return
            endpoint = self._own.endpoint_for(list(missing.values()))
            died = {request_id for request_id, _ in deaths}
            suspects = [request for request_id, request in missing.items() if request_id in died]
            pool = Pool([endpoint], 1 if suspects else self._config.concurrency)
            asking = Round(pool, self._budget, self._meter, keep)
            try:
                asking.run(suspects or list(missing.values()))
            except ServerError as error:
                if endpoint.for_good and not endpoint.is_dead:
                    raise
                death = self._own.death
                self._store.add_death(asking.in_flight, death, run_id)
                deaths = self._store.deaths(run_id)
                is_explained = any(deaths[one, death] >= MOST_DEATHS for one in asking.in_flight)
                self._own.bury(error, death, explains=MOST_DEATHS * is_explained)
            self.stopped = asking.stopped

    def _judge(self, answer: Answer, rule: str | None, attempt: int) -> None:
        if attempt == 1:  # a bad row counts once, however often it is tried
            self._failures.count(answer, rule)
            self._failures.check()
