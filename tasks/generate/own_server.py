"""The vLLM that the stage starts: its context fits the requests, and it is restarted when it dies."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from tasks.core.child_logs import cause_in
from tasks.core.config import ModelSource
from tasks.core.errors import ServerError
from tasks.core.progress import say
from tasks.core.stage import StageContext
from tasks.core.vllm.context import context_length
from tasks.core.vllm.metrics import ServerMetrics, scrape
from tasks.core.vllm.request import Request
from tasks.core.vllm.server import BASE_NAME, Server, serving
from tasks.generate.config import GenerateConfig
from tasks.generate.endpoints import ADAPTER_NAME, OwnEndpoint

MOST_RESTARTS = 2
MOST_CULPRITS = 5  # requests that may kill servers; more are attributed to the server
RENEWING_ANSWERS = 256
"""Answers in a row after which a server counts as sound, and both counts restart."""


class OwnServer:
    """Starts vLLM on first use, and keeps it until :meth:`close`; the caller counts ``answers`` since a restart."""

    def __init__(self, config: GenerateConfig, teacher: ModelSource, context: StageContext) -> None:
        self._config, self._teacher, self._context = config, teacher, context
        self._stack = contextlib.ExitStack()
        self._server: Server | None = None
        self._endpoint: OwnEndpoint | None = None
        self._context_length: int | None = None
        self._past = ServerMetrics()
        self.answers = 0
        self.deaths: list[str] = []
        self._unexplained = self._culprits = 0

    def endpoint_for(self, requests: Sequence[Request]) -> OwnEndpoint:
        """The running server; restarted if its context is too short for the requests.

        Raises ServerStartError, MachineError, ModelError: it cannot be started.
        """
        needed = self._config.server.max_model_len or context_length(self._teacher, requests)
        if self._endpoint is not None and needed > (self._context_length or needed):
            say(f"  these requests need a context of {needed} tokens: restarting vLLM")
            self.close()
        if self._endpoint is None:
            self._context_length = needed
            self._server = self._stack.enter_context(self._serving(needed))
            name = ADAPTER_NAME if self._config.adapter else BASE_NAME
            self._endpoint = OwnEndpoint(self._server, name, self._config.concurrency)
        return self._endpoint

    @property
    def death(self) -> str:
        """What ended the server, comparable with other deaths."""
        assert self._server is not None
        return self._server.death

    def bury(self, cause: ServerError, death: str, explains: int = 0) -> None:
        """End what is left of a dead or silent server, so that the next request starts another.

        ``explains`` deaths have a known culprit, this one included; they do not count against the server. Raises
        ServerError: it was restarted too often; with the cause in its log.
        """
        assert self._server is not None and self._endpoint is not None
        log, reason = self._server.log, self._endpoint.out or cause.what
        self._leave()
        if self.answers >= RENEWING_ANSWERS:
            self._unexplained = self._culprits = 0
        self.answers = 0
        self._culprits += explains > 0
        self._unexplained = max(0, self._unexplained + 1 - explains)
        if self._unexplained > MOST_RESTARTS or self._culprits > MOST_CULPRITS:
            raise ServerError(
                f"vLLM died {self.restarts + 1} times in this stage, the last time: {reason}; " + cause_in(log),
                where=str(log),
                remedy="read the log; a smaller generate.concurrency takes less memory; stored answers are reused",
            ) from cause
        self.deaths.append(death)
        say(f"  vLLM died ({reason}; {death}); restart {self.restarts}")

    @property
    def restarts(self) -> int:
        return len(self.deaths)

    def metrics(self) -> ServerMetrics:
        """Metrics reported by the servers of this stage; those of a dead server are lost."""
        return self._past + scrape(self._server) if self._server is not None else self._past

    def close(self) -> None:
        self._past = self.metrics()
        self._leave()

    def _leave(self) -> None:
        self._server = self._endpoint = None
        self._stack.close()

    def _serving(self, length: int) -> contextlib.AbstractContextManager[Server]:
        settings = self._config.server.model_copy(update={"max_model_len": length})
        adapters = {ADAPTER_NAME: Path(self._config.adapter)} if self._config.adapter else None
        return serving(self._teacher, settings, log=self._context.log("generate-vllm"), adapters=adapters)
