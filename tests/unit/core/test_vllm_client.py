"""The client against a real HTTP server (tests/openai_stand_in.py)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.answer_store import Answer, AnswerStore
from tasks.core.errors import ModelError, ServerError
from tasks.core.prompts import Sampling
from tasks.core.vllm import client
from tasks.core.vllm.client import Unanswered, ask, chat, connect, is_loopback
from tasks.core.vllm.likelihoods import MOST_TOKENS, _answer_tokens, log_likelihoods, plan_reads
from tasks.core.vllm.request import Request, request_body
from tasks.core.vllm.server import Server
from tests import openai_stand_in
from tests.openai_stand_in import IM_END, TOO_LONG, Fault, chatml, log_probability, stand_in, tokens

SAMPLING = Sampling(temperature=0.0, top_p=0.9, max_tokens=7)


def echo(model: str, messages: list[dict[str, str]]) -> tuple[str, str]:
    return f"{model}: {messages[-1]['content']}", "stop"


def requests(*contents: str) -> list[Request]:
    return [
        Request(f"id-{number}", [{"role": "user", "content": content}], SAMPLING, seed=number)
        for number, content in enumerate(contents)
    ]


def test_every_request_is_answered_once_under_its_own_id(tmp_path: Path) -> None:
    answers: list[Answer] = []
    with stand_in(tmp_path, echo) as (server, _):
        ask(server, "base", requests(*"abcdefgh"), concurrency=3, on_answer=answers.append)
    assert {answer.request_id: answer.text for answer in answers} == {
        f"id-{number}": f"base: {content}" for number, content in enumerate("abcdefgh")
    }
    assert len(answers) == 8
    assert answers[0].finish_reason == "stop" and answers[0].prompt_tokens == 5


def test_no_more_requests_are_in_flight_than_asked_for(tmp_path: Path) -> None:
    with stand_in(tmp_path, echo, seconds=0.02) as (server, http):
        ask(server, "base", requests(*map(str, range(24))), concurrency=4, on_answer=lambda answer: None)
        assert 2 <= http.most_in_flight <= 4


def test_sampling_and_seed_are_sent_and_structured_output_when_there_is_a_schema(tmp_path: Path) -> None:
    schema = {"type": "object"}
    with stand_in(tmp_path, echo) as (server, http):
        structured = dataclasses.replace(requests("b")[0], json_schema=schema)
        ask(server, "m", [*requests("a"), structured], concurrency=1, on_answer=lambda answer: None)
        plain, with_schema = http.asked
    sent = {"model": "m", "temperature": 0.0, "top_p": 0.9, "max_tokens": 7, "seed": 0}
    assert {name: plain[name] for name in sent} == sent
    assert "structured_outputs" not in plain
    assert with_schema["structured_outputs"]["json"].items() >= schema.items()


def test_tools_go_to_the_template_and_calls_come_back_as_text(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
    with stand_in(tmp_path, echo) as (server, http):
        with_tools = dataclasses.replace(requests("a")[0], tools=json.dumps(tools))
        ask(server, "m", [with_tools, *requests("b")], concurrency=1, on_answer=lambda answer: None)
        asked, plain = http.asked
    assert asked["tools"] == tools and asked["tool_choice"] == "none"
    assert "tools" not in plain and "tool_choice" not in plain


def test_nothing_is_left_to_the_defaults_of_the_model_that_vllm_serves(tmp_path: Path) -> None:
    with stand_in(tmp_path, echo) as (server, http):
        ask(server, "m", requests("a"), concurrency=1, on_answer=lambda answer: None)
    assert {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}.items() <= http.asked[0].items()


def test_a_passing_fault_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_DELAY_SECONDS", 0.01)
    answers: list[Answer] = []
    with stand_in(tmp_path, echo) as (server, http):
        faults = iter([Fault(500), Fault(429), Fault(200, "<html>", "text/html")])
        http.fault = lambda body: next(faults, None)
        ask(server, "base", requests("a"), concurrency=1, on_answer=answers.append)
    assert [answer.text for answer in answers] == ["base: a"]
    assert len(http.asked) == 4


def reply(**parts: object) -> Fault:
    """A chat completion that says odd things; as text, for JSON can spell what no float holds."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}
    text = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 7}, **parts})
    return Fault(200, text.replace('"1e999"', "1e999"))


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": "1e999", "completion_tokens": 7}, (0, 7)),
        ({"prompt_tokens": 2**63, "completion_tokens": -1}, (2**31 - 1, 0)),
        ({"prompt_tokens": None, "completion_tokens": [7]}, (0, 0)),
        (None, (0, 0)),
        (["many"], (0, 0)),
    ],
)
def test_a_count_of_tokens_that_makes_no_sense_costs_no_answer(
    tmp_path: Path, usage: object, tokens: tuple[int, int]
) -> None:
    answers: list[Answer] = []
    with stand_in(tmp_path, echo) as (server, http), AnswerStore.open(tmp_path / "answers.sqlite") as store:
        http.fault = lambda body: reply(usage=usage)
        ask(server, "base", requests("a"), concurrency=1, on_answer=answers.append)
        store.add(answers[0], "run")
    assert answers[0].text == "fine" and (answers[0].prompt_tokens, answers[0].completion_tokens) == tokens


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "Four.", "reasoning": "They ask for a number."}, "Four."),
        ({"content": "Four.", "reasoning_content": "They ask for a number."}, "Four."),
        ({"content": None, "reasoning": "They ask for a number."}, ""),
    ],
)
def test_reasoning_that_the_server_has_parsed_is_no_part_of_the_answer(
    tmp_path: Path, message: dict[str, object], text: str
) -> None:
    answers: list[Answer] = []
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    with stand_in(tmp_path, echo) as (server, http):
        http.fault = lambda body: reply(choices=[choice])
        ask(server, "base", requests("a"), concurrency=1, on_answer=answers.append)
    assert answers[0].text == text


PARTS = [{"type": "text", "text": "one"}, {"type": "thinking", "thinking": []}, {"type": "text", "text": "two"}]


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        ("one", ("one", "stop")),
        (None, ("", "stop")),
        ([], ("", "stop")),
        (PARTS, ("one\ntwo", "stop")),
        (PARTS[0], ("one", "stop")),
        ({"answer": "one"}, ("", "refused: the answer's content is an object without a known type, not text")),
        ([PARTS[0], {"type": "image_url"}], ("", "refused: the answer's content[1] is of type 'image_url', not text")),
        (7, ("", "refused: the answer's content is of type int, not text")),
    ],
)
def test_an_answer_in_parts_is_their_text_and_what_is_not_text_is_refused(
    tmp_path: Path, content: object, answer: tuple[str, str]
) -> None:
    answers: list[Answer] = []
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    with stand_in(tmp_path, echo) as (server, http):
        http.fault = lambda body: reply(choices=[choice])
        ask(server, "base", requests("a"), concurrency=1, on_answer=answers.append)
    assert [(found.text, found.finish_reason) for found in answers] == [answer] and len(http.asked) == 1


def test_a_finish_reason_that_is_no_text_can_be_stored(tmp_path: Path) -> None:
    answers: list[Answer] = []
    odd = {"index": 0, "message": {"role": "assistant", "content": "half \ud83d"}, "finish_reason": "odd \ud83d"}
    with stand_in(tmp_path, echo) as (server, http), AnswerStore.open(tmp_path / "answers.sqlite") as store:
        http.fault = lambda body: reply(choices=[odd])
        ask(server, "base", requests("a"), concurrency=1, on_answer=answers.append)
        store.add(answers[0], "run")
        found = store.find([answers[0].request_id])
    assert [answer.finish_reason for answer in found.values()] == ["odd \\ud83d"]


def attempt(url: str) -> Unanswered:
    """What one request to a server that does not answer comes to."""

    async def once() -> None:
        async with connect(url, "key", 2) as opened:
            await chat(opened, "m", requests("a")[0])

    with pytest.raises(Unanswered) as caught:
        asyncio.run(once())
    return caught.value


@contextlib.contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that takes one connection, reads a little, and does what ``answer`` does; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        thread.join(5)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def cut_off(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")


def no_http(connection: socket.socket) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")


def test_a_refused_connection_is_lost() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert attempt(f"http://127.0.0.1:{port}/v1").kind == "lost"


@pytest.mark.parametrize("fault", [reset, cut_off, no_http])
def test_a_connection_that_breaks_is_lost(fault: Callable[[socket.socket], None]) -> None:
    with listening(fault) as url:
        assert attempt(url).kind == "lost"


def test_a_server_that_is_silent_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "REQUEST_TIMEOUT_SECONDS", 0.2)
    with listening(lambda connection: time.sleep(1)) as url:
        assert attempt(url).kind == "timeout"


def test_an_array_goes_to_other_servers_as_a_property_of_an_object_with_its_definitions() -> None:
    row = {"type": "object", "properties": {"a": {"type": "string"}}}
    schema = {"type": "array", "items": {"$ref": "#/$defs/row"}, "$defs": {"row": row}}
    sent = request_body(dataclasses.replace(requests("a")[0], json_schema=schema), is_vllm=False)
    assert sent["response_format"]["json_schema"]["schema"] == {
        "type": "object",
        "properties": {"rows": {"type": "array", "items": {"$ref": "#/$defs/row"}}},
        "required": ["rows"],
        "additionalProperties": False,
        "$defs": {"row": row},
    }
    ours = request_body(dataclasses.replace(requests("a")[0], json_schema=schema), is_vllm=True)
    assert ours["structured_outputs"]["json"].items() >= schema.items()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://localhost/v1", True),
        ("http://[::1]:8000/v1", True),
        ("https://api.example.com/v1", False),
        ("http://10.0.0.7/v1", False),
    ],
)
def test_no_proxy_is_asked_for_this_machine(url: str, expected: bool) -> None:
    assert is_loopback(url) is expected


def test_a_refused_request_is_an_answer_with_the_reason_and_stops_nothing(tmp_path: Path) -> None:
    answers: list[Answer] = []
    with stand_in(tmp_path, echo) as (server, _):
        ask(server, "base", requests("a", TOO_LONG, "c"), concurrency=1, on_answer=answers.append)
    refused = answers[1]
    assert refused.text == "" and refused.finish_reason.startswith("refused: ")
    assert "longer than the model's context" in refused.finish_reason
    assert [answer.finish_reason for answer in answers[::2]] == ["stop", "stop"]


def test_a_dead_server_is_one_typed_error_with_the_last_lines_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "RETRIES", 0)
    with stand_in(tmp_path, echo) as (server, _):
        pass
    with pytest.raises(ServerError, match="the last line of the log") as caught:
        ask(server, "base", requests("a", "b"), concurrency=2, on_answer=lambda answer: None)
    assert "died with exit status -9" in caught.value.what
    assert caught.value.retryable


def test_a_wrong_key_is_a_server_error_and_not_a_bare_group(tmp_path: Path) -> None:
    with stand_in(tmp_path, echo) as (server, _):
        stranger = dataclasses.replace(server, api_key="another")
        with pytest.raises(ServerError, match="wrong key"):
            ask(stranger, "base", requests("a", "b"), concurrency=2, on_answer=lambda answer: None)


def test_what_a_callback_raises_comes_out_as_it_is(tmp_path: Path) -> None:
    def fail(answer: Answer) -> None:
        raise OSError("no room on the disk")

    with stand_in(tmp_path, echo) as (server, _), pytest.raises(OSError, match="no room on the disk"):
        ask(server, "base", requests("a", "b", "c"), concurrency=2, on_answer=fail)


def likelihoods(
    server: Server, prompts: Sequence[list[dict[str, str]]], answers: Sequence[str]
) -> list[list[float] | None]:
    """The scores in the order of the prompts."""
    found: dict[str, list[float] | None] = {}
    by_name = {str(number): prompt for number, prompt in enumerate(prompts)}
    log_likelihoods(server, "base", by_name, answers, concurrency=2, on_scores=found.__setitem__)
    return [found[name] for name in by_name]


def test_a_likelihood_counts_the_answer_and_its_end_of_turn_and_nothing_else(tmp_path: Path) -> None:
    prompts = [[{"role": "system", "content": "Route."}, {"role": "user", "content": text}] for text in ("hi", "hello")]
    labels = ["billing", "billing dispute"]
    with stand_in(tmp_path, echo) as (server, http):
        scores = likelihoods(server, prompts, labels)
        tokenised = [body for body in http.asked if body["path"] == "/tokenize" and body.get("messages") in prompts]
    expected = []
    for prompt in prompts:
        before = tokens(chatml(prompt, open_turn=True))
        tails = [[*tokens(label), IM_END] for label in labels]
        expected.append(
            [sum(log_probability(before + tail[:at], tail[at]) for at in range(len(tail))) for tail in tails]
        )
    assert scores == [pytest.approx(row) for row in expected]
    assert len(tokenised) == len(prompts)


@given(st.lists(st.lists(st.integers(0, 400), min_size=1, max_size=4), max_size=300))
def test_every_token_of_every_answer_is_read_after_those_before_it(tails: list[list[int]]) -> None:
    reads = plan_reads(tails)
    read = {(beginning, token) for one in reads for beginning in one.beginnings for token in one.tokens}
    assert {(tuple(tail[:at]), tail[at]) for tail in tails for at in range(len(tail))} <= read
    assert all(len(one.tokens) <= MOST_TOKENS for one in reads)


def test_a_prompt_that_is_too_long_has_no_likelihood_and_the_others_have(tmp_path: Path) -> None:
    prompts = [[{"role": "user", "content": text}] for text in ("hi", TOO_LONG, "hello")]
    with stand_in(tmp_path, echo) as (server, _):
        scores = likelihoods(server, prompts, ["a", "b"])
    assert [row is None for row in scores] == [False, True, False]


def test_a_template_that_rewrites_the_open_turn_is_named_as_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rewriting(messages: list[dict[str, str]], open_turn: bool) -> str:
        return f"open {messages}" if open_turn else f"closed {messages}"

    monkeypatch.setattr(openai_stand_in, "chatml", rewriting)
    prompts = [[{"role": "user", "content": "hi"}]]
    with stand_in(tmp_path, echo) as (server, _), pytest.raises(ModelError, match="chat template") as caught:
        likelihoods(server, prompts, ["a"])
    assert "evaluate.likelihood" in caught.value.remedy


def test_where_the_prompt_opens_a_thought_an_answer_begins_with_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def thinking(messages: list[dict[str, str]], open_turn: bool) -> str:
        return chatml(messages, open_turn) + ("<think>\n" if open_turn else "")

    monkeypatch.setattr(openai_stand_in, "chatml", thinking)

    async def answer(url: str, key: str) -> list[int]:
        async with connect(f"{url}/v1", key, 1) as client:
            return await _answer_tokens(client, "cards")

    with stand_in(tmp_path, echo) as (server, _):
        assert asyncio.run(answer(server.url, server.api_key)) == [*tokens("\n</think>\n\ncards"), IM_END]
