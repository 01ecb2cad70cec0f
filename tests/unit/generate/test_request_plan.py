"""What will be asked is a pure function, and an id changes exactly with what determines an answer."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.errors import GenerationError
from tasks.core.prompts import FrontMatter, Prompt
from tasks.core.prompts.rendering import Renderer
from tasks.core.vllm.request import Request
from tasks.generate.request_plan import (
    SEED_RANGE,
    PlannedRow,
    Teacher,
    in_prefix_order,
    plan_judging,
    plan_rows,
    retry,
)
from tasks.generate.sampling import Document, ExamplePool

TEACHER = Teacher("/models/seedling", "digest", "vllm-1.0")
DOCUMENT = {"document_id": "msg-1", "topic": "lost card", "queue": "cards"}
MOODS = {"mood": {"from": "sampler", "values": {"calm": 2, "angry": 1}}}
SHOTS = {"shots": {"from": "few_shot", "count": 2, "fields": ["topic"]}}
DRAWN = "{{ topic }} {{ mood }} {% for shot in shots %}[{{ shot.topic }}]{% endfor %}"
quick = settings(max_examples=25, deadline=None)


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    with Renderer() as shared:
        yield shared


def prompt(source: str = "About {{ topic }}.", variables: Any = ("topic",), **head: Any) -> Prompt:
    front = {"name": "ask", "version": 1, "purpose": "x", "variables": variables, **head}
    return Prompt(Path("ask.md"), FrontMatter.model_validate(front), (("user", source),))


def drawing(**head: Any) -> Prompt:
    return prompt(DRAWN, {"topic": {}, **MOODS, **SHOTS}, **head)


def documents(names: Sequence[str]) -> list[dict[str, str]]:
    return [{"document_id": name, "topic": f"topic {name}", "queue": f"q{len(name) % 2}"} for name in names]


def request(plan: PlannedRow) -> Request:
    assert plan.request is not None, plan.problem
    return plan.request


def said(plan: PlannedRow) -> str:
    return str(request(plan).messages[-1]["content"])


def one(
    renderer: Renderer, template: Prompt | None = None, *, teacher: Teacher = TEACHER, seed: int = 1, **values: Any
) -> PlannedRow:
    (row,) = plan_rows([{**DOCUMENT, **values}], [template or prompt()], teacher, seed, renderer)
    return row


def test_every_prompt_is_asked_of_every_document_as_often_as_it_says(renderer: Renderer) -> None:
    rows = [{**DOCUMENT, "document_id": name} for name in "ab"]
    prompts = [prompt(rows_per_document=3), prompt(name="other")]
    plans = plan_rows(iter(rows), iter(prompts), TEACHER, 1, renderer)
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


@pytest.mark.parametrize(
    "changed",
    [
        {"template": prompt("Tell about {{ topic }}.")},
        {"topic": "found card"},
        {"template": prompt(sampling={"temperature": 0.5})},
        {"template": prompt(sampling={"max_tokens": 5})},
        {"template": prompt(output={"format": "json", "json_schema": {"properties": {"a": {}}}})},
        {"teacher": dataclasses.replace(TEACHER, digest="other")},
        {"teacher": dataclasses.replace(TEACHER, engine="vllm-1.1")},
        {"seed": 2},
    ],
    ids=["words", "value", "temperature", "length", "schema", "model", "engine", "seed"],
)
def test_what_determines_an_answer_changes_the_requests_id_and_never_the_rows(
    renderer: Renderer, changed: dict[str, Any]
) -> None:
    row = one(renderer, **changed)
    assert request(row).request_id != request(one(renderer)).request_id
    assert row.row_id == one(renderer).row_id


@pytest.mark.parametrize(
    "same",
    [
        {"queue": "bills"},
        {"template": prompt(version=2, purpose="y", output={"field": "other"})},
        {"teacher": dataclasses.replace(TEACHER, name="/elsewhere/seedling")},
    ],
    ids=["unused value", "front matter", "place of the model"],
)
def test_what_does_not_determine_an_answer_leaves_the_requests_id(renderer: Renderer, same: dict[str, Any]) -> None:
    assert request(one(renderer, **same)) == request(one(renderer))


def test_a_schema_is_sent_for_json_and_only_then_and_its_order_counts(renderer: Renderer) -> None:
    def asked(properties: dict[str, Any], form: str = "json") -> Request:
        schema = {"type": "object", "properties": properties}
        return request(one(renderer, prompt(output={"format": form, "json_schema": schema})))

    assert asked({"a": {}}).json_schema == {"type": "object", "properties": {"a": {}}}
    assert asked({"a": {}}, "text").json_schema is None
    assert asked({"a": {}, "b": {}}).request_id != asked({"b": {}, "a": {}}).request_id


def test_a_variable_takes_its_value_from_the_field_it_names(renderer: Renderer) -> None:
    template = prompt("{{ queue }} {{ topic }}", {"queue": {"field": "topic"}, "topic": {"field": "queue"}})
    row = one(renderer, template)
    assert said(row) == "lost card cards"
    assert row.values == DOCUMENT


@pytest.mark.parametrize(
    ("kind", "value", "seen"),
    [
        ("text", "x", "'x'"),
        ("text", 7, "'7'"),
        ("text", None, "''"),
        ("number", "7", "7"),
        ("number", 0.5, "0.5"),
        ("boolean", "false", "False"),
        ("list", '["a", 1]', "['a', 1]"),
        ("object", '{"a": [1]}', "{'a': [1]}"),
    ],
)
def test_a_typed_field_is_read_as_json(renderer: Renderer, kind: str, value: Any, seen: str) -> None:
    template = prompt("{{ '%r' | format(topic) }}", {"topic": {"type": kind}})
    assert said(one(renderer, template, topic=value)) == seen


@pytest.mark.parametrize(
    ("kind", "value"),
    [("number", "seven"), ("number", "true"), ("number", ""), ("boolean", "1"), ("list", "{}"), ("object", None)],
)
def test_a_field_of_another_type_is_a_row_without_a_request(renderer: Renderer, kind: str, value: Any) -> None:
    row = one(renderer, prompt("{{ topic }}", {"topic": {"type": kind}}), topic=value)
    assert row.request is None and row.problem == f"variable 'topic': '{value}' is not of type {kind}"


def test_a_row_that_cannot_be_rendered_has_a_problem_and_the_others_a_request(renderer: Renderer) -> None:
    rows = [DOCUMENT, {"document_id": "msg-2"}, {**DOCUMENT, "document_id": "msg-3", "topic": ""}]
    template = prompt("{{ 1 / (topic | length) }}")
    first, missing, broken = plan_rows(rows, [template], TEACHER, 1, renderer)
    assert first.request is not None
    assert missing.request is None and missing.problem == "variable 'topic': the document has no field 'topic'"
    assert broken.request is None and "ZeroDivisionError" in broken.problem
    assert len({first.row_id, missing.row_id, broken.row_id}) == 3


def test_what_was_drawn_is_kept_and_a_samplers_value_becomes_the_rows(renderer: Renderer) -> None:
    template = prompt("{{ queue }}", {"queue": {"from": "sampler", "values": ["bills"]}})
    row = one(renderer, template)
    assert (row.values["queue"], row.drawn, said(row)) == ("bills", {"queue": "bills"}, "bills")
    pool = documents(["a", "b", "c"])
    for row in plan_rows(pool, [drawing()], TEACHER, 1, renderer):
        shots = row.drawn["shots"]
        assert said(row).endswith("".join(f"[topic {name}]" for name in shots))
        assert row.values["mood"] == row.drawn["mood"] and "shots" not in row.values


def test_examples_come_from_the_pool_and_never_from_the_row_itself(renderer: Renderer) -> None:
    pool = documents(["a", "b", "c"])
    rows = plan_rows([*pool, *documents(["new"])], [drawing()], TEACHER, 1, renderer, ExamplePool(pool))
    for row in rows:
        assert len(row.drawn["shots"]) == 2
        assert set(row.drawn["shots"]) <= {"a", "b", "c"} - {row.values["document_id"]}


def test_a_row_without_any_example_is_told_so(renderer: Renderer) -> None:
    (alone,) = plan_rows(documents(["a"]), [drawing()], TEACHER, 1, renderer)
    assert alone.request is None
    assert alone.problem == "variable 'shots': no other training document can serve as an example"
    shots = {"shots": {**SHOTS["shots"], "same": "queue"}}
    template = prompt("{{ shots[0].topic }}", shots)
    first, second, third = plan_rows(documents(["a", "b", "cc"]), [template], TEACHER, 1, renderer)
    assert (said(first), said(second)) == ("topic b", "topic a")
    assert "with the queue 'q0'" in third.problem


def test_examples_can_share_the_value_that_a_sampler_drew(renderer: Renderer) -> None:
    variables = {
        "queue": {"from": "sampler", "values": ["q0", "q1"]},
        "shots": {**SHOTS["shots"], "same": "queue", "fields": ["queue"]},
    }
    template = prompt(
        "{{ queue }}:{% for shot in shots %} {{ shot.queue }}{% endfor %}", variables, rows_per_document=4
    )
    rows = plan_rows(documents(["a", "b", "c", "aa", "bb", "cc"]), [template], TEACHER, 1, renderer)
    assert {said(row) for row in rows} == {"q0: q0 q0", "q1: q1 q1"}


@pytest.mark.parametrize("twins", [("documents", ["a", "b", "a"], 1), ("prompts", ["a"], 2)])
def test_two_rows_with_one_id_are_an_error(renderer: Renderer, twins: tuple[str, list[str], int]) -> None:
    _, names, prompts = twins
    with pytest.raises(GenerationError, match="same id") as caught:
        plan_rows(documents(names), [prompt()] * prompts, TEACHER, 1, renderer)
    assert caught.value.where == "document a"


def test_a_judge_is_asked_about_every_row_and_again_when_its_answer_changed(renderer: Renderer) -> None:
    judge = prompt(
        "{{ topic }} {{ scale[0] }} to {{ scale[1] }}: {{ criteria | join }}",
        judge={"scale": [1, 5], "threshold": 4, "criteria": ["Short."]},
        sampling={"temperature": 0},
    )
    rows = [{**DOCUMENT, "row_id": name, "raw": "hello"} for name in "ab"]
    first, second = plan_judging(judge, rows, TEACHER, 1, renderer)
    assert said(first) == "lost card 1 to 5: Short."
    (again,) = plan_judging(judge, [{**rows[0], "raw": "other"}], TEACHER, 1, renderer)
    assert len({request(plan).request_id for plan in (first, second, again)}) == 3


def test_a_second_chance_is_the_same_row_with_another_seed(renderer: Renderer) -> None:
    row = one(renderer)
    second, third = retry(row, 2), retry(row, 3)
    assert retry(row, 1) == row and retry(row, 2) == second
    assert {plan.row_id for plan in (row, second, third)} == {row.row_id}
    assert len({request(plan).request_id for plan in (row, second, third)}) == 3
    assert len({request(plan).seed for plan in (row, second, third)}) == 3
    assert request(second).messages == request(row).messages
    lost = one(renderer, topic=1, template=prompt("{{ topic }}", {"topic": {"type": "list"}}))
    assert retry(lost, 2) == lost


def test_requests_with_a_common_beginning_go_out_together(renderer: Renderer) -> None:
    template = prompt("{{ queue }}, then {{ topic }}", ("queue", "topic"))
    rows = [{"document_id": str(number), "queue": f"q{number % 3}", "topic": str(number)} for number in range(12)]
    requests = [request(plan) for plan in plan_rows(rows, [template], TEACHER, 1, renderer)]
    ordered = in_prefix_order(requests)
    assert [item.messages[0]["content"][:2] for item in ordered] == ["q0"] * 4 + ["q1"] * 4 + ["q2"] * 4
    shuffled = random.Random(1).sample(requests, len(requests))
    assert in_prefix_order(shuffled) == ordered


def by_id(plans: Sequence[PlannedRow]) -> dict[str, PlannedRow]:
    return {plan.row_id: plan for plan in plans}


@quick
@given(st.sets(st.text(max_size=5), min_size=1, max_size=12), st.integers(), st.randoms(use_true_random=False))
def test_the_same_plan_comes_out_every_time_whatever_the_order_of_documents(
    renderer: Renderer, names: set[str], seed: int, shuffle: random.Random
) -> None:
    given_documents: list[dict[str, str]] = documents(sorted(names))
    template = drawing(rows_per_document=2)
    plan = plan_rows(given_documents, [template], TEACHER, seed, renderer)
    assert plan_rows(given_documents, [template], TEACHER, seed, renderer) == plan
    shuffled = list(given_documents)
    shuffle.shuffle(shuffled)
    assert by_id(plan_rows(shuffled, [prompt(name="first"), template], TEACHER, seed, renderer)).items() >= (
        by_id(plan).items()
    )


@quick
@given(st.sets(st.text(max_size=5), min_size=2, max_size=12))
def test_a_new_document_leaves_the_other_rows_but_for_draws_of_itself(renderer: Renderer, names: set[str]) -> None:
    """So few documents are ranked as a whole: a draw changes only if the new one is among the best."""
    *old, new = sorted(names)
    template = drawing(rows_per_document=2)
    before = by_id(plan_rows(documents(old), [template], TEACHER, 1, renderer))
    after = by_id(plan_rows(documents(sorted(names)), [template], TEACHER, 1, renderer))
    for row_id, row in before.items():
        assert after[row_id].drawn["mood"] == row.drawn["mood"]
        assert after[row_id] == row or new in after[row_id].drawn["shots"]


@quick
@given(st.integers(), st.text(st.characters(codec="utf-8")))
def test_seeds_lie_in_the_servers_range(renderer: Renderer, seed: int, topic: str) -> None:
    row = one(renderer, seed=seed, topic=topic)
    assert 0 <= request(row).seed < SEED_RANGE and 0 <= request(retry(row, 2)).seed < SEED_RANGE


def test_a_document_is_any_mapping(renderer: Renderer) -> None:
    row: Document = {**DOCUMENT, "extra": 1}
    (plan,) = plan_rows([row], [prompt()], TEACHER, 1, renderer)
    assert plan.values["extra"] == 1


@pytest.mark.parametrize("value", ["[" * 5000, "[NaN]", "[1e999]", "1"])
def test_a_field_that_is_no_list_costs_its_row_alone(renderer: Renderer, value: str) -> None:
    template = prompt("{{ topic | length }}", {"topic": {"type": "list"}})
    rows = [{**DOCUMENT, "topic": value}, {"document_id": "msg-2", "topic": "[1, 2]"}]
    bad, good = plan_rows(rows, [template], TEACHER, 1, renderer)
    assert bad.request is None and bad.problem.endswith("is not of type list")
    assert said(good) == "2"


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", "-1e999", float("nan"), float("inf"), True, "true"])
def test_what_is_no_finite_number_is_no_number(renderer: Renderer, value: object) -> None:
    row = one(renderer, prompt("{{ topic }}", {"topic": {"type": "number"}}), topic=value)
    assert row.request is None and row.problem.endswith("is not of type number")


def test_a_number_may_be_as_large_as_it_likes(renderer: Renderer) -> None:
    template = prompt("{{ topic }}", {"topic": {"type": "number"}})
    assert said(one(renderer, template, topic="1" * 400)) == "1" * 400
