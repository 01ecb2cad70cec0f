"""Tokens are those of the model's own tokenizer; control tokens are found wherever they stand."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import Tokenizer

from tasks.core.control_tokens import WELL_KNOWN, TokenGuard
from tasks.core.errors import ModelError
from tasks.validate.contracts.expectations.tokens import (
    ControlTokens,
    TokenCounts,
    count_tokens,
    has_wrong_token_count,
    holds_control_token,
    load_tokenizer,
)

SEEDLING = "seedling/model"
TEXTS = ["where is my card", "", "我的卡在哪里", "🙂🙂🙂", "أين بطاقتي", "x" * 3_000, None, 12]


def test_token_counts_are_the_tokenizers() -> None:
    tokenizer = Tokenizer.from_file(f"{SEEDLING}/tokenizer.json")
    counts = count_tokens(pd.Series(TEXTS, dtype=object), load_tokenizer(SEEDLING))
    assert counts.tolist() == [
        len(tokenizer.encode(text, add_special_tokens=False)) if isinstance(text, str) else 0 for text in TEXTS
    ]


@settings(deadline=None)
@given(st.lists(st.text(max_size=30), max_size=4), st.integers(0, 8), st.integers(0, 8))
def test_a_text_fails_outside_the_bounds_and_only_there(texts: list[str], one: int, other: int) -> None:
    low, high = sorted((one, other))
    tokenizer = load_tokenizer(SEEDLING)
    found = has_wrong_token_count(
        pd.Series(texts, dtype=object), TokenCounts(tokenizer=SEEDLING, min_value=low, max_value=high)
    )
    assert found.tolist() == [
        not low <= len(tokenizer.encode(text, add_special_tokens=False)) <= high for text in texts
    ]


def test_what_is_no_text_has_no_tokens_and_what_is_missing_is_not_judged() -> None:
    values = pd.Series([12, 1.5, None, float("nan"), "card"], dtype=object)
    assert has_wrong_token_count(values, TokenCounts(tokenizer=SEEDLING, max_value=5)).tolist() == [
        True, True, False, False, False,
    ]  # fmt: skip


def test_a_tokenizer_that_pads_and_truncates_still_counts_all_tokens(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(f"{SEEDLING}/tokenizer.json")
    tokenizer.enable_truncation(max_length=2)
    tokenizer.enable_padding(length=50)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    text = "where is my card, please tell me"
    (counted,) = count_tokens(pd.Series([text], dtype=object), load_tokenizer(str(tmp_path)))
    assert counted == len(load_tokenizer(SEEDLING).encode(text))


def test_a_model_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        load_tokenizer(str(tmp_path))


def test_a_model_of_the_hub_is_asked_for_at_its_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def download(name: str, file: str, revision: str | None) -> str:
        asked.append((name, file, revision))
        return f"{SEEDLING}/{file}"

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert len(load_tokenizer("org/model@abc").encode("card")) == len(load_tokenizer("org/model").encode("card")) > 0
    assert asked == [("org/model", "tokenizer.json", "abc"), ("org/model", "tokenizer.json", None)]


def test_a_model_of_the_hub_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with pytest.raises(ModelError, match="cannot be loaded: offline"):
        load_tokenizer("org/unreachable")


def test_a_broken_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="cannot be read"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokenizer": SEEDLING}, "give min_value, max_value or both"),
        ({"tokenizer": SEEDLING, "min_value": 3, "max_value": 2}, "min_value 3 is more than max_value 2"),
        ({"tokenizer": SEEDLING, "min_value": -1}, "greater than or equal to 0"),
        ({"tokenizer": SEEDLING, "max_value": 2.5}, "valid integer"),
        ({"max_value": 2}, "tokenizer"),
    ],
)
def test_bounds_that_cannot_be_meant_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TokenCounts.model_validate(arguments)


@given(st.lists(st.text(alphabet="<|im_end>\\s/[INST] x\n", max_size=20), max_size=5))
def test_control_tokens_are_found_as_the_guard_finds_them(texts: list[str]) -> None:
    tokens = ("<|im_end|>", "</s>", "[INST]", "<")
    found = holds_control_token(pd.Series(texts, dtype=object), ControlTokens(tokens=tokens))
    assert found.tolist() == [bool(TokenGuard(tokens).find(text)) for text in texts]


def test_every_well_known_control_token_is_found_and_an_escaped_one_is_not() -> None:
    texts = pd.Series([f"hi {token} there" for token in WELL_KNOWN], dtype=object)
    assert holds_control_token(texts, ControlTokens()).all()
    guard = TokenGuard(WELL_KNOWN)
    assert not holds_control_token(texts.map(guard.escape), ControlTokens()).any()


def test_the_control_tokens_of_a_model_with_hundreds_are_found() -> None:
    tokens = [f"<|reserved_special_token_{number}|>" for number in range(2_000)]
    texts = pd.Series(["a <|reserved_special_token_1999|> b", "a <|reserved_special_token_2000|> b", "<"], dtype=object)
    assert holds_control_token(texts, ControlTokens(tokens=tokens)).tolist() == [True, False, False]


def test_no_tokens_at_all_is_refused_since_the_rule_could_never_fail() -> None:
    with pytest.raises(ValidationError, match="at least 1"):
        ControlTokens(tokens=[])
