from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.errors import ModelError, TrainingError
from tasks.train.masking import (
    IGNORED,
    mark_trained,
    require_chat_template,
    row_tokeniser,
    trained_token_share,
    with_chatml,
)
from tests.tiny_model import CHATML, tiny_tokenizer

TURNS = [
    {"role": "system", "content": "route"},
    {"role": "user", "content": "where is my card"},
    {"role": "assistant", "content": "cards"},
    {"role": "user", "content": "and my account"},
    {"role": "assistant", "content": "accounts"},
]
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


def test_a_row_that_is_too_long_says_so() -> None:
    length = len(row_tokeniser(TOKENIZER, 10_000)(TURNS).input_ids)
    assert row_tokeniser(TOKENIZER, length)(TURNS).problem == ""
    assert row_tokeniser(TOKENIZER, length - 1)(TURNS).problem == "too_long"


@pytest.mark.parametrize(
    ("template", "says"),
    [
        # An earlier answer is rendered otherwise once a later turn follows it.
        (CHATML.replace("message['content']", "message['content'] if loop.last else message['content'][:1]"), "others"),
        (CHATML.replace("<|im_end|>", ""), "no special token"),
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
    ],
)
def test_a_template_that_cannot_be_masked_is_named(template: str, says: str) -> None:
    with pytest.raises(TrainingError, match=says) as caught:
        row_tokeniser(tiny_tokenizer(template), 128)(TURNS)
    assert "chat_template: chatml" in caught.value.remedy


@pytest.mark.parametrize("labels", [[IGNORED, IGNORED], [1, 2]])
def test_training_none_or_all_tokens_is_an_error(labels: list[int]) -> None:
    with pytest.raises(TrainingError, match="of 2 tokens"):
        trained_token_share([{"labels": labels}])


def test_the_share_counts_tokens_not_rows() -> None:
    assert trained_token_share([{"labels": [IGNORED, 5]}, {"labels": [IGNORED] * 6}]) == 1 / 8


def test_a_model_without_template_is_refused() -> None:
    with pytest.raises(ModelError, match="no chat template") as caught:
        require_chat_template(tiny_tokenizer(template=None), "somewhere")
    assert "chatml" in caught.value.remedy


def test_chatml_on_a_base_tokenizer_renames_its_end_of_sequence_and_keeps_every_id() -> None:
    base: Any = tiny_tokenizer(None, specials=["<|begin|>", "<|end_of_text|>"], eos="<|end_of_text|>", pad="<|begin|>")
    size, stop, sample = len(base), base.eos_token_id, base("where is my card")["input_ids"]
    chat = with_chatml(base)
    assert (len(chat), chat.eos_token_id, chat.eos_token) == (size, stop, "<|im_end|>")
    assert chat("where is my card")["input_ids"] == sample
    row = row_tokeniser(chat, 512)(TURNS)
    assert [label for label in row.labels if label != IGNORED].count(stop) == 2


def test_chatml_keeps_a_tokenizer_that_knows_it() -> None:
    tokenizer = tiny_tokenizer(template=None)
    assert with_chatml(tokenizer) is tokenizer
    assert tokenizer.chat_template == CHATML
