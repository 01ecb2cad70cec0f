"""The real vLLM, started, asked, killed and ended; with the tiny model and the champion of an older RETUNE_HOME.

The tests share one server; the last of them kills it.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.core.answer_store import Answer
from tasks.core.config import ModelSource, ServerSettings
from tasks.core.errors import ServerError
from tasks.core.prompts import Sampling
from tasks.core.vllm.client import ask
from tasks.core.vllm.likelihoods import log_likelihoods
from tasks.core.vllm.request import Request
from tasks.core.vllm.server import Server, serving
from tests.e2e.reference import reference_likelihoods, write_random_adapter
from tests.fixtures.older_home import OlderHome

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SETTINGS = ServerSettings(dtype="float32", cpu_kv_cache_gib=0.25)
LABELS = ["billing", "billing dispute", "cards"]


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> OlderHome:
    return OlderHome(tmp_path_factory.mktemp("older"))


@pytest.fixture(scope="module")
def model(older: OlderHome) -> ModelSource:
    return ModelSource(path=str(older.folder / "project" / "model"))


@pytest.fixture(scope="module")
def adapters(older: OlderHome, model: ModelSource, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two random adapters of different rank, and the one that a night of the older home published."""
    folders = {"older": older.champion / "adapter"}
    for name, rank in (("candidate", 4), ("champion", 24)):
        folders[name] = write_random_adapter(Path(model.path), tmp_path_factory.mktemp(name), rank)
    return folders


@pytest.fixture(scope="module")
def block() -> Iterator[ExitStack]:
    """The block in which the server runs."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def server(
    block: ExitStack, model: ModelSource, adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Server:
    log = tmp_path_factory.mktemp("log") / "vllm.log"
    return block.enter_context(serving(model, SETTINGS, log=log, adapters=adapters))


def requests(count: int, max_tokens: int, temperature: float = 0.0) -> list[Request]:
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    return [
        Request(str(number), [{"role": "user", "content": f"where is card {number}"}], sampling, seed=number)
        for number in range(count)
    ]


def texts(server: Server, model: str, wanted: list[Request]) -> list[str]:
    answers: dict[str, Answer] = {}
    ask(server, model, wanted, concurrency=8, on_answer=lambda answer: answers.update({answer.request_id: answer}))
    return [answers[request.request_id].text for request in wanted]


def likelihoods(server: Server, model: str, prompts: Sequence[Any]) -> list[list[float] | None]:
    found: dict[str, list[float] | None] = {}
    by_name = {str(number): prompt for number, prompt in enumerate(prompts)}
    log_likelihoods(server, model, by_name, LABELS, concurrency=4, on_scores=found.__setitem__)
    return [found[name] for name in by_name]


def test_temperature_zero_repeats_itself(server: Server) -> None:
    wanted = requests(6, max_tokens=12)
    assert texts(server, "candidate", wanted) == texts(server, "candidate", wanted)


def test_answers_by_a_schema_hold_no_white_space_and_come_to_an_end(server: Server) -> None:
    """Keywords that vLLM cannot follow while it writes, ``not`` and ``uniqueItems``, do not keep it from answering."""
    schema = {
        "type": "array",
        "minItems": 1,
        "maxItems": 2,
        "items": {
            "type": "object",
            "properties": {
                "text": {"type": "string", "maxLength": 8, "not": {"const": "no"}},
                "label": {"enum": ["cards", "bills"]},
                "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2, "uniqueItems": True},
            },
            "required": ["text", "label", "tags"],
            "additionalProperties": False,
        },
    }
    wanted = [replace(request, json_schema=schema) for request in requests(12, max_tokens=200, temperature=1.0)]
    for text in texts(server, "base", wanted):
        outside = re.sub(r'"(\\.|[^"\\])*"', "", text)
        assert json.loads(text) and not re.search(r"\s", outside), text


def test_base_and_adapters_are_served_side_by_side_as_transformers_and_peft_compute_them(
    server: Server, model: ModelSource, adapters: dict[str, Path]
) -> None:
    prompts = [[{"role": "user", "content": text}] for text in ("where is my card", "it is locked\n\nplease | help")]
    found = {name: likelihoods(server, name, prompts) for name in ("base", *adapters)}
    for name, rows in found.items():
        expected = reference_likelihoods(Path(model.path), adapters.get(name), prompts, LABELS)
        for scores, wanted in zip(rows, expected, strict=True):
            assert scores == pytest.approx(wanted, abs=1e-2), name
    assert found["base"][0] != pytest.approx(found["candidate"][0], abs=0.1)


def test_a_prompt_beyond_the_context_is_refused_with_the_servers_words(server: Server) -> None:
    long = Request("long", [{"role": "user", "content": "card " * 1000}], Sampling(temperature=0, max_tokens=4), seed=0)
    answers: list[Answer] = []
    ask(server, "base", [long, *requests(1, max_tokens=4)], concurrency=2, on_answer=answers.append)
    by_id = {answer.request_id: answer for answer in answers}
    assert by_id["long"].finish_reason.startswith("refused: ") and "512" in by_id["long"].finish_reason
    assert not by_id["0"].finish_reason.startswith("refused")
    assert likelihoods(server, "base", [long.messages]) == [None]


def test_a_killed_server_is_a_typed_error_and_leaves_nothing(server: Server, block: ExitStack) -> None:
    root = psutil.Process(server.process.pid)
    scratch = Path(root.environ()["TMPDIR"])
    tree = [root, *root.children(recursive=True)]
    killer = threading.Timer(1.0, lambda: root.send_signal(signal.SIGKILL))
    killer.start()
    answers: list[Answer] = []
    with pytest.raises(ServerError, match="exit status -9") as caught:
        ask(server, "base", requests(5000, 200, temperature=1.0), concurrency=8, on_answer=answers.append)
    assert caught.value.retryable and caught.value.where == str(server.log)
    assert len(answers) < 5000
    port = int(server.url.rpartition(":")[2])
    block.close()
    deadline = time.monotonic() + 10
    while any(one.is_running() for one in tree) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [one for one in tree if one.is_running()] == []
    assert not scratch.exists()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
