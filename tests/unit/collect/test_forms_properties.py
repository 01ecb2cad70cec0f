"""What holds for any row: it is read or rejected, and one conversation is the same in every form; real data come in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.collect.config import Form
from tasks.collect.forms import fields_of, form_of
from tasks.collect.records import Rejected
from tasks.core.characters import is_blank
from tasks.core.config import ChatTask
from tasks.core.home import PROJECT_ROOT
from tasks.core.messages import why_invalid
from tests.unit.collect.rows_of_forms import assistant, read, system, turn, user

DATA = PROJECT_ROOT.parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data sets are not here")
FORMS: tuple[Form, ...] = ("alpaca", "sharegpt", "openai", "prompt_completion", "text", "columns")

WORDS = st.sampled_from(
    [
        "from",
        "value",
        "role",
        "content",
        "tool_calls",
        "tool_call_id",
        "function_call",
        "function",
        "name",
        "arguments",
        "type",
        "text",
        "id",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
COLUMN_NAMES = [
    "instruction",
    "input",
    "output",
    "system",
    "history",
    "messages",
    "conversations",
    "conversation",
    "tools",
    "functions",
    "prompt",
    "completion",
    "text",
    "chosen",
    "rejected",
]
ROLE_WORDS = st.sampled_from(
    ["human", "gpt", "user", "assistant", "system", "tool", "observation", "function_call", "function"]
)
TURNS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "from": ROLE_WORDS, "value": JSON, "role": ROLE_WORDS, "content": JSON, "tool_calls": JSON,
            "tool_call_id": JSON, "function_call": JSON,
        },
    ),
    max_size=4,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from(COLUMN_NAMES), JSON | TURNS, max_size=6),
    st.sampled_from([None, *FORMS]),
    st.dictionaries(st.just("field"), st.sampled_from([*COLUMN_NAMES, "messages.0.content", "tools.name"]), max_size=1),
)
def test_any_json_in_any_form_is_read_or_rejected(
    row: dict[str, Any], form: Form | None, columns: dict[str, str]
) -> None:
    try:
        found = read(row, form, columns=columns, task=ChatTask(system="s"))
    except Rejected as rejection:
        assert str(rejection).partition(":")[0].replace("_", "").isalpha()
        return
    json.dumps([found.messages, found.tools, found.fields], allow_nan=False).encode("utf-8")
    assert set(fields_of(form, columns)) <= set(found.fields)
    for message in found.messages:
        assert message["role"] in ("system", "user", "assistant", "tool") and isinstance(message["content"], str)
        for call in message.get("tool_calls", ()):
            assert isinstance(json.loads(call["arguments"]), dict)
    assert not found.messages or found.messages[0]["role"] == "system"


SAID = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20).filter(
    lambda text: not is_blank(text)
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(SAID, SAID), min_size=1, max_size=4), st.none() | SAID)
def test_the_same_conversation_is_the_same_in_every_form(pairs: list[tuple[str, str]], rules: str | None) -> None:
    expected = [message for asked, said in pairs for message in (user(asked.strip()), assistant(said.strip()))]
    expected = [system(rules.strip()), *expected] if rules else expected
    told = [turn("system", rules)] if rules else []
    *history, (question, answer) = pairs
    rows: dict[Form, dict[str, Any]] = {
        "sharegpt": {"conversations": told + [t for a, s in pairs for t in (turn("human", a), turn("gpt", s))]},
        "openai": {"messages": [{"role": m["role"], "content": m["content"]} for m in expected]},
        "alpaca": {"instruction": question, "output": answer, "history": list(map(list, history)), "system": rules},
        "prompt_completion": {"prompt": expected[:-1], "completion": expected[-1:]},
    }
    for form, row in rows.items():
        assert form_of(row) == form
        assert read(row).messages == expected, form


@needs_data
def test_the_alpaca_demo_is_read_whole() -> None:
    rows = json.loads((DATA / "alpaca_demo" / "alpaca_en_demo.json").read_text(encoding="utf-8"))
    assert all(why_invalid(read(row).messages) is None for row in rows) and len(rows) == 999


@needs_data
def test_the_sharegpt_demo_keeps_every_tool_turn() -> None:
    rows = json.loads((DATA / "sharegpt_demo" / "glaive_toolcall_en_demo.json").read_text(encoding="utf-8"))
    found = [read(row) for row in rows]
    messages = [message for conversation in found for message in conversation.messages]
    assert all(why_invalid(conversation.messages) is None for conversation in found)
    assert sum("tool_calls" in message for message in messages) == 211
    assert sum(message["role"] == "tool" for message in messages) == 211
    assert all(conversation.tools for conversation, row in zip(found, rows, strict=True) if json.loads(row["tools"]))


@needs_data
def test_self_instructs_seed_tasks_are_read_through_a_mapping() -> None:
    text = (DATA / "self_instruct" / "seed_tasks.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    columns = {"instruction": "instruction", "given": "instances.0.input", "output": "instances.0.output"}
    task = ChatTask(input="instruction", context="given")
    found = [read(row, columns=columns, task=task) for row in rows]
    assert len(found) == 175
    assert found[0].fields["output"] == rows[0]["instances"][0]["output"].strip()
    assert found[0].messages == [user(found[0].fields["instruction"]), assistant(found[0].fields["output"])]
    assert found[1].messages[0] == user(found[1].fields["instruction"] + "\n" + found[1].fields["given"])
