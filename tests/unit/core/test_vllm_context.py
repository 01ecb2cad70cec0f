"""The context length that requests need, counted with a real tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.core.base_model import load_tokenizer
from tasks.core.config import ModelSource
from tasks.core.home import PROJECT_ROOT
from tasks.core.prompts import Sampling
from tasks.core.vllm import context
from tasks.core.vllm.context import STEP, context_length, own_context_length, prompt_tokens
from tasks.core.vllm.request import Request

MODEL = ModelSource(path=str(PROJECT_ROOT / "seedling" / "model"))


def request(text: str, max_tokens: int = 16) -> Request:
    return Request(text, [{"role": "user", "content": text}], Sampling(max_tokens=max_tokens), seed=0)


@pytest.fixture
def no_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "LEAST", 1)


@pytest.mark.usefixtures("no_floor")
@pytest.mark.parametrize("words", [1, 60, 150])
def test_the_longest_prompt_and_its_answer_fit_and_little_is_wasted(words: int) -> None:
    requests = [request("card " * count) for count in range(1, words + 1)]
    needed = prompt_tokens(load_tokenizer(MODEL), requests[-1]) + 16
    assert needed <= context_length(MODEL, requests) <= 1.05 * needed + STEP


@pytest.mark.usefixtures("no_floor")
def test_a_long_answer_to_a_short_prompt_counts() -> None:
    assert context_length(MODEL, [request("card " * 50, max_tokens=8), request("a", max_tokens=400)]) >= 400


@pytest.mark.usefixtures("no_floor")
def test_the_text_with_most_tokens_need_not_be_the_longest() -> None:
    wordy, dense = request("the card " * 60), request("🦆" * 100)
    tokenizer = load_tokenizer(MODEL)
    assert len(wordy.messages[0]["content"]) > len(dense.messages[0]["content"])
    assert prompt_tokens(tokenizer, wordy) < prompt_tokens(tokenizer, dense)
    assert context_length(MODEL, [wordy, dense]) >= prompt_tokens(tokenizer, dense) + 16


def test_it_is_never_above_the_models_own_nor_without_room_for_what_comes_later() -> None:
    own = own_context_length(MODEL)
    assert own is not None
    assert context_length(MODEL, [request("card " * 100_000)]) == own
    assert context_length(MODEL, [request("a")]) == min(own, context.LEAST)


def test_a_prompt_that_the_template_refuses_counts_with_its_bytes(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(MODEL)
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    assert prompt_tokens(tokenizer, request("züri")) == 5
