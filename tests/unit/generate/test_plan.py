"""What will be asked is a pure function, and an id changes exactly with what determines an answer."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.prompts import FrontMatter, Prompt
from tasks.core.vllm.client import Request
from tasks.generate.plan import SEED_RANGE, PlannedRow, Teacher, plan_row, plan_rows

TEACHER = Teacher("/models/seedling", "digest", "vllm-1.0")
DOCUMENT = {"document_id": "msg-1", "topic": "lost card", "queue": "cards"}


def prompt(source: str = "About {{ topic }}.", **head: Any) -> Prompt:
    front = {"name": "ask", "version": 1, "purpose": "x", "variables": ("topic",), **head}
    return Prompt(Path("ask.md"), FrontMatter.model_validate(front), (("user", source),))


def request(plan: PlannedRow) -> Request:
    assert plan.request is not None
    return plan.request


def one(template: Prompt | None = None, *, teacher: Teacher = TEACHER, seed: int = 1, **values: str) -> PlannedRow:
    return plan_row(template or prompt(), "ask:msg-1:0", {**DOCUMENT, **values}, teacher, seed)


def test_every_prompt_is_asked_of_every_document_as_often_as_it_says() -> None:
    documents = [{**DOCUMENT, "document_id": name} for name in "ab"]
    plans = plan_rows(iter(documents), iter([prompt(rows_per_document=3), prompt(name="other")]), TEACHER, 1)
    assert [(plan.prompt.name, plan.values["document_id"]) for plan in plans] == [
        *[("ask", "a")] * 3,
        *[("ask", "b")] * 3,
        ("other", "a"),
        ("other", "b"),
    ]
    for ids in ([plan.row_id for plan in plans], [request(plan).request_id for plan in plans]):
        assert len(set(ids)) == 8
    assert len({request(plan).seed for plan in plans}) == 8
    assert request(plans[0]).messages == [{"role": "user", "content": "About lost card."}]


def test_the_same_plan_comes_out_every_time_and_does_not_depend_on_its_neighbours() -> None:
    documents = [{**DOCUMENT, "document_id": str(number)} for number in range(5)]
    whole = plan_rows(documents, [prompt()], TEACHER, 1)
    assert plan_rows(documents, [prompt()], TEACHER, 1) == whole
    assert plan_rows(documents[3:4], [prompt(name="first"), prompt()], TEACHER, 1)[1] == whole[3]


@pytest.mark.parametrize(
    "changed",
    [
        one(prompt("Tell about {{ topic }}.")),
        one(topic="found card"),
        one(prompt(sampling={"temperature": 0.5})),
        one(prompt(sampling={"max_tokens": 5})),
        one(prompt(output={"format": "json", "json_schema": {"properties": {"a": {}}}})),
        one(teacher=dataclasses.replace(TEACHER, digest="other")),
        one(teacher=dataclasses.replace(TEACHER, engine="vllm-1.1")),
        one(seed=2),
    ],
    ids=["words", "value", "temperature", "length", "schema", "model", "engine", "seed"],
)
def test_what_determines_an_answer_changes_the_requests_id_and_never_the_rows(changed: PlannedRow) -> None:
    assert request(changed).request_id != request(one()).request_id
    assert changed.row_id == one().row_id


@pytest.mark.parametrize(
    "same",
    [
        one(queue="bills"),
        one(prompt(version=2, purpose="y", rows_per_document=9, output={"field": "other"})),
        one(teacher=dataclasses.replace(TEACHER, name="/elsewhere/seedling")),
    ],
    ids=["unused value", "front matter", "place of the model"],
)
def test_what_does_not_determine_an_answer_leaves_the_requests_id(same: PlannedRow) -> None:
    assert request(same).request_id == request(one()).request_id
    assert request(same).seed == request(one()).seed


def test_a_schema_is_sent_for_json_and_only_then() -> None:
    schema = {"type": "object", "properties": {"message": {"type": "string"}}}
    assert request(one(prompt(output={"format": "json", "json_schema": schema}))).json_schema == schema
    assert request(one(prompt(output={"json_schema": schema}))).json_schema is None


def test_a_template_that_fails_on_a_row_is_a_row_without_a_request() -> None:
    plan = plan_row(prompt(), "n", {"document_id": "msg-1"}, TEACHER, 1)
    assert plan.request is None and "'topic' is undefined" in plan.problem


@given(st.integers(), st.text(st.characters(codec="utf-8")))
@settings(max_examples=50, deadline=None)
def test_seeds_lie_in_the_servers_range(seed: int, topic: str) -> None:
    assert 0 <= request(one(seed=seed, topic=topic)).seed < SEED_RANGE
