"""vLLM's statistics at /metrics (Prometheus text): prefix cache, tokens, latencies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.core.vllm.server import Server

SCRAPE_SECONDS = 5.0
COUNTERS = {
    "vllm:prefix_cache_queries_total": "prefix_queries",
    "vllm:prefix_cache_hits_total": "prefix_hits",
    "vllm:prompt_tokens_total": "prompt_tokens",
    "vllm:generation_tokens_total": "generation_tokens",
}
HISTOGRAMS = {
    "vllm:e2e_request_latency_seconds_bucket": "latency",
    "vllm:time_to_first_token_seconds_bucket": "first_token",
}


@dataclass(frozen=True)
class Histogram:
    """Cumulative counts by upper bound, as in Prometheus; the last bound is infinity."""

    buckets: Mapping[float, float] = field(default_factory=dict)

    def __add__(self, other: Histogram) -> Histogram:
        bounds = self.buckets.keys() | other.buckets.keys()
        return Histogram({bound: self.buckets.get(bound, 0) + other.buckets.get(bound, 0) for bound in bounds})

    def quantile(self, q: float) -> float | None:
        """A quantile interpolated within its bucket, as PromQL's ``histogram_quantile``; None if empty."""
        bounds = sorted(self.buckets)
        if not bounds or not (total := self.buckets[bounds[-1]]):
            return None
        lower, below = 0.0, 0.0
        for bound in bounds:
            count = self.buckets[bound]
            if count >= q * total:
                if bound == float("inf"):
                    return lower
                return lower + (bound - lower) * (q * total - below) / (count - below) if count > below else bound
            lower, below = bound, count
        return lower

    def percentiles(self, quantiles: Sequence[float]) -> dict[str, float] | None:
        found = {percentile_name(q): self.quantile(q) for q in quantiles}
        return {name: round(value, 4) for name, value in found.items() if value is not None} or None


@dataclass(frozen=True)
class ServerMetrics:
    """Sums since the server started; sums of several servers can be added."""

    prefix_queries: float = 0.0
    prefix_hits: float = 0.0
    prompt_tokens: float = 0.0
    generation_tokens: float = 0.0
    latency: Histogram = Histogram()
    first_token: Histogram = Histogram()

    def __add__(self, other: ServerMetrics) -> ServerMetrics:
        return ServerMetrics(**{name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__})

    @property
    def prefix_cache_hit_rate(self) -> float | None:
        """Share of the prompts' tokens found in the prefix cache; None without any lookup."""
        return round(self.prefix_hits / self.prefix_queries, 4) if self.prefix_queries else None


def read_metrics(text: str) -> ServerMetrics:
    """The sums over all engines of a server. Raises ValueError: the text is not in Prometheus' format."""
    from prometheus_client.parser import text_string_to_metric_families

    counters = dict.fromkeys(COUNTERS.values(), 0.0)
    buckets: dict[str, dict[float, float]] = {name: {} for name in HISTOGRAMS.values()}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if name := COUNTERS.get(sample.name):
                counters[name] += sample.value
            elif name := HISTOGRAMS.get(sample.name):
                bound = float(sample.labels["le"])
                buckets[name][bound] = buckets[name].get(bound, 0) + sample.value
    found: dict[str, Any] = {**counters, **{name: Histogram(counts) for name, counts in buckets.items()}}
    return ServerMetrics(**found)


def scrape(server: Server) -> ServerMetrics:
    """The metrics of a server; empty ones if it gives none, because a missing statistic must not fail a run."""
    import httpx

    try:
        return read_metrics(server.get("/metrics", SCRAPE_SECONDS).raise_for_status().text)
    except (httpx.HTTPError, ValueError):
        return ServerMetrics()


def percentile_name(quantile: float) -> str:
    return f"p{quantile * 100:g}"
