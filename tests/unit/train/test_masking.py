from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.errors import TrainingError
from tasks.core.reasoning import without_reasoning
from tasks.train.chat_templates import CHATML
from tasks.train.masking import IGNORED, mark_trained, row_tokeniser, trained_token_share
from tests.tiny_model import tiny_tokenizer
from tests.unit.train.conversations import CALL, TURNS

TOKENIZER = tiny_tokenizer()


def test_every_assistant_turn_is_trained_with_its_end_and_nothing_else() -> None:
    row = row_tokeniser(TOKENIZER, 128)(TURNS)
    assert mark_trained(row.input_ids, row.labels, TOKENIZER) == (
        "<|im_start|>system\nroute<|im_end|>\n<|im_start|>user\nwhere is my card<|im_end|>\n"
        "<|im_start|>assistant\n[[cards<|im_end|>]]\n<|im_start|>user\nand my account<|im_end|>\n"
        "<|im_start|>assistant\n[[accounts<|im_end|>]]\n"
    )
    assert row.problem == ""


@settings(max_examples=60, deadline=None)
@given(
    st.text(min_size=1).filter(lambda text: text.strip() and "<|" not in text),
    st.text(min_size=1).filter(lambda text: text.strip() and "<|" not in text),
)
def test_the_tokens_before_the_answer_are_those_a_server_prompts_with(user: str, answer: str) -> None:
    messages = [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]
    row = row_tokeniser(TOKENIZER, 4096)(messages)
    prompt = TOKENIZER.apply_chat_template(messages[:1], add_generation_prompt=True, return_dict=False)
    if row.problem:
        assert row.problem == "token_boundary"
        assert answer[0].isspace()
        return
    assert row.input_ids[: len(prompt)] == prompt
    assert set(row.labels[: len(prompt)]) == {IGNORED}
    learned = [label for label in row.labels if label != IGNORED]
    assert learned == TOKENIZER(answer + "<|im_end|>")["input_ids"]


TOOL_TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "where is my card"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": '{"place": "post"}', "tool_call_id": "1"},
    {"role": "assistant", "content": "in the post"},
]


def test_tool_calls_are_trained_and_the_tools_results_are_not() -> None:
    row = row_tokeniser(TOKENIZER, 1024)(TOOL_TURNS, [{"name": "find_card"}])
    shown = mark_trained(row.input_ids, row.labels, TOKENIZER)
    assert row.problem == ""
    assert '{"name": "find_card"}' in shown.partition("<|im_end|>")[0]
    assert '[[<tool_call>{"name": "find_card", "arguments": {"owner": "Ann"}}</tool_call><|im_end|>]]' in shown
    assert '<|im_start|>tool\n{"place": "post"}<|im_end|>' in shown
    assert shown.count("[[") == 2


def test_a_template_that_leaves_tool_calls_out_trains_on_no_such_row() -> None:
    plain = tiny_tokenizer(
        "{% for turn in messages %}<|im_start|>{{ turn['role'] }}\n{{ turn['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    assert row_tokeniser(plain, 1024)(TOOL_TURNS).problem == "template_without_tool_calls"


ALTERNATING = (
    "{% for turn in messages %}{% if turn['role'] != ['user', 'assistant'][loop.index0 % 2] %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "<|im_start|>{{ turn['role'] }}\\n{{ turn['content'] }}<|im_end|>\\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\\n{% endif %}"
)


@pytest.mark.parametrize("printed", ["{% if tools %}{{ tools | tojson }}{% endif %}", ""])
def test_the_name_of_a_function_elsewhere_does_not_stand_for_its_call(printed: str) -> None:
    """A template that shows the tools but no calls, and a user who writes the function's name."""
    plain = tiny_tokenizer(
        printed + "{% for turn in messages %}<|im_start|>{{ turn['role'] }}\n{{ turn['content'] }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    turns = [{"role": "user", "content": "please find_card"}, *TOOL_TURNS[1:]]
    assert row_tokeniser(plain, 1024)(turns, [{"name": "find_card"}]).problem == "template_without_tool_calls"


def test_a_conversation_that_the_template_refuses_costs_itself_alone() -> None:
    tokenise = row_tokeniser(tiny_tokenizer(ALTERNATING), 1024)
    assert tokenise(TURNS[1:]).problem == ""
    refused = tokenise([TURNS[1], *TURNS[1:]])
    assert (refused.problem, refused.detail, refused.input_ids) == ("template_refuses", "roles must alternate", [])


@pytest.mark.parametrize(
    ("train_on", "marked"),
    [
        ("assistant", ["cards<|im_end|>", "accounts<|im_end|>"]),
        ("last_turn", ["accounts<|im_end|>"]),
        ("completion", ["accounts<|im_end|>\n"]),
    ],
)
def test_of_several_turns_those_are_trained_that_are_asked_for(train_on: Any, marked: list[str]) -> None:
    row = row_tokeniser(TOKENIZER, 128, train_on)(TURNS)
    shown = mark_trained(row.input_ids, row.labels, TOKENIZER)
    assert [part.split("]]")[0] for part in shown.split("[[")[1:]] == marked


def test_everything_trains_every_token() -> None:
    row = row_tokeniser(TOKENIZER, 128, "everything")(TURNS)
    assert row.labels == row.input_ids
    assert trained_token_share([{"labels": row.labels}], "everything") == 1
    with pytest.raises(TrainingError, match="loss mask"):
        trained_token_share([{"labels": [IGNORED, IGNORED]}], "everything")


@pytest.mark.parametrize("train_on", ["assistant", "last_turn", "completion", "everything"])
def test_a_turn_of_weight_zero_is_rendered_and_not_trained(train_on: Any) -> None:
    tokenise = row_tokeniser(TOKENIZER, 128, train_on)
    weighed = [turn | ({"weight": 0} if turn["content"] == "cards" else {}) for turn in TURNS]
    row, whole = tokenise(weighed), tokenise(TURNS)
    assert row.input_ids == whole.input_ids
    shown = mark_trained(row.input_ids, row.labels, TOKENIZER)
    assert "assistant\ncards<|im_end|>" in shown.replace("]]", "").replace("[[", "")
    if train_on == "everything":
        assert "assistant\n]]cards<|im_end|>[[\n" in shown
    else:
        assert row.labels == tokenise(TURNS).labels if train_on != "assistant" else shown.count("[[") == 1
        assert "[[accounts<|im_end|>" in shown


def test_a_template_never_sees_a_weight() -> None:
    dumps = tiny_tokenizer(CHATML.replace("message['content']", "message | tojson"))
    row = row_tokeniser(dumps, 512)([*TURNS[:2], {**TURNS[2], "weight": 0}, *TURNS[3:]])
    assert "weight" not in dumps.decode(row.input_ids) and row.trained > 0


def test_the_last_turn_of_a_conversation_with_tools_is_what_is_said_after_the_result() -> None:
    row = row_tokeniser(TOKENIZER, 1024, "last_turn")(TOOL_TURNS, [{"name": "find_card"}])
    shown = mark_trained(row.input_ids, row.labels, TOKENIZER)
    assert "[[in the post<|im_end|>]]" in shown
    assert shown.count("[[") == 1


def test_a_row_that_is_too_long_says_so() -> None:
    length = len(row_tokeniser(TOKENIZER, 10_000)(TURNS).input_ids)
    assert row_tokeniser(TOKENIZER, length)(TURNS).problem == ""
    assert row_tokeniser(TOKENIZER, length - 1)(TURNS).problem == "too_long"


def test_a_template_that_cannot_be_masked_is_named() -> None:
    with pytest.raises(TrainingError, match="no special token") as caught:
        row_tokeniser(tiny_tokenizer(CHATML.replace("<|im_end|>", "")), 128)(TURNS)
    assert "chat_template: chatml" in caught.value.remedy


LAST_TURN_OTHERWISE = CHATML.replace(
    "{{ message['content'] }}", "{{ message['content'] if loop.last or message['role'] != 'assistant' else '' }}"
)
"""An earlier answer is rendered otherwise once a later turn follows it, as Qwen3 does with its thoughts."""


def test_a_row_whose_earlier_turns_are_rendered_otherwise_is_set_aside_but_for_its_last_turn() -> None:
    tokenizer = tiny_tokenizer(LAST_TURN_OTHERWISE)
    assert row_tokeniser(tokenizer, 128)(TURNS).problem == "template_changes_turns"
    assert row_tokeniser(tokenizer, 128)(TURNS[:3]).problem == ""
    last = row_tokeniser(tokenizer, 128, "last_turn")(TURNS)
    assert (last.problem, last.trained > 0) == ("", True)


@pytest.mark.parametrize("labels", [[IGNORED, IGNORED], [1, 2]])
def test_training_none_or_all_tokens_is_an_error(labels: list[int]) -> None:
    with pytest.raises(TrainingError, match="of 2 tokens"):
        trained_token_share([{"labels": labels}])


def test_the_share_counts_tokens_not_rows() -> None:
    assert trained_token_share([{"labels": [IGNORED, 5]}, {"labels": [IGNORED] * 6}]) == 1 / 8


R1 = (  # cuts thoughts from every turn, and opens one in the prompt
    "{% for turn in messages %}<|im_start|>{{ turn['role'] }}\n{{ turn['content'].split('</think>')[-1] | trim }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
QWEN3 = (  # an empty thought in the last turn; none in the prompt
    "{% for turn in messages %}<|im_start|>{{ turn['role'] }}\n"
    "{% if loop.last and turn['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
    "{{ turn['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN3_THINKING = QWEN3.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
MAGISTRAL = R1.replace("<think>", "[THINK]").replace("</think>", "[/THINK]")


def learned(template: str, turns: list[dict[str, Any]] = TURNS[:3], train_on: Any = "assistant") -> str:
    """What a model must write after the prompt that a server renders, or the problem."""
    tokenizer = tiny_tokenizer(template)
    row = row_tokeniser(tokenizer, 512, train_on)(turns)
    if row.problem:
        return row.problem
    prompt = tokenizer.apply_chat_template(turns[:-1], tokenize=False, add_generation_prompt=True)
    start = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    assert row.input_ids[: len(start)] == start, "the prompt is the server's"
    assert row.end == tokenizer.convert_tokens_to_ids("<|im_end|>")
    return str(tokenizer.decode([label for label in row.labels if label != IGNORED]))


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        (R1, "\n</think>\n\ncards<|im_end|>"),
        (QWEN3, "<think>\n\n</think>\n\ncards<|im_end|>"),
        (QWEN3_THINKING, "\n</think>\n\ncards<|im_end|>"),
        (MAGISTRAL, "\n[/THINK]\n\ncards<|im_end|>"),
    ],
    ids=["r1", "qwen 3", "qwen 3 thinking", "magistral"],
)
@pytest.mark.parametrize("train_on", ["assistant", "last_turn"])
def test_a_template_that_thinks_is_learned_as_it_is_served(template: str, wanted: str, train_on: Any) -> None:
    assert learned(template, train_on=train_on) == wanted
    assert without_reasoning(wanted.removesuffix("<|im_end|>")) == "cards", "a perfect pupil is right"


def test_a_turns_own_thought_is_learned_where_the_prompt_opens_one() -> None:
    turns = [*TURNS[:2], {"role": "assistant", "content": "<think>\nhm\n</think>\n\ncards"}]
    assert learned(R1, turns) == "hm\n</think>\n\ncards<|im_end|>"


@pytest.mark.parametrize("template", [R1, QWEN3, QWEN3_THINKING])
def test_earlier_turns_that_no_server_would_render_so_are_not_learned(template: str) -> None:
    assert learned(template, TURNS) == "template_changes_turns"
    assert "accounts<|im_end|>" in learned(template, TURNS, "last_turn")


@pytest.mark.parametrize("end", ["", " ###"])
def test_a_turn_with_a_special_token_in_it_and_a_plain_end_is_refused(end: str) -> None:
    turn = "{% if turn['role'] == 'assistant' %}<|im_end|>{% endif %}{{ turn['content'] }}" + end
    template = "{% for turn in messages %}<|im_start|>{{ turn['role'] }}: " + turn + "{% endfor %}"
    with pytest.raises(TrainingError, match="no special token"):
        row_tokeniser(
            tiny_tokenizer(template + "{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}"), 128
        )(TURNS)


def test_the_end_of_a_row_is_the_token_that_ends_its_last_turn_whatever_is_learned() -> None:
    ends = {
        row_tokeniser(TOKENIZER, 512, train_on)(TURNS).end for train_on in ("assistant", "completion", "everything")
    }
    assert ends == {TOKENIZER.convert_tokens_to_ids("<|im_end|>")}
