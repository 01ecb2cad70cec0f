"""Keys that change what a row or a turn means: honoured, refused by name, or counted."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.core.config import ChatTask
from tests.unit.collect.rows_of_forms import assistant, read, rule, system, turn, user

TALK = {"messages": [user("a"), assistant("b")]}
ROWS: dict[str, dict[str, Any]] = {
    "openai": TALK,
    "sharegpt": {"conversations": [turn("human", "a"), turn("gpt", "b")]},
    "alpaca": {"instruction": "a", "output": "b"},
    "prompt_completion": {"prompt": "a", "completion": "b"},
}
by_form = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
MAPPED = {"input": "q", "output": "a"}


@by_form
@pytest.mark.parametrize("verdict", [True, False, "true", "False", 0, 1, 1.0, "0"])
def test_a_verdict_on_the_answer_is_preference_data_in_every_form(row: dict[str, Any], verdict: Any) -> None:
    assert rule({**row, "label": verdict}).startswith("preference: 'label' says whether the answer is wanted; name it")


@by_form
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kto_tag", "good"),
        ("kto_tag", False),
        ("desirable", True),
        ("rejected", "c"),
        ("rejected", True),
        ("rejected_response", "c"),
        ("non_preferred_output", [assistant("c")]),
        ("preference", 1),
    ],
)
def test_answers_to_be_avoided_are_refused_in_every_form(row: dict[str, Any], key: str, value: Any) -> None:
    assert rule({**row, key: value}).startswith(f"preference: {key!r}")


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": "a", "rejected": "b"},
        {"prompt": "a", "chosen": [assistant("b")], "rejected": [assistant("c")]},
        {"input": TALK, "preferred_output": [assistant("b")], "non_preferred_output": [assistant("c")]},
        {"prompt": "a", "response_0": "b", "response_1": "c", "better_response_id": 0},
        {"context": "a", "response1": "b", "response2": "c", "overall_preference": -2},
        {"conversation_a": [user("a")], "conversation_b": [user("a")], "winner": "model_a"},
        {"instruction": "a", "generations": ["b", "c"], "ratings": [5, 1]},
        {"prompt": "a", "completions": ["b", "c"], "labels": [True, False]},
    ],
)
def test_preference_data_of_an_unknown_form_are_named_too(row: dict[str, Any]) -> None:
    assert rule(row).startswith("preference: ")


@by_form
def test_other_labels_and_scores_are_counted(row: dict[str, Any]) -> None:
    found = read({**row, "label": "spam", "score": 5.2, "rejected": False, "rejected_reason": "none", "winner": "me"})
    assert found.ignored == {"label", "score", "rejected", "rejected_reason", "winner"}
    nothing = read({**row, "label": None, "kto_tag": "", "rejected": [], "images": [None], "weight": None})
    assert nothing.messages and not nothing.ignored


def test_in_a_mapped_table_only_a_verdict_is_preference_data() -> None:
    row = {"q": "a", "a": "b"}
    for verdict in (True, "False"):
        assert rule({**row, "label": verdict}, columns=MAPPED).startswith("preference: 'label'")
    assert rule({**row, "kto_tag": False}, columns=MAPPED).startswith("preference: 'kto_tag'")
    assert read({**row, "label": 1}, columns=MAPPED).messages == [user("a"), assistant("b")]
    assert read({"q": "a", "label": True}, columns={"input": "q", "output": "label"}).messages[1] == assistant("true")
    assert read({"q": "a", "label": True}, columns={"topic": "q"}).fields == {"topic": "a"}  # only prompts read it


@pytest.mark.parametrize("columns", [{"letter": "l", "team": "t"}, {"letter": "l"}, {"input": "l", "output": "t"}])
def test_columns_of_a_table_are_not_a_rows_values(columns: dict[str, str]) -> None:
    """A line of JSON Lines, say, which pandas wrote without ``lines=True``."""
    row: dict[str, Any] = {"l": {"0": "a", "1": "b"}, "t": {"0": "c", "1": "d"}}
    names = " and ".join(map(repr, columns.values()))
    assert rule(row, columns=columns).startswith(f"type: columns of a table instead of one row's values: {names};")
    if len(columns) == 2:
        assert rule({"l": ["a", "b"], "t": ["c", "d"]}, columns=columns).startswith("type: columns of a table")


def test_what_the_recipe_names_means_what_the_recipe_says() -> None:
    kept = read({"prompt": "a", "completion": "b", "label": True}, named=("label",))
    assert kept.messages == [user("a"), assistant("b")] and not kept.ignored
    chosen = read({"prompt": "a", "chosen": "b", "rejected": "c"}, "prompt_completion", completion="chosen")
    assert chosen.messages == [user("a"), assistant("b")] and chosen.ignored == {"rejected"}
    assert read({"q": "a", "chosen": "b", "rejected": "c"}, columns={"input": "q", "output": "chosen"}).messages


@by_form
@pytest.mark.parametrize("key", ["images", "image", "audio", "audios", "video", "videos", "image_url"])
def test_pictures_and_sound_beside_the_text_are_refused(row: dict[str, Any], key: str) -> None:
    assert rule({**row, key: ["a.png"]}) == f"media: {key!r} comes with the text: only text is supported"
    for nothing in ([], None, "", [{"bytes": None, "path": None}]):
        assert read({**row, key: nothing}).messages == [user("a"), assistant("b")]


def test_a_picture_of_a_turn_is_refused_and_a_null_is_not() -> None:
    assert rule({"messages": [user("a") | {"images": ["a.png"]}, assistant("b")]}).startswith(
        "media: 'messages[0].images'"
    )
    spoken = assistant("b") | {"audio": None, "refusal": None, "function_call": None, "tool_calls": []}
    found = read({"messages": [user("a"), spoken], "parallel_tool_calls": None})
    assert found.messages == [user("a"), assistant("b")] and not found.ignored


@by_form
def test_a_rows_weight_keeps_it_or_refuses_it(row: dict[str, Any]) -> None:
    assert rule({**row, "weight": 0}) == "weight: 'weight' is 0: the row is not to be learned"
    assert rule({**row, "train": False}).startswith("weight: 'train' is False")
    assert rule({**row, "loss_weight": 0.3}).startswith("weight: 'loss_weight' is 0.3: only 0 and 1")
    assert read({**row, "weight": 1.0}).messages == [user("a"), assistant("b")]


FIRST_UNLEARNED = [user("a"), assistant("b") | {"weight": 0}, user("c"), assistant("d")]


@pytest.mark.parametrize(
    "key", ["weight", "loss_weight", "loss", "loss_mask", "train", "training", "train_on_turn", "trainable"]
)
@pytest.mark.parametrize("value", [0, 0.0, False])
def test_a_turn_of_weight_zero_is_kept_and_not_learned(key: str, value: Any) -> None:
    turns = [user("a"), assistant("b") | {key: value}, user("c"), assistant("d") | {key: 1}]
    assert read({"messages": turns}).messages == FIRST_UNLEARNED
    told = [turn("human", "a"), turn("gpt", "b") | {key: value}, turn("human", "c"), turn("gpt", "d") | {key: True}]
    assert read({"conversations": told}).messages == FIRST_UNLEARNED
    prompted = read({"prompt": turns[:3], "completion": turns[3:]})
    assert prompted.messages == FIRST_UNLEARNED and not prompted.ignored


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"weight": 0.5}, "weight: 'messages[1].weight' is 0.5: only 0 and 1"),
        ({"loss_scale": 2}, "weight: 'messages[1].loss_scale' is 2: only 0 and 1"),
        ({"train": "no"}, "weight: 'messages[1].train' is 'no': only 0 and 1"),
        ({"loss": [0, 1]}, "weight: 'messages[1].loss' is of type list: only 0 and 1"),
        ({"weight": 0, "train": True}, "weight: 'messages[1]' has keys that contradict each other: weight, train"),
        (
            {"train_detail": [{"begin_offset": 0, "end_offset": 3, "train": False}]},
            "weight: 'messages[1].train_detail'",
        ),
    ],
)
def test_a_weight_that_cannot_be_honoured_is_refused(keys: dict[str, Any], expected: str) -> None:
    assert rule({"messages": [user("a"), assistant("b") | keys, user("c"), assistant("d")]}).startswith(expected)


def test_what_follows_the_last_learned_turn_is_left_out_and_counted() -> None:
    turns = [user("a"), assistant("b"), user("c"), assistant("d") | {"weight": 0}]
    found = read({"messages": turns})
    assert found.messages == [user("a"), assistant("b")] and found.fields == {"user": "a", "assistant": "b"}
    assert found.ignored == {"turns after the last one to learn"}
    assert [turn["content"] for turn in found.uncut] == ["a", "b", "c", "d"]
    nothing = [user("a"), assistant("b") | {"weight": 0}, user("c"), assistant("d") | {"weight": 0}]
    assert rule({"messages": nothing}) == "weight: every turn of the assistant is excluded from learning"


def test_a_call_and_its_text_are_one_turn_only_if_both_are_learned() -> None:
    call = turn("function_call", '{"name": "f"}')
    told = [turn("human", "a"), turn("gpt", "wait"), call | {"weight": 0}, turn("observation", ""), turn("gpt", "b")]
    found = read({"conversations": told}).messages
    assert [(message["role"], message.get("weight")) for message in found] == [
        ("user", None), ("assistant", None), ("assistant", 0), ("tool", None), ("assistant", None),
    ]  # fmt: skip


def test_keys_that_nothing_reads_are_counted_by_name() -> None:
    thinking = assistant("b") | {"reasoning_content": "hm", "weight": 1}
    turns = [
        user("a") | {"name": "Ann", "weight": 1},
        thinking,
        user("c"),
        assistant("d") | {"reasoning_content": "so"},
    ]
    found = read({"messages": turns, "id": 7, "system": None, "parallel_tool_calls": False})
    assert found.messages == [user("a"), assistant("b"), user("c"), assistant("d")]
    assert found.ignored == {
        "id", "parallel_tool_calls", "messages[].name", "messages[].weight", "messages[].reasoning_content",
    }  # fmt: skip
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "b"}]
    assert read({"messages": [user("a"), assistant("") | {"content": parts}]}).ignored == {
        "messages[].content[].thinking"
    }
    both = {"messages": [user("a"), assistant("b")], "conversations": [turn("human", "c")], "prompt": "a"}
    assert read(both).ignored == {"conversations", "prompt"}


def test_emptiness_that_means_nothing_costs_no_conversation() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "null"}}
    asking: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "1", "content": None}
    found = read(
        {"messages": [system(""), user("a"), asking, result, assistant("b"), system(" "), user("c"), assistant("d")]}
    )
    assert [message["role"] for message in found.messages] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
        "assistant",
    ]
    assert found.messages[1]["tool_calls"][0]["arguments"] == "{}" and found.messages[2]["content"] == ""
    told = [
        turn("system", ""),
        turn("human", "a"),
        turn("gpt", "b") | {"tool_calls": "null", "function_call": {"name": None}},
    ]
    nothing: tuple[Any, ...] = ("", None, [], "null")
    for empty in nothing:
        row = {"conversations": told, "system": empty if empty != "null" else "", "tools": empty}
        assert read(row, task=ChatTask(system="s")).messages == [system("s"), user("a"), assistant("b")]
        assert read({"instruction": "a", "output": "b", "history": empty}).messages == [user("a"), assistant("b")]
    assert rule({"messages": [user(""), assistant("b")]}) == "missing: 'messages[0].content' is empty"
    assert rule({"messages": [user("a"), assistant("") | {"tool_calls": []}]}).startswith("missing: ")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (["a"], "a"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "c"}], "a\nc"),
        ({"content_type": "text", "parts": ["a"]}, "a"),
    ],
)
def test_parts_of_a_turn_are_joined_in_every_form(content: Any, text: str) -> None:
    assert read({"messages": [user("") | {"content": content}, assistant("b")]}).messages[0] == user(text)
    assert read({"conversations": [turn("human", content), turn("gpt", "b")]}).messages[0] == user(text)
    assert read({"prompt": [{"role": "user", "content": content}], "completion": "b"}).messages[0] == user(text)


def test_parts_of_a_column_are_joined_and_lists_and_objects_refused() -> None:
    parts = [{"type": "text", "text": "a"}]
    assert read({"prompt": parts, "completion": "b"}).messages[0] == user("a")
    assert read({"instruction": parts, "output": "b", "history": [[parts, "d"]]}).messages[::2] == [
        user("a"),
        user("a"),
    ]
    assert read({"q": parts, "a": "b"}, columns=MAPPED).messages[0] == user("a")
    assert rule({"instruction": "a", "output": ["b", "c"]}) == "type: 'output' is a list of texts, not a text"
    assert rule({"instruction": "a", "output": {"b": 1}}).startswith("conversation: 'output' is an object")
    assert rule({"conversations": [turn("human", {"b": 1}), turn("gpt", "b")]}).startswith(
        "conversation: 'conversations[0].value'"
    )
    assert read({"q": ["x"]}, columns={"topic": "q"}).fields == {"topic": '["x"]'}  # only prompts read it


def test_a_tools_result_may_be_data() -> None:
    def result(content: Any) -> str:
        call = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
        row = {"messages": [user("a"), call, {"role": "tool", "content": content}, assistant("b")]}
        return str(read(row).messages[2]["content"])

    assert result({"sun": True}) == '{"sun":true}' and result([1, 2]) == "[1,2]"
    assert result([{"type": "text", "text": "sun"}]) == "sun"
