"""Any text that a model writes is rows of fields or rules that it breaks, never an exception."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.answer_store import Answer
from tasks.core.prompts import Output
from tasks.generate.parse import MESSAGE_CHARACTERS, Written, parse

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"message": {"type": "string", "minLength": 2}, "mood": {"type": "number", "multipleOf": 0.5}},
    "required": ["message"],
}
TEXT = Output(field="message")
LINES = Output(format="lines", field="message")
JSON = Output(format="json", json_schema=SCHEMA)
ARRAY = Output(format="json", json_schema={"type": "array", "items": SCHEMA, "minItems": 1})
NO_SCHEMA_OF_AN_OBJECT = Output(format="json", json_schema={"properties": {"message": {}}})


def answer(text: str, finish_reason: str = "stop") -> Answer:
    return Answer("id", text, finish_reason, 1, 1)


def only(output: Output, text: str, finish_reason: str = "stop") -> Written:
    """The one row of an answer."""
    (row,) = parse(output, answer(text, finish_reason))
    return row


def rule(row: Written) -> str:
    assert not row.fields and row.problem is not None
    return row.problem.split(":")[0]


def test_a_text_fills_its_field_without_the_white_space_around_it() -> None:
    assert only(TEXT, "  I lost\nmy card. \n") == Written({"message": "I lost\nmy card."})


def test_each_line_with_text_is_a_row() -> None:
    rows = parse(LINES, answer("\n My card is gone.\r\n\n\t\nWhere is my bill?\n"))
    assert rows == [Written({"message": "My card is gone."}), Written({"message": "Where is my bill?"})]


@pytest.mark.parametrize("mark", ["- ", "* ", "\u2022 ", "1. ", "12) ", "(3) ", "4.\t"])
def test_the_mark_of_a_list_is_not_part_of_the_row(mark: str) -> None:
    assert only(LINES, f"  {mark}My card is gone.") == Written({"message": "My card is gone."})


@pytest.mark.parametrize("line", ["-5 degrees", "3.5 is a number", "*really* lost", "1.Without a space", "12 cards"])
def test_what_only_looks_like_a_list_mark_stays(line: str) -> None:
    assert only(LINES, line) == Written({"message": line})


def test_marks_without_text_are_no_rows() -> None:
    assert rule(only(LINES, "1.\n-\n *  ")) == "empty"
    assert [row.fields["message"] for row in parse(LINES, answer("1.\n2. two"))] == ["two"]


@pytest.mark.parametrize(
    "text",
    [
        '{"message": "hi there", "mood": 1.5}',
        ' {"message":"hi there","mood":1.5}\n',
        '```json\n{"message": "hi there", "mood": 1.5}\n```',
        '```\n{"message": "hi there", "mood": 1.5}\n```\n',
        '``` JSON \r\n{"message": "hi there", "mood": 1.5}\r\n```',
    ],
)
def test_json_is_read_with_and_without_a_fence(text: str) -> None:
    assert only(JSON, text) == Written({"message": "hi there", "mood": "1.5"})


def test_values_that_are_no_text_are_kept_as_readable_json() -> None:
    row = only(NO_SCHEMA_OF_AN_OBJECT, '{"message": ["zürich", 1], "b": null}')
    assert row == Written({"message": '["zürich",1]', "b": "null"})


def test_each_object_of_an_array_is_a_row() -> None:
    rows = parse(ARRAY, answer('```json\n[{"message": "one"}, {"message": "two", "mood": 1}]\n```'))
    assert rows == [Written({"message": "one"}), Written({"message": "two", "mood": "1"})]


def test_a_bad_item_of_an_array_costs_only_itself() -> None:
    items = [{"message": "one"}, {"message": "x", "mood": 0.3}, 7, {"message": "half \ud83d"}, {"message": "two"}]
    rows = parse(ARRAY, answer(json.dumps(items)))
    assert [row.fields.get("message") for row in rows] == ["one", None, None, None, "two"]
    assert [rule(row) for row in rows[1:4]] == ["schema", "schema", "encoding"]


def test_an_array_in_an_object_of_rows_is_read_as_the_array() -> None:
    bare = '[{"message": "one"}, {"message": 5}]'
    rows = parse(ARRAY, answer(bare))
    assert rows[0].fields["message"] == "one" and rows[1].problem
    assert parse(ARRAY, answer(f'{{"rows": {bare}}}')) == rows
    assert rule(only(ARRAY, f'{{"rows": {bare}, "more": 1}}')) == "schema"


@pytest.mark.parametrize(
    ("text", "broken"), [("[]", "schema"), ('{"message": "one"}', "schema"), ('[{"message": "o', "unparseable")]
)
def test_an_answer_that_is_no_array_of_rows_is_one_rejected_row(text: str, broken: str) -> None:
    assert rule(only(ARRAY, text)) == broken


def test_an_empty_array_is_a_reject_where_the_schema_allows_it() -> None:
    assert rule(only(Output(format="json", json_schema={"type": "array", "items": SCHEMA}), "[]")) == "empty"


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("\u200b\ufeff", "empty"),
        ("hello", "unparseable"),
        ('{"message": "hi', "unparseable"),
        ('Sure! {"message": "hi there"}', "unparseable"),
        ("[" * 100_000, "unparseable"),
        ("9" * 5_000, "unparseable"),
        ('{"mood": 1}', "schema"),
        ('{"message": "x"}', "schema"),
        ('{"message": 3}', "schema"),
        ('["message"]', "schema"),
        ('{"message": "hi there", "mood": Infinity}', "unparseable"),
        ('{"message": "hi there", "mood": NaN}', "unparseable"),
        ('{"message": "hi there", "mood": 1e999}', "unparseable"),
        ('{"message": "hi there", "message": "you there"}', "unparseable"),
        ('{"message": "hi there", "inner": [{"a": 1, "a": 1}]}', "unparseable"),
        ('{"message": "hi there"} I hope this helps.', "unparseable"),
        ('{"message": "$\\frac{3}{4}$ of all"}', "latex"),
        ('{"message": "hi there", "inner": ["$\\beta$"]}', "latex"),
        ('{"message": "half \\ud83d of a pair"}', "encoding"),
        ('{"message": "hi there", "half \\ud83d of a pair": 1}', "encoding"),
    ],
)
def test_an_answer_that_cannot_be_used_breaks_a_named_rule(text: str, broken: str) -> None:
    assert rule(only(JSON, text)) == broken


@pytest.mark.parametrize("output", [TEXT, LINES, JSON, ARRAY])
def test_an_answer_that_was_cut_off_or_refused_is_not_read_at_all(output: Output) -> None:
    good = '[{"message": "hi there"}]'
    assert only(output, good, "length") == Written(problem="truncated: the answer ran into max_tokens")
    assert only(output, "", "refused: too long") == Written(problem="refused: too long")
    assert only(output, "", "failed: no answer") == Written(problem="failed: no answer")
    for reason in ("content_filter", "abort"):
        assert rule(only(output, good, reason)) == "truncated"


@pytest.mark.parametrize("output", [TEXT, LINES])
def test_half_of_a_surrogate_pair_is_no_text(output: Output) -> None:
    assert rule(only(output, "half \ud83d of a pair")) == "encoding"


def test_an_answer_other_than_an_object_is_refused_where_the_schema_allows_it() -> None:
    assert rule(only(NO_SCHEMA_OF_AN_OBJECT, "[1]")) == "schema"


def test_a_long_value_does_not_make_a_long_rule() -> None:
    problem = only(JSON, json.dumps({"message": ["word"] * 9_000})).problem
    assert problem is not None and len(problem) <= MESSAGE_CHARACTERS + len("schema: ")


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["message", "mood", "x"]), inner),
    max_leaves=6,
)
DEEP = st.integers(1, 1500).map(lambda depth: '{"message": ' + "[" * depth + "]" * depth + "}")
ANY_CHARACTER = st.text(st.characters(exclude_categories=()))  # halves of surrogate pairs too
FENCED = NESTED.map(lambda value: f"```json\n{json.dumps(value)}\n```")


@given(st.text() | ANY_CHARACTER | NESTED.map(json.dumps) | FENCED | DEEP, st.sampled_from(["stop", "length"]))
@settings(max_examples=200, deadline=None)
def test_nothing_that_a_model_writes_raises_and_everything_said_of_it_can_be_stored(text: str, reason: str) -> None:
    for output in (TEXT, LINES, JSON, ARRAY, NO_SCHEMA_OF_AN_OBJECT):
        rows = parse(output, answer(text, reason))
        assert rows
        for row in rows:
            assert bool(row.fields) != bool(row.problem) or output is NO_SCHEMA_OF_AN_OBJECT
            assert not (row.fields and row.problem)
            for said in (*row.fields, *row.fields.values(), row.problem or ""):
                said.encode("utf-8")


@given(
    st.lists(
        st.dictionaries(st.just("message"), st.text(st.characters(codec="utf-8"), min_size=2), min_size=1), min_size=1
    )
)
@settings(max_examples=50, deadline=None)
def test_what_fits_the_schema_comes_back_as_it_was_written(items: list[dict[str, str]]) -> None:
    assert [row.fields for row in parse(ARRAY, answer(json.dumps(items)))] == items


@pytest.mark.parametrize("text", ['{"message": "hi", "mood": 1e999}', '{"message": "hi", "other": [-1e999]}'])
def test_a_number_that_no_float_can_hold_is_no_json(text: str) -> None:
    assert rule(only(JSON, text)) == "unparseable"


def test_a_pattern_that_takes_too_long_ends_after_a_second() -> None:
    output = Output(
        format="json",
        json_schema={"type": "object", "properties": {"message": {"type": "string", "pattern": "^(a|aa)+$"}}},
    )
    row = only(output, json.dumps({"message": "a" * 60 + "!"}))
    assert rule(row) == "schema" and "takes more than 1 s" in (row.problem or "")
    assert only(output, '{"message": "aaa"}') == Written({"message": "aaa"})
    assert rule(only(output, '{"message": "b"}')) == "schema"


@pytest.mark.parametrize(
    "reference", ["#/$defs/no", "#/properties/message", "https://127.0.0.1:1/schema.json", "#/required/0"]
)
def test_a_reference_that_cannot_be_followed_is_a_rule_and_no_exception(reference: str) -> None:
    schema = {"type": "object", "properties": {"message": {"$ref": reference}}}
    assert rule(only(Output(format="json", json_schema=schema), '{"message": "hi"}')) in ("schema", "unparseable")


REASONED = "<think>\nThey want it short.\n</think>\n\n"


def rejecting(output: Output) -> Output:
    return output.model_copy(update={"reasoning": "reject"})


def test_reasoning_is_cut_out_of_an_answer_of_every_format() -> None:
    assert only(TEXT, f"{REASONED}Where is my card?") == Written({"message": "Where is my card?"})
    rows = parse(LINES, answer("<thinking>\n- one\n</thinking>\n- Where is it?\n- It is gone."))
    assert [row.fields["message"] for row in rows] == ["Where is it?", "It is gone."]
    for text in ('{"message": "hi there"}', '```json\n{"message": "hi there"}\n```'):
        assert only(JSON, f'<think>{{"message": "no"}}</think>{text}') == Written({"message": "hi there"})
    inside = [{"message": f"{REASONED}one"}, {"message": "<think>on and on"}, {"message": "so it is</think>two"}]
    rows = parse(ARRAY, answer(json.dumps(inside)))
    assert [row.fields.get("message") for row in rows] == ["one", None, "two"] and rule(rows[1]) == "reasoning"


def test_what_is_left_without_reasoning_must_follow_the_schema() -> None:
    output = Output(format="json", json_schema={"type": "object", "properties": {"queue": {"enum": ["cards"]}}})
    assert only(output, json.dumps({"queue": f"{REASONED}cards"})) == Written({"queue": "cards"})
    assert rule(only(output, json.dumps({"queue": f"{REASONED}bills"}))) == "schema"


def test_reasoning_deep_in_an_answer_is_cut() -> None:
    deep = {"message": {"inner": [f"{REASONED}one", 2]}}
    assert only(NO_SCHEMA_OF_AN_OBJECT, json.dumps(deep)) == Written({"message": '{"inner":["one",2]}'})


@pytest.mark.parametrize("output", [TEXT, LINES, JSON, ARRAY])
def test_reasoning_without_an_answer_is_a_reject_whatever_the_prompt_says(output: Output) -> None:
    for either in (output, rejecting(output)):
        assert rule(only(either, "<think>\nYeast eats sugar, so there is gas, and then I")) == "reasoning"
    assert rule(only(output, REASONED)) == "empty"
    assert rule(only(output, f"{REASONED}\u200b")) == "empty"


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (TEXT, f"{REASONED}Where is my card?"),
        (TEXT, "It is short.</think>Where is my card?"),
        (LINES, "[THINK]It is short.[/THINK]Where is my card?"),
        (JSON, f'{REASONED}{{"message": "hi there"}}'),
        (JSON, '{"message": "<think>so</think>hi there"}'),
    ],
)
def test_a_prompt_can_reject_every_answer_with_reasoning(output: Output, text: str) -> None:
    assert parse(output, answer(text))[0].problem is None
    assert rule(only(rejecting(output), text)) == "reasoning"
    assert rejecting(JSON) != JSON and only(rejecting(TEXT), "Where is it?").problem is None
