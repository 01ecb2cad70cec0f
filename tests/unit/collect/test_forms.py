"""Rows of every form become canonical messages, or are rejected by a rule that names the place."""

from __future__ import annotations

import datetime
import decimal
import json
from typing import Any

import pytest

from tasks.collect.config import Form
from tasks.collect.forms import Conversation, fields_of, form_of
from tasks.core.config import ChatTask
from tests.unit.collect.rows_of_forms import assistant, read, rule, system, turn, user


def test_an_alpaca_row_joins_instruction_and_input() -> None:
    found = read({"instruction": " Translate. ", "input": "Haus", "output": "house"})
    assert found.messages == [user("Translate.\nHaus"), assistant("house")]
    assert found.fields == {"instruction": "Translate.", "input": "Haus", "output": "house"}
    assert found.tools is None


def test_alpacas_system_and_history_come_before_the_question() -> None:
    row = {"instruction": "c", "input": None, "output": "d", "system": "Be kind.", "history": [["a", "b"]]}
    expected = [system("Be kind."), user("a"), assistant("b"), user("c"), assistant("d")]
    assert read(row).messages == expected
    assert read({**row, "history": '[["a", "b"]]'}).messages == expected
    assert read({**row, "history": []}).messages == [system("Be kind."), user("c"), assistant("d")]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"instruction": "a", "output": " "}, "missing: 'output' is empty"),
        ({"instruction": "a", "output": float("nan")}, "missing: 'output' is empty"),
        ({"instruction": "", "input": None, "output": "b"}, "missing: 'instruction' is empty"),
        ({"instruction": "a", "output": "b", "history": [["c"]]}, "history: 'history[0]' is not a pair"),
        ({"instruction": "a", "output": "b", "history": {"c": "d"}}, "history: 'history' is not a list"),
        ({"instruction": "a", "output": "b", "history": [["c", ""]]}, "missing: 'history[0][1]' is empty"),
    ],
)
def test_an_alpaca_row_that_lacks_a_part_is_rejected_with_its_place(row: dict[str, Any], expected: str) -> None:
    assert rule(row, "alpaca").startswith(expected)


def test_prompt_and_completion_are_texts_or_turns() -> None:
    expected = [user("a"), assistant("b")]
    assert read({"prompt": "a", "completion": "b"}).messages == expected
    assert read({"prompt": [user("a")], "completion": [assistant("b")]}).messages == expected
    assert read({"prompt": [system("s"), user("a")], "completion": "b"}).messages == [system("s"), *expected]
    assert read({"prompt": [user("a")], "completion": [assistant("b")]}).fields == {"user": "a", "assistant": "b"}
    assert rule({"prompt": "a", "completion": []}) == "missing: 'completion' has no turn"


def test_plain_text_is_no_conversation() -> None:
    found = read({"text": "A story. "}, task=ChatTask(system="s", labels=("x",)))
    assert found == Conversation([], None, {"text": "A story."})


def test_mapped_columns_become_fields_and_a_conversation() -> None:
    row = {"body": {"text": "lost it"}, "queue": 7, "when": datetime.date(2026, 1, 2), "sum": decimal.Decimal("1.50")}
    columns = {"message": "body.text", "queue": "queue", "when": "when", "sum": "sum"}
    found = read(row, columns=columns, task=ChatTask(input="message", output="queue", system="Route."))
    assert found.fields == {"message": "lost it", "queue": "7", "when": "2026-01-02", "sum": "1.50"}
    assert found.messages == [system("Route."), user("lost it"), assistant("7")]


def test_only_the_mapped_context_may_be_empty() -> None:
    columns = {"input": "q", "context": "c", "output": "a"}
    task = ChatTask(context="context")
    assert read({"q": "x", "c": "below", "a": "y"}, columns=columns, task=task).messages[0] == user("x\nbelow")
    found = read({"q": "x", "c": "", "a": "y"}, columns=columns, task=task)
    assert found.messages == [user("x"), assistant("y")] and found.fields["context"] == ""
    assert rule({"q": "x", "c": "", "a": "y"}, columns=columns) == "missing: 'c' is empty"


def test_mapped_columns_without_question_and_answer_only_feed_prompts() -> None:
    assert read({"a": "x"}, columns={"topic": "a"}).messages == []


def test_a_mapped_tables_own_system_column_means_nothing_unless_the_layout_names_it() -> None:
    row = {"q": "a", "a": "b", "system": "linux"}
    columns = {"input": "q", "output": "a"}
    assert read(row, columns=columns).messages == [user("a"), assistant("b")]
    assert read(row, columns=columns, system="system").messages[0] == system("linux")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a.0.b", "deep"),
        ("a.1", "second"),
        ("x.y", "dotted key"),
        ("x.y.z", None),
        ("p.q.r", "key of two words"),
        ("a.7", None),
        ("a.-1", None),
        ("a.b", None),
        ("", None),
    ],
)
def test_a_path_leads_into_lists_mappings_and_keys_with_dots(path: str, value: str | None) -> None:
    row = {"a": [{"b": "deep"}, "second"], "x.y": "dotted key", "p": {"q.r": "key of two words"}}
    if value is None:
        assert rule(row, columns={"field": path}) == f"missing: {path!r} is empty"
    else:
        assert read(row, columns={"field": path}).fields == {"field": value}


def test_columns_beside_a_stated_form_are_further_fields() -> None:
    row = {"instruction": "a", "output": "b", "meta": {"topic": "cats"}}
    found = read(row, "alpaca", columns={"topic": "meta.topic"})
    assert found.fields == {"instruction": "a", "input": "", "output": "b", "topic": "cats"}
    assert fields_of("alpaca", {"topic": "meta.topic"}) == tuple(found.fields)


@pytest.mark.parametrize(
    ("row", "form"),
    [
        ({"messages": [user("a")]}, "openai"),
        ({"messages": [turn("human", "a")]}, "sharegpt"),
        ({"conversations": [user("a")]}, "openai"),
        ({"conversations": [], "text": "t"}, "sharegpt"),
        ({"messages": json.dumps([user("a")])}, "openai"),
        ({"prompt": "a", "prompt_id": 1, "messages": [user("a")]}, "openai"),
        ({"instruction": "a", "input": "", "output": "b", "text": "all"}, "alpaca"),
        ({"prompt": "a", "completion": "b"}, "prompt_completion"),
        ({"text": "a", "url": "b"}, "text"),
    ],
)
def test_a_form_is_told_by_columns_and_first_turn(row: dict[str, Any], form: Form) -> None:
    assert form_of(row) == form


def test_a_row_of_no_known_form_is_rejected_with_its_columns() -> None:
    assert rule({"question": "a", "answer": "b"}).startswith(
        "form: unknown for the columns 'question', 'answer'; map them"
    )
    assert rule({f"c{n}": n for n in range(50)}).count("'c") == 12
    assert "'c11', ...; map" in rule({f"c{n}": n for n in range(13)})
    assert "'c11'; map" in rule({f"c{n}": n for n in range(12)})


@pytest.mark.parametrize("form", [None, "alpaca", "sharegpt", "openai", "prompt_completion"])
def test_preferences_are_refused(form: Form | None) -> None:
    row = {"instruction": "a", "prompt": "a", "output": "b", "chosen": "b", "rejected": "c"}
    assert rule(row, form).startswith("preference: 'rejected'")


@pytest.mark.parametrize("form", ["alpaca", "sharegpt", "openai", "prompt_completion"])
def test_the_tasks_system_turn_stands_first_where_the_conversation_has_none(form: Form) -> None:
    rows: dict[Form, dict[str, Any]] = {
        "alpaca": {"instruction": "a", "output": "b"},
        "sharegpt": {"conversations": [turn("human", "a"), turn("gpt", "b")]},
        "openai": {"messages": [user("a"), assistant("b")]},
        "prompt_completion": {"prompt": "a", "completion": "b"},
    }
    task = ChatTask(system="Be kind.")
    assert read(rows[form], form, task=task).messages == [system("Be kind."), user("a"), assistant("b")]


def test_an_answer_that_is_no_label_is_rejected() -> None:
    task = ChatTask(labels=("yes", "no"))
    assert rule({"instruction": "a", "output": "maybe"}, task=task) == "unknown_label: 'maybe'"
    assert rule({"instruction": "a", "output": "YES."}, task=task) == "unknown_label: 'YES.' did you mean 'yes'?"
    assert read({"instruction": "a", "output": " no "}, task=task).messages[-1] == assistant("no")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("half \ud800", "encoding: '{}' is not UTF-8"),
        ("a\0b", "encoding: '{}' holds a NUL"),
        (b"bytes", "type: '{}' is binary"),
        (10**5000, "type: '{}' is not text"),
        ([datetime.time(1)], "conversation: '{}[0]' is of type time: only text is supported"),
        (["a", "b"], "type: '{}' is a list of texts"),
        ({"said": "a"}, "conversation: '{}' is an object without a known type"),
    ],
    ids=["half a pair", "NUL", "binary", "long number", "odd list", "list", "object"],
)
def test_what_is_no_storable_text_is_rejected(value: Any, expected: str) -> None:
    assert rule({"text": value}).startswith(expected.format("text"))
    assert rule({"q": "a", "a": value}, columns={"input": "q", "output": "a"}).startswith(expected.format("a"))


def test_deep_nesting_is_a_rule_and_no_crash() -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    assert rule({"text": "a", "tools": deep, "output": "b", "instruction": "c"}, "alpaca").startswith("nesting: ")
    assert rule({"conversations": "[" * 100_000}, "sharegpt").startswith("nesting: ")


def test_a_layout_gives_the_sources_own_words() -> None:
    row = {"talk": [{"who": "Customer", "said": "a"}, {"who": "Agent", "said": "b"}], "system": "unread", "rules": "s"}
    words = {"Customer": "user", "Agent": "assistant"}
    found = read(row, "sharegpt", messages="talk", role_key="who", content_key="said", system="rules", roles=words)
    assert found.messages == [system("s"), user("a"), assistant("b")]
    alpaca = read({"q": "a", "input": "unread", "r": "b"}, "alpaca", instruction="q", input="", output="r")
    assert alpaca.messages == [user("a"), assistant("b")]
