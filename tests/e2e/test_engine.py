"""The engine with real vLLM and the seedling: killed in the middle, and asked on."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tasks.core.answer_store import Answer, AnswerStore
from tasks.core.config import ModelSource
from tasks.core.home import PROJECT_ROOT, Home
from tasks.core.prompts import Sampling
from tasks.core.stage import StageContext
from tasks.core.vllm.client import chat
from tasks.core.vllm.request import Request
from tasks.core.vllm.server import Server, serving
from tasks.generate import dispatch as asking
from tasks.generate import own_server
from tasks.generate.config import GenerateConfig
from tasks.generate.engine import Engine

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.faults]

SEEDLING = ModelSource(path=str(PROJECT_ROOT / "seedling" / "model"))
COUNT = 200
KILLED_AFTER = 60


def requests() -> list[Request]:
    """They share a prefix of more than vLLM's block of tokens, 128 on a CPU: no less is cached."""
    system = {"role": "system", "content": "Write one short message that a customer would send to the support. " * 20}
    sampling = Sampling(temperature=1.0, max_tokens=24)
    return [
        Request(f"r{number}", [system, {"role": "user", "content": f"Number {number}"}], sampling, seed=number)
        for number in range(COUNT)
    ]


def test_a_vllm_killed_in_the_middle_is_started_again_and_no_answered_row_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers: list[Server] = []
    sent: Counter[str] = Counter()
    answered: set[str] = set()

    @contextlib.contextmanager
    def watched(*arguments: Any, **named: Any) -> Iterator[Server]:
        with serving(*arguments, **named) as server:
            servers.append(server)
            yield server

    async def counted(client: openai.AsyncOpenAI, model: str, request: Request, *, is_vllm: bool) -> Answer:
        assert request.request_id not in answered, "it was answered before"
        sent[request.request_id] += 1
        return await chat(client, model, request, is_vllm=is_vllm)

    def verdict(request: Request, answer: Answer) -> str | None:
        answered.add(request.request_id)
        if len(answered) == KILLED_AFTER:
            os.killpg(servers[0].process.pid, signal.SIGKILL)
        return None

    monkeypatch.setattr(own_server, "serving", watched)
    monkeypatch.setattr(asking, "chat", counted)
    config = GenerateConfig.model_validate(
        {"prompts": ["p"], "concurrency": 16, "server": {"dtype": "float32", "cpu_kv_cache_gib": 0.25}}
    )
    context = StageContext(Home(tmp_path / "home"), "run", "key")
    with AnswerStore.open(tmp_path / "answers.sqlite") as store, Engine(config, SEEDLING, store, context) as engine:
        answers = engine.answer(requests(), "writing", verdict)
        stats = engine.stats
        assert len(store.find(answers)) == COUNT
    assert {answer.finish_reason for answer in answers.values()} <= {"stop", "length"}
    assert len(servers) == 2 and stats.restarts == 1 and stats.failed == 0
    assert len(answered) == COUNT and set(sent) == answered
    assert COUNT < sum(sent.values()) <= COUNT + 16, "what was in flight was asked twice, and nothing else"
    assert stats.prefix_cache_hit_rate is not None and 0 < stats.prefix_cache_hit_rate < 1
    assert stats.first_token_seconds is not None and stats.latency_seconds is not None
    assert 0 < stats.first_token_seconds["p50"] <= stats.latency_seconds["p50"]
    assert {path.name for path in context.log("x").parent.iterdir()} == {"generate-vllm.log", "generate-vllm-2.log"}
