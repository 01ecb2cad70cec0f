"""The engine under fire: busy, slow, broken, lying and dying servers, all of them real ones."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.core.answer_store import Answer, AnswerStore
from tasks.core.config import ModelSource
from tasks.core.errors import ServerError
from tasks.core.home import PROJECT_ROOT, Home
from tasks.core.prompts import Sampling
from tasks.core.stage import StageContext
from tasks.core.vllm import client
from tasks.core.vllm.request import Request
from tasks.core.vllm.server import Server
from tasks.generate import dispatch as asking
from tasks.generate import endpoints, own_server
from tasks.generate.config import GenerateConfig
from tasks.generate.engine import Engine
from tests.openai_stand_in import DEADLY, KEY, Fault, StandIn, stand_in, stand_in_process

HTML = Fault(200, "<html>Please log in</html>", "text/html")


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same behaviour with shorter waits."""
    monkeypatch.setenv("TEACHER_KEY", KEY)
    monkeypatch.setattr(client, "FIRST_DELAY_SECONDS", 0.01)
    monkeypatch.setattr(client, "LONGEST_DELAY_SECONDS", 0.05)
    monkeypatch.setattr(endpoints, "PROBE_EVERY_SECONDS", (0.1,))
    monkeypatch.setattr(endpoints, "PATIENCE_SECONDS", 1.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnswerStore]:
    with AnswerStore.open(tmp_path / "answers.sqlite") as opened:
        yield opened


def http_server(folder: Path, seconds: float = 0.0) -> contextlib.AbstractContextManager[tuple[Server, StandIn]]:
    return stand_in(folder, lambda model, messages: (messages[-1]["content"], "stop"), seconds)


def engine_for(store: AnswerStore, folder: Path, *https: StandIn, **settings: Any) -> Engine:
    remote = [
        {"url": f"http://127.0.0.1:{http.server_port}/v1", "model": "base", "api_key_env": "TEACHER_KEY"}
        for http in https
    ]
    given = {"prompts": ("p",), "endpoints": remote, "concurrency": 8, "failure_limit": 1, **settings}
    context = StageContext(Home(folder / "home"), "run", "key")
    return Engine(GenerateConfig(**given), ModelSource(path="/nowhere"), store, context)


def requests(*contents: str) -> list[Request]:
    return [Request(text, [{"role": "user", "content": text}], Sampling(max_tokens=20), seed=1) for text in contents]


def numbered(count: int) -> list[str]:
    return [f"question {number}" for number in range(count)]


def fine(request: Request, answer: Answer) -> str | None:
    return answer.finish_reason if answer.is_failed else None


def question_of(body: dict[str, Any]) -> str:
    text: str = body["messages"][-1]["content"]
    return text


def sometimes(fault: Fault, times: int, of: str = "") -> Callable[[dict[str, Any]], Fault | None]:
    """The fault comes for the first so many tries of each question (that has this text in it)."""
    seen: Counter[str] = Counter()
    lock = threading.Lock()

    def choose(body: dict[str, Any]) -> Fault | None:
        with lock:
            question = question_of(body)
            seen[question] += 1
            return fault if of in question and seen[question] <= times else None

    return choose


@pytest.mark.parametrize(
    "fault",
    [
        Fault(500),
        Fault(502, "<html>Bad gateway</html>", "text/html"),
        HTML,
        Fault(200, "{"),
        Fault(200, "{}"),
        Fault(429),
    ],
    ids=["500", "502", "html", "half-json", "no-choices", "429"],
)
def test_a_passing_fault_costs_a_retry_and_no_answer(tmp_path: Path, store: AnswerStore, fault: Fault) -> None:
    with http_server(tmp_path) as (_, http), engine_for(store, tmp_path, http) as engine:
        http.fault = sometimes(fault, times=2)
        answers = engine.answer(requests(*numbered(10)), "writing", fine)
        stats = engine.stats
    assert {answer.text for answer in answers.values()} == set(numbered(10))
    assert (stats.asked, stats.retried, stats.failed) == (10, 20, 0)


def test_retry_after_is_obeyed_and_the_concurrency_halved(tmp_path: Path, store: AnswerStore) -> None:
    sent: list[float] = []

    def busy_once(body: dict[str, Any]) -> Fault | None:
        sent.append(time.monotonic())
        return Fault(429, headers={"Retry-After": "1"}) if len(sent) == 1 else None

    with http_server(tmp_path) as (_, http), engine_for(store, tmp_path, http, concurrency=8) as engine:
        http.fault = busy_once
        answers = engine.answer(requests(*numbered(20)), "writing", fine)
        stats = engine.stats
    assert len(answers) == 20 and stats.retried == 1
    pause = max(later - earlier for earlier, later in itertools.pairwise(sent))
    assert 0.8 < pause < 2
    assert stats.concurrency < 8


@pytest.mark.parametrize("fault", [Fault(500), Fault(429), HTML], ids=["500", "429", "html"])
def test_a_poisoned_row_fails_alone_and_another_night_may_ask_it_again(
    tmp_path: Path, store: AnswerStore, fault: Fault
) -> None:
    with http_server(tmp_path) as (_, http), engine_for(store, tmp_path, http) as engine:
        http.fault = sometimes(fault, times=100, of="poison")
        answers = engine.answer(requests("poison", *numbered(50)), "writing", fine)
        stats = engine.stats
        tries = sum(question_of(body) == "poison" for body in http.asked)
    assert answers["poison"].is_failed and f"{tries} tries" in answers["poison"].finish_reason
    assert sum(answer.text == name for name, answer in answers.items()) == 50
    assert set(store.find(answers)) == set(numbered(50))
    assert stats.failed == 1 and stats.asked == 51


def test_a_row_that_hangs_is_given_up_in_a_time_that_fits_the_others(
    tmp_path: Path, store: AnswerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "SPARE_SECONDS", 0.5)
    with http_server(tmp_path) as (_, http), engine_for(store, tmp_path, http) as engine:
        http.fault = lambda body: Fault(seconds=9) if question_of(body) == "hangs" else None
        started = time.monotonic()
        answers = engine.answer(requests("hangs", *numbered(60)), "writing", fine)
        seconds = time.monotonic() - started
        tries = sum(question_of(body) == "hangs" for body in http.asked)
    assert "no answer within" in answers["hangs"].finish_reason and tries == 2
    assert len(answers) == 61 and seconds < 6


def test_an_endpoint_that_dies_leaves_its_work_to_the_other_and_comes_back(tmp_path: Path, store: AnswerStore) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with (
        http_server(tmp_path / "one", 0.01) as (_, one),
        http_server(tmp_path / "two", 0.01) as (_, two),
        engine_for(store, tmp_path, one, two) as engine,
    ):
        healthy = one.pages["/v1/models"]

        def recover() -> None:
            one.fault = lambda body: None
            one.pages["/v1/models"] = healthy

        def fall_ill(body: dict[str, Any]) -> Fault | None:
            if len(one.asked) < 100:
                return None
            if one.pages["/v1/models"] is healthy:
                one.pages["/v1/models"] = Fault(503)
                threading.Timer(0.4, recover).start()
            return Fault(503)

        one.fault = fall_ill
        answers = engine.answer(requests(*numbered(600)), "writing", fine)
        stats = engine.stats
        first = f"http://127.0.0.1:{one.server_port}/v1"
    assert {answer.text for answer in answers.values()} == set(numbered(600)) and stats.failed == 0
    assert sum(stats.by_endpoint.values()) == 600 and stats.by_endpoint[first] > 120, "it was asked again"
    assert 0 < stats.retried <= 40, "while it was out it was checked, and not asked"
    assert len(one.asked) == stats.by_endpoint[first] + stats.retried


def test_all_endpoints_gone_is_one_error_that_names_each_and_why(tmp_path: Path, store: AnswerStore) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with (
        http_server(tmp_path / "one") as (_, one),
        http_server(tmp_path / "two") as (_, two),
        engine_for(store, tmp_path, one, two) as engine,
    ):
        one.pages["/v1/models"] = Fault(401, '{"error": {"message": "who are you"}}')
        two.pages["/v1/models"] = HTML
        with pytest.raises(ServerError, match="No endpoint answers any more") as caught:
            engine.answer(requests(*numbered(5)), "writing", fine)
        assert one.asked == [] and two.asked == []
    assert f"{one.server_port}/v1: HTTP 401" in caught.value.what and "who are you" in caught.value.what
    assert f"{two.server_port}/v1: it has no list of models" in caught.value.what


def test_a_model_that_an_endpoint_does_not_have_takes_it_out_for_good(tmp_path: Path, store: AnswerStore) -> None:
    with http_server(tmp_path) as (_, http), engine_for(store, tmp_path, http) as engine:
        http.fault = lambda body: Fault(404, '{"error": {"message": "no model base here"}}')
        with pytest.raises(ServerError, match="no model base here"):
            engine.answer(requests(*numbered(100)), "writing", fine)
        assert len(http.asked) <= 8


def test_a_server_without_a_list_of_models_is_asked_for_its_health(tmp_path: Path, store: AnswerStore) -> None:
    with http_server(tmp_path) as (_, http), engine_for(store, tmp_path, http) as engine:
        http.pages = {"/health": Fault(200, "")}
        assert len(engine.answer(requests(*numbered(3)), "writing", fine)) == 3
        assert http.got == ["/v1/models", "/health"]


def test_a_crash_of_the_run_costs_at_most_what_was_in_flight(tmp_path: Path, store: AnswerStore) -> None:
    count, in_flight = 400, 8
    with http_server(tmp_path, 0.02) as (_, http):
        program = (
            "from pathlib import Path\n"
            "from tasks.core.answer_store import AnswerStore\n"
            "from tests.unit.generate.test_engine_faults import *\n"
            "class Http: server_port = " + str(http.server_port) + "\n"
            f"folder = Path({str(tmp_path)!r})\n"
            "with AnswerStore.open(folder / 'answers.sqlite') as store, engine_for(store, folder, Http) as engine:\n"
            f"    engine.answer(requests(*numbered({count})), 'writing', fine)\n"
        )
        environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
        with subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.DEVNULL) as process:
            while len(http.asked) < 100:
                assert process.poll() is None
                time.sleep(0.005)
            process.kill()
        time.sleep(0.2)
        asked_before = len(http.asked)
        kept = len(store.find(numbered(count)))
        assert asked_before - in_flight <= kept <= asked_before < count
        with engine_for(store, tmp_path, http) as engine:
            engine.answer(requests(*numbered(count)), "writing", fine)
        assert len(http.asked) - asked_before == count - kept


class OwnServers:
    """Takes the place of vLLM: each start is a process of its own; all write to one journal."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.journal = folder, folder / "journal"
        self.starts: list[Server] = []
        self.settings: list[Any] = []
        self.seconds = 0.05

    @contextlib.contextmanager
    def serving(self, model: ModelSource, settings: Any, **named: Any) -> Iterator[Server]:
        with stand_in_process(self.folder, self.journal, self.seconds) as server:
            self.starts.append(server)
            self.settings.append((settings, named))
            yield server

    def events(self) -> list[tuple[str, str]]:
        lines = self.journal.read_text(encoding="utf-8").splitlines()
        return [(event, question) for event, _, question in (line.partition(" ") for line in lines)]

    def kill_after(self, answers: int) -> None:
        """Kill the newest server as soon as so many answers were given."""

        def kill() -> None:
            while not self.journal.exists() or sum(event == "answered" for event, _ in self.events()) < answers:
                time.sleep(0.01)
            os.kill(self.starts[-1].process.pid, signal.SIGKILL)

        threading.Thread(target=kill, daemon=True).start()


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OwnServers:
    servers = OwnServers(tmp_path)
    monkeypatch.setattr(own_server, "serving", servers.serving)
    monkeypatch.setattr(own_server, "context_length", lambda model, requests: 1024)
    return servers


def test_a_killed_server_is_started_again_and_no_answered_row_is_asked_again(
    tmp_path: Path, store: AnswerStore, own: OwnServers
) -> None:
    own.kill_after(answers=60)
    with engine_for(store, tmp_path) as engine:
        answers = engine.answer(requests(*numbered(200)), "writing", fine)
        stats = engine.stats
    assert {answer.text for answer in answers.values()} == {f"base: {text}" for text in numbered(200)}
    assert stats.restarts == 1 and len(own.starts) == 2 and stats.failed == 0
    answered: set[str] = set()
    again = []
    for event, question in own.events():
        again += [question] if event == "asked" and question in answered else []
        answered |= {question} if event == "answered" else set()
    assert again == []
    asked = Counter(question for event, question in own.events() if event == "asked")
    assert asked.total() <= 200 + 8, "only what was in flight is asked twice"
    assert stats.deaths == ["exit status -9"]


def test_a_row_that_kills_the_server_is_found_and_given_up(tmp_path: Path, store: AnswerStore, own: OwnServers) -> None:
    questions = [*numbered(40), f"{DEADLY} 1", *[f"more {number}" for number in range(40)]]
    with engine_for(store, tmp_path) as engine:
        answers = engine.answer(requests(*questions), "writing", fine)
        stats = engine.stats
    reason = answers[f"{DEADLY} 1"].finish_reason
    assert reason == "failed: the server died 2 times while it was asked (exit status -9)"
    assert Counter(own.events())["asked", f"{DEADLY} 1"] == 2, "the same death twice is not tried a third time"
    with engine_for(store, tmp_path) as engine:  # another attempt of the stage in the same run
        again = engine.answer(requests(*questions), "writing", fine)
    assert again[f"{DEADLY} 1"].finish_reason == reason
    assert Counter(own.events())["asked", f"{DEADLY} 1"] == 2
    assert sum(answer.finish_reason == "stop" for answer in answers.values()) == 80
    assert stats.restarts == 2 and stats.failed == 1


@pytest.mark.parametrize("concurrency", [8, 64])
def test_two_rows_that_kill_the_server_cost_themselves_and_nothing_else(
    tmp_path: Path, store: AnswerStore, own: OwnServers, concurrency: int
) -> None:
    questions = [*numbered(60), f"{DEADLY} 1", *numbered(140)[60:], f"{DEADLY} 2", *numbered(198)[140:]]
    with engine_for(store, tmp_path, concurrency=concurrency) as engine:
        answers = engine.answer(requests(*questions), "writing", fine)
        stats = engine.stats
    assert {name for name, answer in answers.items() if answer.is_failed} == {f"{DEADLY} 1", f"{DEADLY} 2"}
    assert sum(answer.finish_reason == "stop" for answer in answers.values()) == 198
    assert stats.failed == 2 and 3 <= stats.restarts <= 6


def test_deaths_that_many_answers_lie_between_are_not_added_up(
    tmp_path: Path, store: AnswerStore, own: OwnServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_server, "MOST_RESTARTS", 1)
    monkeypatch.setattr(own_server, "RENEWING_ANSWERS", 20)
    with engine_for(store, tmp_path) as engine:
        for night in range(3):
            own.kill_after(answers=night * 100 + 40)
            answers = engine.answer(requests(*(f"{night}-{number}" for number in range(100))), "writing", fine)
            assert len(answers) == 100
        assert engine.stats.restarts == 3
        monkeypatch.setattr(own_server, "RENEWING_ANSWERS", 10**6)
        own.kill_after(answers=340)
        with pytest.raises(ServerError, match="died 4 times"):
            engine.answer(requests(*(f"3-{number}" for number in range(100))), "writing", fine)


def test_a_server_that_keeps_dying_is_an_error_with_the_last_lines_of_its_log(
    tmp_path: Path, store: AnswerStore, own: OwnServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_server, "MOST_CULPRITS", 2)
    deadly = [f"{DEADLY} {number}" for number in range(10)]
    with pytest.raises(ServerError, match="died 4 times") as caught, engine_for(store, tmp_path) as engine:
        engine.answer(requests(*numbered(20), *deadly), "writing", fine)
    assert len(own.starts) == 4 and "exit status -9" in caught.value.what
    assert all(server.process.poll() is not None for server in own.starts)
    with AnswerStore.open(tmp_path / "answers.sqlite") as another:
        assert len(another.find(numbered(20))) == 20


def test_a_death_is_noticed_even_where_no_connection_breaks(
    tmp_path: Path, store: AnswerStore, own: OwnServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listening process is stopped with the tree's root dead: nothing answers, nothing closes."""
    own.seconds = 60.0
    with engine_for(store, tmp_path) as engine:
        monkeypatch.setattr(own_server, "MOST_RESTARTS", 0)

        def kill() -> None:
            while not own.journal.exists():
                time.sleep(0.01)
            own.starts[0].process.kill()

        threading.Thread(target=kill, daemon=True).start()
        started = time.monotonic()
        with pytest.raises(ServerError, match="died 1 times"):
            engine.answer(requests(*numbered(3)), "writing", fine)
    assert time.monotonic() - started < 10


def test_the_teacher_wears_its_adapter_and_a_longer_context_starts_it_anew(
    tmp_path: Path, store: AnswerStore, own: OwnServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = iter([1024, 1024, 2048])
    monkeypatch.setattr(own_server, "context_length", lambda model, requests: next(lengths))
    with engine_for(store, tmp_path, adapter="/adapters/one") as engine:
        for name in ("a", "b", "c"):
            answers = engine.answer(requests(name), "writing", fine)
            assert answers[name].text == f"teacher: {name}"
    assert [settings.max_model_len for settings, _ in own.settings] == [1024, 2048]
    assert own.settings[0][1]["adapters"] == {"teacher": Path("/adapters/one")}
    assert engine.stats.restarts == 0
