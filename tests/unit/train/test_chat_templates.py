from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.errors import ModelError
from tasks.train.chat_templates import CHATML, TEMPLATES, template_marks, with_chat_template
from tasks.train.masking import IGNORED, mark_trained, row_tokeniser
from tests.tiny_model import tiny_tokenizer
from tests.unit.train.conversations import CALL, TURNS

TOOL_TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "where is my card"},
    {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]},
    {"role": "tool", "content": '{"place": "post"}', "tool_call_id": "1"},
    {"role": "assistant", "content": "in the post"},
]
LLAMA_TOKENS = ["<|begin_of_text|>", "<|end_of_text|>", *template_marks("llama3")]
LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Llama 3's tokenizer splits text before its merges: line ends stay together, unlike in GPT-2's."""
RENDERED = {
    "chatml": "<|im_start|>system\nroute<|im_end|>\n<|im_start|>user\nwhere is my card<|im_end|>\n"
    "<|im_start|>assistant\n[[cards<|im_end|>]]\n<|im_start|>user\nand my account<|im_end|>\n"
    "<|im_start|>assistant\n[[accounts<|im_end|>]]\n",
    "llama3": "<|start_header_id|>system<|end_header_id|>\n\nroute<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nwhere is my card<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n[[cards<|eot_id|>]]"
    "<|start_header_id|>user<|end_header_id|>\n\nand my account<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n[[accounts<|eot_id|>]]",
    "alpaca": "route\n\n### Instruction:\nwhere is my card\n\n### Response:\n[[cards<|end_of_text|>]]\n\n"
    "### Instruction:\nand my account\n\n### Response:\n[[accounts<|end_of_text|>]]",
}


def base_tokenizer(*, begins: bool = False) -> Any:
    """That of a base model: no chat template; ``begins``: it writes <|begin_of_text|> before every text."""
    from tokenizers import Regex, pre_tokenizers
    from tokenizers.processors import TemplateProcessing

    base = tiny_tokenizer(None, specials=LLAMA_TOKENS, eos="<|end_of_text|>", pad="<|end_of_text|>")
    base.bos_token = "<|begin_of_text|>"
    base.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    if begins:
        base.backend_tokenizer.post_processor = TemplateProcessing(
            single="<|begin_of_text|> $A",
            pair="<|begin_of_text|> $A $B",
            special_tokens=[("<|begin_of_text|>", base.bos_token_id)],
        )
    return base


def reloaded(tokenizer: Any, folder: Path) -> Any:
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_assistants_turns_are_trained_with_their_end_and_nothing_else(name: str) -> None:
    tokenizer = with_chat_template(base_tokenizer(), name)
    row = row_tokeniser(tokenizer, 512)(TURNS)
    assert row.problem == ""
    assert mark_trained(row.input_ids, row.labels, tokenizer) == RENDERED[name]


@pytest.mark.parametrize("name", ["chatml", "alpaca"])
def test_templates_for_any_tokenizer_are_masked_where_line_ends_merge_otherwise_at_the_end_of_a_text(name: str) -> None:
    tokenizer = with_chat_template(
        tiny_tokenizer(None, specials=["<|end_of_text|>", "<pad>"], eos="<|end_of_text|>", pad="<pad>"), name
    )
    row = row_tokeniser(tokenizer, 512)(TURNS)
    assert row.problem == ""
    assert mark_trained(row.input_ids, row.labels, tokenizer) == RENDERED[name]


def test_generation_stops_at_the_token_that_ends_a_trained_turn() -> None:
    for name in TEMPLATES:
        tokenizer = with_chat_template(base_tokenizer(), name)
        row = row_tokeniser(tokenizer, 512)(TURNS)
        learned = [label for label in row.labels if label != IGNORED]
        assert learned.count(tokenizer.eos_token_id) == 2
        assert learned[-1] == tokenizer.eos_token_id


texts = st.text(min_size=1).filter(lambda text: text.strip() and "<|" not in text and "###" not in text)
conversations = st.builds(
    lambda system, pairs: [
        *([{"role": "system", "content": system}] if system else []),
        *itertools.chain.from_iterable(
            ({"role": "user", "content": user}, {"role": "assistant", "content": answer}) for user, answer in pairs
        ),
    ],
    st.none() | texts,
    st.lists(st.tuples(texts, texts), min_size=1, max_size=3),
)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, Any]]:
    """Tokenizers with each template, as trained with and as saved and read again."""
    tokenizers = [
        with_chat_template(base_tokenizer(begins=begins), name) for name in TEMPLATES for begins in (False, True)
    ]
    return [(one, reloaded(one, tmp_path_factory.mktemp("tokenizer"))) for one in tokenizers]


@settings(max_examples=50, deadline=None)
@given(conversations)
def test_a_saved_template_writes_the_token_ids_that_were_trained_with(
    pairs: list[tuple[Any, Any]], conversation: list[dict[str, str]]
) -> None:
    for trained, saved in pairs:
        row = row_tokeniser(trained, 100_000)(conversation)
        assert saved.apply_chat_template(conversation, return_dict=False) == row.input_ids
        assert saved.eos_token_id == trained.eos_token_id
        shown = trained.decode(row.input_ids, skip_special_tokens=False)
        assert all(turn["content"] in shown for turn in conversation)
        if row.problem:
            assert row.problem == "token_boundary"
            assert any(turn["content"][0].isspace() for turn in conversation if turn["role"] == "assistant")
            continue
        prompt = saved.apply_chat_template(conversation[:-1], add_generation_prompt=True, return_dict=False)
        assert row.input_ids[: len(prompt)] == prompt
        answer = saved.encode(conversation[-1]["content"], add_special_tokens=False)
        assert row.labels[len(prompt) :][: len(answer) + 1] == [*answer, saved.eos_token_id]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_tokenizer_that_begins_every_text_begins_conversations_too(name: str) -> None:
    def ids(begins: bool) -> list[int]:
        tokenizer = with_chat_template(base_tokenizer(begins=begins), name)
        return list(row_tokeniser(tokenizer, 512)(TURNS).input_ids)

    assert ids(begins=True) == [base_tokenizer().bos_token_id, *ids(begins=False)]


@pytest.mark.parametrize(
    ("name", "call", "result"),
    [
        (
            "chatml",
            '[[<tool_call>{"name": "find_card", "arguments": {"owner": "Ann"}}</tool_call>\n'
            '<tool_call>{"name": "find_card", "arguments": {"owner": "Ann"}}</tool_call><|im_end|>]]',
            '<|im_start|>tool\n{"place": "post"}<|im_end|>',
        ),
        (
            "llama3",
            '[[{"name": "find_card", "parameters": {"owner": "Ann"}}; '
            '{"name": "find_card", "parameters": {"owner": "Ann"}}<|eot_id|>]]',
            '<|start_header_id|>ipython<|end_header_id|>\n\n{"place": "post"}<|eot_id|>',
        ),
    ],
)
def test_tools_are_offered_calls_are_trained_and_results_are_not(name: str, call: str, result: str) -> None:
    tokenizer = with_chat_template(base_tokenizer(), name)
    for turns in (TOOL_TURNS, [{"role": "system", "content": "route"}, *TOOL_TURNS]):
        row = row_tokeniser(tokenizer, 1024)(turns, [{"name": "find_card"}])
        shown = mark_trained(row.input_ids, row.labels, tokenizer)
        assert row.problem == ""
        assert '\n{"name": "find_card"}\n' in shown.partition("where is my card")[0]
        assert call in shown
        assert result in shown
        assert shown.count("[[") == 2


def test_alpaca_refuses_a_conversation_with_tools_by_name() -> None:
    tokenise = row_tokeniser(with_chat_template(base_tokenizer(), "alpaca"), 1024)
    for row in (tokenise(TOOL_TURNS), tokenise(TURNS, [{"name": "find_card"}])):
        assert row.problem == "template_refuses"
        assert "chatml or llama3" in row.detail


def test_llama3_needs_its_tokens_in_the_vocabulary() -> None:
    with pytest.raises(ModelError, match=r"<\|start_header_id\|>, <\|end_header_id\|>, <\|eot_id\|>") as caught:
        with_chat_template(tiny_tokenizer(None), "llama3")
    assert "chatml or alpaca" in caught.value.remedy


@pytest.mark.parametrize("name", ["alpaca", "chatml"])
def test_a_tokenizer_without_an_end_of_sequence_token_cannot_end_a_turn(name: str) -> None:
    base = tiny_tokenizer(None, specials=["<pad>"], eos="<pad>", pad="<pad>")
    base.eos_token = None
    with pytest.raises(ModelError, match="end-of-sequence token"):
        with_chat_template(base, name)


def test_a_model_without_a_template_is_refused_with_the_choices() -> None:
    with pytest.raises(ModelError, match="no chat template") as caught:
        with_chat_template(tiny_tokenizer(template=None), "model")
    assert all(name in caught.value.remedy for name in TEMPLATES)


def test_the_models_own_template_is_left_alone() -> None:
    tokenizer = tiny_tokenizer("{{ messages }}")
    assert with_chat_template(tokenizer, "model") is tokenizer
    assert (tokenizer.chat_template, tokenizer.eos_token) == ("{{ messages }}", "<|im_end|>")


def test_chatml_on_a_base_tokenizer_renames_its_end_of_sequence_and_keeps_every_id() -> None:
    base: Any = tiny_tokenizer(None, specials=["<|begin|>", "<|end_of_text|>"], eos="<|end_of_text|>", pad="<|begin|>")
    size, stop, sample = len(base), base.eos_token_id, base("where is my card")["input_ids"]
    chat = with_chat_template(base, "chatml")
    assert (len(chat), chat.eos_token_id, chat.eos_token) == (size, stop, "<|im_end|>")
    assert chat("where is my card")["input_ids"] == sample
    row = row_tokeniser(chat, 512)(TURNS)
    assert [label for label in row.labels if label != IGNORED].count(stop) == 2


def test_chatml_on_a_base_with_one_token_for_begin_end_and_padding_renames_all_three() -> None:
    base = tiny_tokenizer(None, specials=["<|endoftext|>"], eos="<|endoftext|>", pad="<|endoftext|>")
    base.bos_token = "<|endoftext|>"
    chat = with_chat_template(base, "chatml")
    assert (chat.bos_token_id, chat.eos_token_id, chat.pad_token_id) == (0, 0, 0)
    assert len(chat) == len(base)


def test_chatml_keeps_a_tokenizer_that_knows_it() -> None:
    tokenizer = tiny_tokenizer(template=None)
    assert with_chat_template(tokenizer, "chatml") is tokenizer
    assert tokenizer.chat_template == CHATML


def test_the_marks_of_a_template_are_those_it_writes_around_turns() -> None:
    for name in TEMPLATES:
        assert template_marks(name)
        assert all(mark in RENDERED[name] for mark in template_marks(name))
    assert template_marks("model") == ()
