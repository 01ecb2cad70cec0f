"""Statistics of asking the teacher: counts, speed, latency, and server metrics."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tasks.core.answer_store import Answer
from tasks.core.details import EngineStats
from tasks.core.vllm.metrics import ServerMetrics, percentile_name

PERCENTILES = (0.5, 0.9, 0.99)


@dataclass
class Meter:
    """Counts while the engine works. ``slowest_token``: most seconds per token of an answer so far."""

    asked: int = 0
    reused: int = 0
    retried: int = 0
    refused: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    asked_for: float = 0.0
    asking_since: float | None = None
    restarts: int = 0
    deaths: list[str] = field(default_factory=list)
    concurrency: int = 0
    by_endpoint: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    slowest_token: float = 0.0
    server: ServerMetrics = field(default_factory=ServerMetrics)

    @property
    def seconds(self) -> float:
        return self.asked_for + (time.monotonic() - self.asking_since if self.asking_since is not None else 0.0)

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        self.asking_since = time.monotonic()
        try:
            yield
        finally:
            self.asked_for, self.asking_since = self.seconds, None

    def count(self, answer: Answer, endpoint: str, latency_s: float) -> None:
        """Count an answer, refusals included."""
        self.asked += 1
        self.refused += answer.is_refused
        self.prompt_tokens += answer.prompt_tokens
        self.completion_tokens += answer.completion_tokens
        self.by_endpoint[endpoint] += 1
        if not answer.is_refused:
            self.latencies.append(latency_s)
        if answer.completion_tokens:
            self.slowest_token = max(self.slowest_token, latency_s / answer.completion_tokens)

    def count_failed(self) -> None:
        self.asked += 1
        self.failed += 1

    def stats(self) -> EngineStats:
        """The statistics so far. vLLM's latencies are preferred: the client's include waiting for a connection."""
        seconds = max(self.seconds, 1e-9)
        counts = {name: value for name, value in vars(self).items() if name in EngineStats.model_fields}
        return EngineStats(
            **counts,
            seconds=round(self.seconds, 3),
            tokens_per_second=round(self.completion_tokens / seconds, 2) if self.asked else 0.0,
            rows_per_second=round((self.asked - self.failed) / seconds, 3) if self.asked else 0.0,
            prefix_cache_hit_rate=self.server.prefix_cache_hit_rate,
            latency_seconds=self.server.latency.percentiles(PERCENTILES) or percentiles(self.latencies),
            first_token_seconds=self.server.first_token.percentiles(PERCENTILES),
        )


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """Nearest-rank percentiles by name (``p50``), or None without values."""
    ordered, n = sorted(values), len(values)
    return {percentile_name(q): round(ordered[min(n - 1, int(q * n))], 4) for q in PERCENTILES} if ordered else None
