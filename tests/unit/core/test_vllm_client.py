"""The client against a real HTTP server (tests/openai_stand_in.py)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tasks.core.answers import Answer
from tasks.core.errors import ModelError, ServerError
from tasks.core.prompts import Sampling
from tasks.core.vllm import client
from tasks.core.vllm.client import Request, ask, log_likelihoods
from tests import openai_stand_in
from tests.openai_stand_in import IM_END, TOO_LONG, chatml, log_probability, stand_in, tokens

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
    assert with_schema["structured_outputs"] == {"json": schema, "disable_any_whitespace": True}


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


def test_a_likelihood_counts_the_answer_and_its_end_of_turn_and_nothing_else(tmp_path: Path) -> None:
    prompts = [[{"role": "system", "content": "Route."}, {"role": "user", "content": text}] for text in ("hi", "hello")]
    labels = ["billing", "billing dispute"]
    with stand_in(tmp_path, echo) as (server, http):
        scores = log_likelihoods(server, "base", prompts, labels, concurrency=2, on_done=lambda done: None)
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


def test_a_prompt_that_is_too_long_has_no_likelihood_and_the_others_have(tmp_path: Path) -> None:
    prompts = [[{"role": "user", "content": text}] for text in ("hi", TOO_LONG, "hello")]
    done: list[int] = []
    with stand_in(tmp_path, echo) as (server, _):
        scores = log_likelihoods(server, "base", prompts, ["a", "b"], concurrency=1, on_done=done.append)
    assert [row is None for row in scores] == [False, True, False]
    assert done == [1, 2, 3]


def test_a_template_that_rewrites_the_open_turn_is_named_as_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rewriting(messages: list[dict[str, str]], open_turn: bool) -> str:
        return f"open {messages}" if open_turn else f"closed {messages}"

    monkeypatch.setattr(openai_stand_in, "chatml", rewriting)
    prompts = [[{"role": "user", "content": "hi"}]]
    with stand_in(tmp_path, echo) as (server, _), pytest.raises(ModelError, match="chat template") as caught:
        log_likelihoods(server, "base", prompts, ["a"], concurrency=1, on_done=lambda done: None)
    assert "evaluate.likelihood" in caught.value.remedy
