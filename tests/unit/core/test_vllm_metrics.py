"""vLLM's metrics, read from text as it writes it."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as PrometheusHistogram
from prometheus_client.exposition import generate_latest

from tasks.core.vllm.metrics import Histogram, ServerMetrics, read_metrics, scrape
from tests.openai_stand_in import Fault, stand_in

TEXT = """\
# HELP vllm:prefix_cache_queries_total Prefix cache queries, in terms of number of queried tokens.
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{engine="0",model_name="base"} 1000.0
vllm:prefix_cache_queries_total{engine="1",model_name="base"} 600.0
# TYPE vllm:prefix_cache_hits_total counter
vllm:prefix_cache_hits_total{engine="0",model_name="base"} 700.0
vllm:prefix_cache_hits_total{engine="1",model_name="base"} 500.0
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="base"} 1600.0
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="base"} 123.0
# TYPE vllm:e2e_request_latency_seconds histogram
vllm:e2e_request_latency_seconds_bucket{engine="0",le="1.0",model_name="base"} 50.0
vllm:e2e_request_latency_seconds_bucket{engine="0",le="2.0",model_name="base"} 90.0
vllm:e2e_request_latency_seconds_bucket{engine="0",le="+Inf",model_name="base"} 100.0
vllm:e2e_request_latency_seconds_count{engine="0",model_name="base"} 100.0
vllm:e2e_request_latency_seconds_sum{engine="0",model_name="base"} 140.0
"""


def test_counters_of_all_engines_are_summed_and_percentiles_are_within_their_buckets() -> None:
    found = read_metrics(TEXT)
    assert found.prefix_cache_hit_rate == 0.75
    assert (found.prompt_tokens, found.generation_tokens) == (1600, 123)
    assert found.latency.percentiles([0.5, 0.9, 0.99]) == {"p50": 1.0, "p90": 2.0, "p99": 2.0}
    assert found.latency.quantile(0.25) == 0.5 and found.latency.quantile(0.7) == 1.5
    assert found.first_token.percentiles([0.5]) is None


def test_sums_of_two_servers_add_up() -> None:
    both = read_metrics(TEXT) + read_metrics(TEXT)
    assert both.prompt_tokens == 3200 and both.prefix_cache_hit_rate == 0.75
    assert both.latency.buckets == {1.0: 100, 2.0: 180, float("inf"): 200}
    assert read_metrics(TEXT) + ServerMetrics() == read_metrics(TEXT)


def test_a_server_that_was_asked_nothing_has_no_rates() -> None:
    assert ServerMetrics().prefix_cache_hit_rate is None
    assert Histogram({1.0: 0, float("inf"): 0}).quantile(0.5) is None


def test_quantiles_agree_with_what_prometheus_own_histogram_observed() -> None:
    registry = CollectorRegistry()
    kept = PrometheusHistogram("x", "x", registry=registry, buckets=[0.1 * step for step in range(1, 11)])
    for step in range(1000):
        kept.observe(step / 1000)
    lines = generate_latest(registry).decode().replace("x_", "vllm:e2e_request_latency_seconds_")
    found = read_metrics(lines.replace("# TYPE x ", "# TYPE vllm:e2e_request_latency_seconds "))
    assert found.latency.quantile(0.5) == pytest.approx(0.5, abs=0.01)
    assert found.latency.quantile(0.99) == pytest.approx(0.99, abs=0.01)


def test_metrics_are_scraped_and_their_absence_fails_nothing(tmp_path: Path) -> None:
    with stand_in(tmp_path, lambda model, messages: ("", "stop")) as (server, http):
        assert scrape(server) == ServerMetrics()
        http.pages["/metrics"] = Fault(200, TEXT, "text/plain")
        assert scrape(server) == read_metrics(TEXT)
        http.pages["/metrics"] = Fault(200, "<html>{", "text/html")
        assert scrape(server) == ServerMetrics()
    assert scrape(server) == ServerMetrics()
