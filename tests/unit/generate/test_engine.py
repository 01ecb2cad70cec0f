"""The engine against real HTTP servers (tests/openai_stand_in.py): answers, store, limits, early stop, numbers."""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.core.answer_store import Answer, AnswerStore
from tasks.core.config import ModelSource
from tasks.core.errors import GenerationError, RecipeError, ServerError
from tasks.core.home import Home
from tasks.core.prompts import Sampling
from tasks.core.stage import StageContext
from tasks.core.vllm import client
from tasks.core.vllm.request import Request
from tasks.generate import budget
from tasks.generate import dispatch as asking
from tasks.generate import stage_progress as course_module
from tasks.generate.config import Endpoint, GenerateConfig
from tasks.generate.engine import Engine
from tests.openai_stand_in import KEY, TOO_LONG, Fault, StandIn, stand_in

TEACHER = ModelSource(path="/nowhere")


@pytest.fixture
def http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setenv("TEACHER_KEY", KEY)
    with stand_in(tmp_path, lambda model, messages: (f"{model}: {messages[-1]['content']}", "stop")) as (_, server):
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnswerStore]:
    with AnswerStore.open(tmp_path / "answers.sqlite") as opened:
        yield opened


def config_for(http: StandIn, **settings: Any) -> GenerateConfig:
    endpoint = {"url": f"http://127.0.0.1:{http.server_port}/v1", "model": "base", "api_key_env": "TEACHER_KEY"}
    return GenerateConfig(**{"prompts": ("p",), "endpoints": (endpoint,), "concurrency": 8, **settings})


def engine_for(http: StandIn, store: AnswerStore, folder: Path, **settings: Any) -> Engine:
    return Engine(config_for(http, **settings), TEACHER, store, StageContext(Home(folder / "home"), "run", "key"))


def requests(count: int, prefix: str = "question", **settings: Any) -> list[Request]:
    sampling = Sampling(temperature=0, max_tokens=50)
    return [
        Request(f"{prefix}-{n}", [{"role": "user", "content": f"{prefix} {n}"}], sampling, seed=n, **settings)
        for n in range(count)
    ]


def fine(request: Request, answer: Answer) -> str | None:
    return answer.finish_reason if answer.is_refused or answer.is_failed else None


def test_answers_come_from_the_store_where_it_knows_them_and_else_from_the_endpoint(
    http: StandIn, store: AnswerStore, tmp_path: Path
) -> None:
    with engine_for(http, store, tmp_path) as engine:
        engine.answer(requests(5), "writing", fine)
        answers = engine.answer([*requests(8), *requests(8)], "writing", fine)
        stats = engine.stats
    assert {name: answer.text for name, answer in answers.items()} == {
        f"question-{n}": f"base: question {n}" for n in range(8)
    }
    assert len(http.asked) == 8
    assert {answer.run_id for answer in answers.values()} == {"run"}
    assert (stats.asked, stats.reused, stats.retried, stats.restarts) == (8, 5, 0, 0)
    assert stats.prompt_tokens == 40 and stats.completion_tokens == sum(len(a.text) for a in answers.values())
    assert stats.by_endpoint == {f"http://127.0.0.1:{http.server_port}/v1": 8}
    assert stats.latency_seconds is not None and 0 < stats.latency_seconds["p50"] <= stats.latency_seconds["p99"] < 5
    assert stats.rows_per_second == pytest.approx(8 / stats.seconds, rel=0.01)


def test_each_answer_is_stored_as_it_arrives(http: StandIn, store: AnswerStore, tmp_path: Path) -> None:
    found: list[bool] = []

    def verdict(request: Request, answer: Answer) -> str | None:
        with AnswerStore.open(tmp_path / "answers.sqlite") as another:
            found.append(request.request_id in another.find([request.request_id]))
        return None

    with engine_for(http, store, tmp_path) as engine:
        engine.answer(requests(6), "writing", verdict)
    assert found == [True] * 6


def test_requests_go_out_in_the_order_given_and_never_more_than_allowed(
    http: StandIn, store: AnswerStore, tmp_path: Path
) -> None:
    http.seconds = 0.02
    with engine_for(http, store, tmp_path, concurrency=3) as engine:
        engine.answer(requests(30), "writing", fine)
    assert 2 <= http.most_in_flight <= 3
    order = [int(body["messages"][-1]["content"].split()[1]) for body in http.asked]
    assert all(abs(number - place) <= 3 for place, number in enumerate(order))


def test_a_refused_request_is_told_and_not_stored(http: StandIn, store: AnswerStore, tmp_path: Path) -> None:
    refused = Request("long", [{"role": "user", "content": TOO_LONG}], Sampling(), seed=1)
    with engine_for(http, store, tmp_path) as engine:
        answers = engine.answer([refused, *requests(2)], "writing", fine)
        stats = engine.stats
    assert answers["long"].finish_reason.startswith("refused: ")
    assert set(store.find(answers)) == {"question-0", "question-1"}
    assert (stats.asked, stats.refused, stats.failed) == (3, 1, 0)


def test_every_sampling_parameter_is_sent_and_a_schema_in_the_form_that_the_server_takes(
    http: StandIn, store: AnswerStore, tmp_path: Path
) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    sampling = Sampling(
        temperature=0.5, top_p=0.9, top_k=7, min_p=0.1, presence_penalty=0.2, frequency_penalty=0.3, stop=("END",)
    )
    asked = Request("one", [{"role": "user", "content": "x"}], sampling, seed=3, json_schema=schema)
    with engine_for(http, store, tmp_path) as engine:
        engine.answer([asked], "writing", fine)
    http.pages["/v1/models"] = http.pages["/v1/models"].__class__(
        200, '{"object": "list", "data": [{"id": "base", "object": "model", "created": 1, "owned_by": "someone"}]}'
    )
    asked = Request("two", [{"role": "user", "content": "x"}], Sampling(), seed=3, json_schema=schema)
    with engine_for(http, store, tmp_path) as engine:
        engine.answer([asked], "writing", fine)
    vllm, other = http.asked
    sent = {"top_k": 7, "min_p": 0.1, "presence_penalty": 0.2, "frequency_penalty": 0.3, "stop": ["END"], "seed": 3}
    assert {name: vllm[name] for name in sent} == sent
    assert vllm["structured_outputs"]["json"].items() >= schema.items()
    assert other["response_format"] == {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    assert not {"structured_outputs", "top_k", "min_p", "repetition_penalty", "stop"} & set(other)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [({"tokens": 400}, "tokens 400"), ({"rows": 20}, "rows 20"), ({"minutes": 0.02}, "minutes 0.02")],
)
def test_a_limit_ends_the_asking_and_what_there_is_stays(
    http: StandIn, store: AnswerStore, tmp_path: Path, limits: dict[str, Any], reason: str
) -> None:
    http.seconds = 0.02
    with engine_for(http, store, tmp_path, limits=limits, concurrency=4) as engine:
        rows = 0

        def verdict(request: Request, answer: Answer) -> str | None:
            nonlocal rows
            rows += 1
            engine.rows_written(rows)
            return None

        answers = engine.answer(requests(2000), "writing", verdict)
        asked = len(http.asked)
        again = engine.answer(requests(3, "more"), "writing", verdict)
    assert engine.stopped == reason
    assert 15 <= len(answers) < 1000 and set(store.find(answers)) == set(answers)
    assert asked - len(answers) <= 1 and again == {} and len(http.asked) == asked


def test_a_deadline_that_passes_while_answers_are_slow_does_not_wait_for_them(
    http: StandIn, store: AnswerStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "WIND_DOWN_SECONDS", 0.3)
    clock = [datetime.datetime(2026, 11, 21, 4, 29, 59).astimezone()]
    monkeypatch.setattr(budget, "local_time", lambda: clock[0])
    http.seconds = 8.0
    with engine_for(http, store, tmp_path, limits={"deadline": "04:30"}) as engine:
        threading.Timer(0.5, lambda: clock.__setitem__(0, clock[0] + datetime.timedelta(seconds=2))).start()
        started = time.monotonic()
        answers = engine.answer(requests(20), "writing", fine)
    assert engine.stopped == "deadline 04:30" and answers == {}
    assert time.monotonic() - started < 5 and len(http.asked) == 8


def test_a_share_of_failures_past_the_limit_stops_early_with_reasons_and_raw_answers(
    http: StandIn, store: AnswerStore, tmp_path: Path
) -> None:
    def verdict(request: Request, answer: Answer) -> str | None:
        number = int(answer.request_id.split("-")[1])
        return None if number % 10 == 0 else ("schema: 'a' is missing" if number % 3 else "empty: no text")

    with (
        pytest.raises(GenerationError, match=r"of the first 5[0-9] answers") as caught,
        engine_for(http, store, tmp_path, failure_limit=0.5) as engine,
    ):
        engine.answer(requests(400), "writing", verdict)
    assert len(http.asked) < 80
    message = caught.value.what
    assert "x schema ('a' is missing)" in message and "x empty (no text)" in message
    assert message.index("x schema") < message.index("x empty")
    assert message.count("'base: question") == 2
    with pytest.raises(GenerationError), engine_for(http, store, tmp_path, failure_limit=0.5) as engine:
        engine.answer(requests(400), "writing", verdict)
    assert len(http.asked) < 80, "what was reused counts: the same plan is not asked on"


def test_a_share_below_the_limit_or_too_few_answers_stop_nothing(
    http: StandIn, store: AnswerStore, tmp_path: Path
) -> None:
    with engine_for(http, store, tmp_path, failure_limit=0.9) as engine:
        assert len(engine.answer(requests(49), "writing", lambda request, answer: "empty: x")) == 49
    with engine_for(http, store, tmp_path, failure_limit=0.9) as engine:
        odd = iter(range(10**6))
        answers = engine.answer(
            requests(200, "more"), "writing", lambda request, answer: "empty: x" if next(odd) % 2 else None
        )
    assert len(answers) == 200


def test_progress_tells_share_speed_rejects_and_time_left(http: StandIn, store: AnswerStore, tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []
    context = StageContext(Home(tmp_path / "home"), "run", "key", lambda share, note: told.append((share, note)))
    http.seconds = 0.02
    with Engine(config_for(http, concurrency=2, failure_limit=1), TEACHER, store, context) as engine:
        engine.rows_written(3)
        engine.answer(requests(60), "writing rows", lambda request, answer: "empty: x")
    shares = [share for share, _ in told]
    assert shares == sorted(shares) and shares[-1] == 1.0 and 2 < len(told) < 30
    assert "writing rows: 60 of 60" in told[-1][1] and "3 rows, 60 rejects" in told[-1][1]
    assert "tokens/s" in told[0][1] and "left" in told[0][1]


def test_a_key_that_is_not_set_and_a_url_that_is_none_are_found_before_anything_is_asked(
    http: StandIn, store: AnswerStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEACHER_KEY")
    with pytest.raises(RecipeError, match="TEACHER_KEY is not set") as caught:
        engine_for(http, store, tmp_path)
    assert caught.value.where == "generate.endpoints[0].api_key_env"
    with pytest.raises(RecipeError, match="not an http"):
        engine_for(http, store, tmp_path, endpoints=({"url": "localhost:8000", "model": "m"},))
    assert http.asked == [] and http.got == []


@pytest.mark.parametrize("url", ["https://me:secret@host/v1", "https://host/v1?key=secret", "https://host/v1#secret"])
def test_a_url_that_holds_a_secret_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Endpoint(url=url, model="m")
    (problem,) = caught.value.errors()
    assert "api_key_env" in problem["msg"] and "secret" not in problem["msg"]


def test_a_limit_of_minutes_that_the_stage_would_not_live_to_see_is_refused() -> None:
    with pytest.raises(ValidationError, match="must be below timeout_minutes 30"):
        GenerateConfig(prompts=("p",), limits={"minutes": 30}, timeout_minutes=30)


def test_only_the_first_attempt_at_a_row_counts_towards_the_failure_limit(
    http: StandIn, store: AnswerStore, tmp_path: Path
) -> None:
    with engine_for(http, store, tmp_path, failure_limit=0.5) as engine:
        order = iter(range(10**6))
        engine.answer(requests(100), "writing", lambda request, answer: "empty: x" if next(order) % 5 < 2 else None)
        second = engine.answer(requests(100, "again"), "writing", lambda request, answer: "empty: x", attempt=2)
        assert len(second) == 100


def test_progress_of_a_course_is_that_of_all_its_calls(http: StandIn, store: AnswerStore, tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []
    context = StageContext(Home(tmp_path / "home"), "run", "key", lambda share, note: told.append((share, note)))
    http.seconds = 0.02
    config = config_for(http, concurrency=2, failure_limit=1)
    with Engine(config, TEACHER, store, context) as engine, engine.course("generating", 80, 2) as course:
        for number in range(2):
            course.block(40 * number, 40)
            engine.answer(requests(40, f"write-{number}"), "writing rows", lambda request, answer: None)
            engine.answer(requests(20, f"again-{number}"), "writing rows", lambda request, answer: None, attempt=2)
            engine.answer(requests(40, f"judge-{number}"), "judging by x", lambda request, answer: None)
            share = [share for share, _ in told][-1]
            assert share == pytest.approx(0.5 * (number + 1), abs=0.2)
    shares = [share for share, _ in told]
    assert shares == sorted(shares) and shares[-1] == 1.0 and shares.count(1.0) == 1
    assert any(note.startswith("writing rows: ") and " of 80, " in note for _, note in told)
    assert told[-1][1].startswith("judging by x: 80 of 80")


def test_what_the_store_knew_does_not_shorten_the_time_left(
    http: StandIn, store: AnswerStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(course_module, "SHOW_SECONDS", 0.0)
    told: list[str] = []
    context = StageContext(Home(tmp_path / "home"), "run", "key", lambda share, note: told.append(note))
    http.seconds = 0.02
    with engine_for(http, store, tmp_path) as engine:
        engine.answer(requests(200), "writing", fine)
    config = config_for(http, concurrency=1)
    with Engine(config, TEACHER, store, context) as engine, engine.course("generating", 1000) as course:
        course.block(0, 220)
        engine.answer(requests(220), "writing rows", fine)
        seconds = engine.stats.seconds
    assert told[-1].startswith("writing rows: 220 of 1000, ")
    number, unit, _ = told[-1].rsplit(", ", 1)[1].split()
    left = float(number) * {"s": 1, "min": 60}[unit]
    assert left == pytest.approx(780 * seconds / 20, rel=0.5), "20 were asked in that time, and not 220"


def test_a_key_that_a_server_repeats_is_shown_nowhere(
    http: StandIn,
    tmp_path: Path,
    store: AnswerStore,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "FIRST_DELAY_SECONDS", 0.01)
    echoed = f'{{"error": {{"message": "bad request with Bearer {KEY}, \\ud83d"}}}}'
    with engine_for(http, store, tmp_path, failure_limit=1) as engine:
        faults = {"refused": Fault(400, echoed), "failed": Fault(500, echoed), "odd": Fault(200, f'{{"key": "{KEY}"}}')}
        asked = [Request(name, [{"role": "user", "content": name}], Sampling(), seed=1) for name in faults]
        http.fault = lambda body: faults.get(body["messages"][-1]["content"])
        answers = engine.answer([*asked, *requests(1)], "writing", fine)
        http.fault = lambda body: Fault(401, echoed)
        with pytest.raises(ServerError, match=r"HTTP 401: .*Bearer \*\*\*") as caught:
            engine.answer(requests(1, "more"), "writing", fine)
    reasons = [answers[name].finish_reason for name in faults]
    assert all("***" in reason and reason.encode() for reason in reasons)
    assert KEY not in " ".join([*reasons, str(caught.value), capsys.readouterr().err])
