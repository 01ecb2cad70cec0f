"""A chat template that supports none of the conversations is known before anything is generated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.core.config import ModelSource
from tasks.core.errors import ModelError, TrainingError
from tasks.train.unusable_rows import check_conversations
from tests.tiny_model import tiny_tokenizer
from tests.unit.train.conversations import TURNS
from tests.unit.train.test_masking import ALTERNATING, LAST_TURN_OTHERWISE, R1
from tests.unit.train.trial import settings

WITH_SYSTEM, WITHOUT = (TURNS[:3], None), (TURNS[1:3], None)


def check(folder: Path, template: str | None, *conversations: Any, **train: Any) -> None:
    folder.mkdir(exist_ok=True)
    tiny_tokenizer(template).save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "qwen2"}', encoding="utf-8")
    check_conversations(ModelSource(path=str(folder)), settings(**train), conversations, "holdout.parquet")


def test_a_template_that_refuses_every_conversation_is_named_with_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"None of the 2 training rows .*roles must alternate") as caught:
        check(tmp_path, ALTERNATING, WITH_SYSTEM, WITH_SYSTEM)
    assert caught.value.where == "holdout.parquet" and "chatml" in caught.value.remedy
    check(tmp_path, ALTERNATING, WITH_SYSTEM, WITHOUT)
    check(tmp_path, ALTERNATING, WITH_SYSTEM, chat_template="chatml")
    check(tmp_path, R1, WITH_SYSTEM)
    check(tmp_path, ALTERNATING)


def test_a_remedy_is_offered_only_where_it_helps(tmp_path: Path) -> None:
    several = (TURNS, None)
    with pytest.raises(TrainingError, match="template_changes_turns") as caught:
        check(tmp_path, LAST_TURN_OTHERWISE, several)
    assert "train_on: last_turn" in caught.value.remedy
    check(tmp_path, LAST_TURN_OTHERWISE, several, train_on="last_turn")
    unstable = "{{ 'x' if add_generation_prompt else 'y' }}" + ALTERNATING
    with pytest.raises(TrainingError, match="template_changes_turns") as caught:
        check(tmp_path, unstable, WITHOUT, train_on="last_turn")
    assert "train_on" not in caught.value.remedy and "chatml" in caught.value.remedy


def test_a_template_without_an_end_of_turn_or_a_tokenizer_without_a_template_is_named_too(tmp_path: Path) -> None:
    plain = "{% for turn in messages %}{{ turn['content'] }}\n{% endfor %}"
    with pytest.raises(TrainingError, match="no special token"):
        check(tmp_path, plain, WITHOUT)
    with pytest.raises(ModelError, match="no chat template"):
        check(tmp_path / "without", None, WITHOUT)
