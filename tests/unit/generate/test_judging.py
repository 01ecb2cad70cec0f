"""A judge's answer is a verdict or says why it is none, and every verdict stays with its row."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.answer_store import Answer
from tasks.core.errors import GenerationError
from tasks.core.prompts import FrontMatter, Prompt
from tasks.generate.judging import Judgement, as_text, read_judgement
from tests.openai_stand_in import TOO_LONG
from tests.unit.generate.stage import (
    OUTPUT,
    PASSES,
    Teacher,
    fill,
    make_job,
    many_documents,
    write_documents,
    write_prompt,
)

SCORES = (
    "output:\n  format: json\n  json_schema: {type: object, properties: {reasons: {}, score: {type: integer}}}\n"
    "judge: {criteria: [polite, short], scale: [1, 5], threshold: 4}\nsampling: {temperature: 0}\n"
)
SCHEMA = {"type": "object", "properties": {"reasons": {}, "score": {}}, "required": ["score"]}


def judge(output: dict[str, Any], **rules: Any) -> Prompt:
    head = {"name": "rate", "version": 1, "purpose": "x", "sampling": {"temperature": 0}, "output": output}
    return Prompt(Path("rate.md"), FrontMatter.model_validate({**head, "judge": rules}), (("user", "?"),))


ACCEPTS = judge({"field": "verdict"}, accept="^yes")
RATES = judge({"format": "json", "json_schema": SCHEMA}, scale=[1, 5], threshold=4, criteria=["true"])


def said(prompt: Prompt, text: str, finish_reason: str = "stop") -> Judgement:
    return read_judgement(prompt, Answer("id", text, finish_reason, 1, 1))


PATTERNED = [("Yes", True), (" yes, it is", True), ("no", False), ("I say yes", False), ("YES\nbecause", True)]


@pytest.mark.parametrize(("text", "passes"), PATTERNED)
def test_a_judge_is_read_without_its_reasoning_too(text: str, passes: bool) -> None:
    judgement = said(ACCEPTS, f"<think>Yes? No? Hm.</think>\n{text}")
    assert (judgement.passed, judgement.problem) == (passes, None) and judgement.raw.startswith("<think>")


def test_a_judge_that_is_still_reasoning_gives_no_verdict() -> None:
    for prompt in (ACCEPTS, RATES):
        judgement = said(prompt, "<think>Yes, 5, but then")
        assert not judgement.passed and str(judgement.problem).startswith("reasoning: ")
    assert said(RATES, '<think>At most 2.</think>{"score": 5, "reasons": "<think>x</think>good"}').reasons == "good"
    assert str(said(RATES, '{"score": 1, "score": 5}').problem).startswith("unparseable: ")
    rejecting = judge({"field": "verdict", "reasoning": "reject"}, accept="^yes")
    assert str(said(rejecting, "<think>x</think>yes").problem).startswith("reasoning: ")


@pytest.mark.parametrize(("text", "passes"), PATTERNED)
def test_a_pattern_passes_what_it_matches_in_any_case(text: str, passes: bool) -> None:
    judgement = said(ACCEPTS, text)
    assert (judgement.passed, judgement.problem, judgement.score) == (passes, None, None)
    assert judgement.raw == text and judgement.reasons == text.strip()
    assert judgement.rule == (None if passes else f"judge rate: {text.strip()!r}")


def test_a_pattern_that_takes_too_long_is_no_verdict() -> None:
    judgement = said(judge({"field": "verdict"}, accept="^(a|aa)+$"), "a" * 60 + "!")
    assert not judgement.passed and "takes more than 1 s" in (judgement.problem or "")


@pytest.mark.parametrize("score", [4, 5, 4.5, "4"])
def test_a_score_from_the_threshold_on_passes(score: Any) -> None:
    judgement = said(RATES, json.dumps({"reasons": "fine", "score": score}))
    assert (judgement.passed, judgement.score, judgement.reasons) == (True, float(score), "fine")


@pytest.mark.parametrize("score", [1, 3, 3.99])
def test_a_score_below_the_threshold_does_not(score: float) -> None:
    judgement = said(RATES, json.dumps({"reasons": "off", "score": score}))
    assert not judgement.passed and judgement.rule == f"judge rate: score {score:g}, 'off'"


@pytest.mark.parametrize(
    ("text", "finish_reason", "problem"),
    [
        ('{"score": 0}', "stop", "score"),
        ('{"score": 6}', "stop", "score"),
        ('{"score": "high"}', "stop", "score"),
        ('{"score": true}', "stop", "score"),
        ('{"score": "nan"}', "stop", "score"),
        ('{"reasons": "none"}', "stop", "schema"),
        ("five", "stop", "unparseable"),
        ('{"score": 5}', "length", "truncated"),
        ("", "refused: too long", "refused"),
        ("", "failed: no answer", "failed"),
        ("", "stop", "empty"),
    ],
)
def test_a_judge_without_a_usable_score_passes_nothing(text: str, finish_reason: str, problem: str) -> None:
    judgement = said(RATES, text, finish_reason)
    assert judgement.problem is not None and judgement.problem.split(":")[0] == problem
    assert (judgement.passed, judgement.score, judgement.raw) == (False, None, text)
    assert judgement.rule == f"judge rate: no verdict: {judgement.problem}"


@pytest.mark.parametrize("finish_reason", ["length", "refused: too long", "failed: no answer"])
def test_a_pattern_is_not_looked_for_in_half_an_answer(finish_reason: str) -> None:
    assert not said(ACCEPTS, "yes", finish_reason).passed


ANYTHING = st.text(st.characters(exclude_categories=()))
SCORED = st.dictionaries(st.sampled_from(["score", "reasons"]), st.none() | st.floats() | st.integers() | ANYTHING)


@given(ANYTHING | SCORED.map(json.dumps), st.sampled_from(["stop", "length"]))
@settings(max_examples=150, deadline=None)
def test_any_answer_of_a_judge_is_a_verdict_that_can_be_stored(text: str, finish_reason: str) -> None:
    for prompt in (ACCEPTS, RATES):
        judgement = said(prompt, text, finish_reason)
        assert judgement.passed == (judgement.rule is None)
        assert not (judgement.passed and judgement.problem)
        as_text([judgement]).encode("utf-8")
        (judgement.rule or "").encode("utf-8")
        if judgement.score is not None:
            assert 1 <= judgement.score <= 5 and judgement.passed == (judgement.score >= 4)


def test_rows_that_a_judge_does_not_accept_are_quarantined_with_its_verdict(tmp_path: Path, teacher: Teacher) -> None:
    judge = write_prompt(tmp_path, "about", "Is it about {{ topic }}?", PASSES)
    teacher.answer = lambda question: (
        ("No, never" if "lost card" in question else "Yes.") if question.startswith("Is it") else f"w {question}",
        "stop",
    )
    summary, rows, rejected = fill(make_job(tmp_path, judges=[judge]), tmp_path)
    assert (summary.rows_in, len(rows), len(rejected)) == (9, 6, 3)
    assert {row["rule"] for row in rejected} == {"judge about: 'No, never'"}
    assert {(row["document_id"], row["prompt"]) for row in rejected} == {("msg-1", "write"), ("msg-1", "vary")}
    assert all(row["raw"].startswith("w ") for row in rejected)
    (verdict,) = json.loads(rows[0]["judgements"])
    assert (verdict["judge"], verdict["passed"], verdict["raw"], verdict["score"]) == ("about", True, "Yes.", None)
    assert summary.details.judges == {"about": {"asked": 9, "passed": 6, "no_verdict": 0, "mean_score": None}}
    assert teacher.starts == 1 and len(teacher.questions) == 18


def test_judges_are_asked_in_order_about_the_rows_that_are_left(tmp_path: Path, teacher: Teacher) -> None:
    first = write_prompt(tmp_path, "about", "Is it about {{ topic }}?", PASSES)
    body = "Rate {{ topic }}, {{ message }} by {{ criteria | join(', ') }} from {{ scale | join(' to ') }}: {{ raw }}"
    second = write_prompt(tmp_path, "rate", body, SCORES, "[message, topic, raw]")

    def answer(question: str) -> tuple[str, str]:
        if question.startswith("Is it"):
            return "no" if "lost card" in question else "yes", "stop"
        if question.startswith("Rate"):
            assert "by polite, short from 1 to 5: w " in question
            return json.dumps({"reasons": "so so", "score": 3 if "new pin" in question else 5}), "stop"
        return f"w {question}", "stop"

    teacher.answer = answer
    summary, rows, rejected = fill(make_job(tmp_path, judges=[first, second]), tmp_path)
    assert (len(rows), len(rejected)) == (3, 6)
    assert summary.details.rules == {"judge about": 3, "judge rate": 3}
    assert {row["rule"] for row in rejected if "rate" in row["rule"]} == {"judge rate: score 3, 'so so'"}
    assert [one["judge"] for one in json.loads(rows[0]["judgements"])] == ["about", "rate"]
    scored = json.loads(rows[0]["judgements"])[1]
    assert (scored["score"], scored["reasons"], len(scored["digest"])) == (5, "so so", 64)
    lost = next(row for row in rejected if "rate" in row["rule"])
    assert [one["passed"] for one in json.loads(lost["judgements"])] == [True, False]
    assert summary.details.judges["rate"] == {"asked": 6, "passed": 3, "no_verdict": 0, "mean_score": 4.0}


def test_a_row_whose_judge_gives_no_verdict_is_quarantined_with_the_reason(tmp_path: Path, teacher: Teacher) -> None:
    body = f"{{{{ '{TOO_LONG}' if topic == 'lost card' else 'Rate' }}}} {{{{ message }}}} {{{{ criteria }}}}"
    judge = write_prompt(tmp_path, "rate", body, SCORES, "[message, topic]")
    teacher.answer = lambda question: ("fine" if question.startswith("Rate") else "w", "stop")
    job = make_job(tmp_path, judges=[judge])
    write_documents(
        tmp_path / "collected",
        [
            {"document_id": "a", "message": "m", "queue": "cards", "topic": "lost card"},
            {"document_id": "b", "message": "m", "queue": "cards", "topic": "new pin"},
            {"document_id": "c", "message": "m", "queue": "cards", "topic": None},
        ],
    )
    plain = write_prompt(tmp_path, "plain", "Write {{ queue }}", OUTPUT, "[queue]")
    summary, rows, rejected = fill(
        dataclasses.replace(job, config=job.config.model_copy(update={"prompts": (plain,)})), tmp_path
    )
    assert rows == [] and summary.details.rules == {"judge rate": 3}
    rules = {row["document_id"]: row["rule"].removeprefix("judge rate: no verdict: ") for row in rejected}
    assert rules["a"].startswith("refused") and rules["b"].startswith("unparseable")
    assert rules["c"] == "missing: the row has no topic"
    assert len(teacher.questions) == 5, "three rows written, and two of them judged"
    assert json.loads(rejected[0]["judgements"])[0]["problem"]


def test_a_judge_that_passes_next_to_nothing_stops_the_work_early(tmp_path: Path, teacher: Teacher) -> None:
    judge = write_prompt(tmp_path, "about", "Is it about {{ topic }}?", PASSES)
    job = make_job(tmp_path, judges=[judge], failure_limit=0.9)
    many_documents(tmp_path, 40)
    teacher.answer = lambda question: ("no chance" if question.startswith("Is it") else "w", "stop")
    with pytest.raises(GenerationError) as stopped:
        fill(job, tmp_path)
    assert "50 x judge about" in str(stopped.value) and "'no chance'" in str(stopped.value)
    assert len([question for question in teacher.questions if question.startswith("Is it")]) < 70
