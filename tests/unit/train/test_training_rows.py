from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.core.errors import TrainingError
from tasks.train.config import TrainConfig
from tasks.train.masking import IGNORED, mark_trained
from tasks.train.training_rows import PreparedRows, exchanges_of, prepare_rows
from tests.tiny_model import tiny_tokenizer
from tests.unit.train.test_masking import LAST_TURN_OTHERWISE

TOKENIZER = tiny_tokenizer()
ALTERNATING = tiny_tokenizer(
    "{% for turn in messages %}{% if turn['role'] != ['user', 'assistant'][loop.index0 % 2] %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "<|im_start|>{{ turn['role'] }}\\n{{ turn['content'] }}<|im_end|>\\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\\n{% endif %}"
)


def conversation(*contents: str, system: str | None = None) -> list[dict[str, str]]:
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]
    return [{"role": "system", "content": system}, *turns] if system else turns


def prepare(
    folder: Path,
    conversations: list[list[dict[str, str]]],
    tokenizer: Any = TOKENIZER,
    fraction: float = 1.0,
    **changes: Any,
) -> PreparedRows:
    rows = [
        {
            "example_id": f"e{number}",
            "messages": turns,
            "tools": None,
            "prompt": "p",
            "document_id": f"d{number // 2}",
            "origin": "generated" if number % 2 else "collected",
            "source": "a.csv",
        }
        for number, turns in enumerate(conversations)
    ]
    pd.DataFrame(rows).to_parquet(folder / "set.parquet")
    config = TrainConfig.model_validate({"max_steps": 10, "max_length": 1024, **changes})
    return prepare_rows(folder / "set.parquet", config, tokenizer, 7, fraction, folder)


def decoded(prepared: PreparedRows, tokenizer: Any = TOKENIZER) -> list[str]:
    return [mark_trained(row["input_ids"], row["labels"], tokenizer) for row in prepared.rows]


def test_refused_rows_are_quarantined_and_only_if_none_is_left_it_is_an_error(tmp_path: Path) -> None:
    good, bad = conversation("where is my card", "cards"), [*conversation("a"), *conversation("b", "c")]
    assert prepare(tmp_path, [good, bad], ALTERNATING).counts == {"rows_in": 2, "accepted": 1, "quarantined": 1}
    quarantine = pd.read_parquet(tmp_path / "quarantine.parquet")
    assert quarantine[["row_id", "rule", "value"]].values.tolist() == [
        ["e1", "template_refuses", "roles must alternate"]
    ]
    with pytest.raises(TrainingError, match=r"template_refuses \(2 rows: roles must alternate\)") as caught:
        prepare(tmp_path, [bad, bad], ALTERNATING)
    assert "chatml" in caught.value.remedy


LONG = conversation("where is my card", "in the post", "and my account", "it is locked", "why", "wrong " * 40)


def test_a_row_over_the_length_is_dropped_and_counted(tmp_path: Path) -> None:
    done = prepare(tmp_path, [conversation("hello", "hi"), LONG], max_length=64)
    assert done.counts == {"rows_in": 2, "accepted": 1, "quarantined": 1}
    assert done.over_length.dropped == 1
    assert pd.read_parquet(tmp_path / "quarantine.parquet")["rule"].tolist() == ["too_long"]


def test_a_truncated_row_keeps_its_beginning_and_says_what_it_lost(tmp_path: Path) -> None:
    whole = prepare(tmp_path, [LONG]).rows[0]
    done = prepare(tmp_path, [LONG], max_length=64, over_length="truncate")
    assert done.rows[0]["input_ids"] == whole["input_ids"][:64]
    assert done.rows[0]["labels"] == whole["labels"][:64]
    assert (done.over_length.truncated, done.over_length.tokens_cut) == (1, len(whole["input_ids"]) - 64)
    assert done.counts["accepted"] == 1


def test_a_truncated_row_without_an_answer_is_quarantined(tmp_path: Path) -> None:
    question_only = conversation("where " * 60, "cards")
    done = prepare(tmp_path, [question_only, conversation("hello", "hi")], max_length=64, over_length="truncate")
    assert done.counts["quarantined"] == 1
    assert pd.read_parquet(tmp_path / "quarantine.parquet")["rule"].tolist() == ["nothing_trained"]


def test_turns_of_weight_zero_teach_nothing_in_any_row(tmp_path: Path) -> None:
    def unlearned(turns: list[dict[str, Any]], *numbers: int) -> list[dict[str, Any]]:
        return [turn | ({"weight": 0} if number in numbers else {}) for number, turn in enumerate(turns)]

    short = conversation("where is my card", "in the moon", "look again", "in the post")
    done = prepare(
        tmp_path, [unlearned(short, 1), unlearned(short, 1, 3), unlearned(LONG, 3)], over_length="split", max_length=100
    )
    assert done.counts == {"rows_in": 3, "accepted": 2, "quarantined": 1}
    quarantine = pd.read_parquet(tmp_path / "quarantine.parquet")
    assert quarantine[["row_id", "rule"]].values.tolist() == [["e1", "nothing_trained"]]
    assert '"weight": 0' in quarantine["raw"][0]
    shown = decoded(done)
    assert [text for row in shown for text in ("in the moon", "in the post", "it is locked") if f"[[{text}" in row] == [
        "in the post", "in the post",
    ]  # fmt: skip
    assert "in the moon<|im_end|>" in shown[0]
    assert all("weight" not in turn for sample in done.samples for turn in sample["messages"])


def test_a_split_row_becomes_pieces_of_whole_exchanges_behind_the_system_turn(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "be kind"}, *LONG]
    done = prepare(tmp_path, [turns], max_length=100, over_length="split")
    pieces = decoded(done)
    assert all(len(row["input_ids"]) <= 100 for row in done.rows)
    assert all(piece.startswith("<|im_start|>system\nbe kind<|im_end|>") for piece in pieces)
    answers = [part.split("<|im_end|>]]")[0] for piece in pieces for part in piece.split("[[")[1:]]
    assert answers == ["in the post", "it is locked"]
    assert (done.over_length.split, done.over_length.pieces, done.over_length.exchanges_dropped) == (1, len(pieces), 1)
    assert done.counts == {"rows_in": 1, "accepted": 1, "quarantined": 0}


def test_exchanges_begin_with_the_user_and_hold_tool_turns_together() -> None:
    turns = [
        {"role": "system", "content": "s"},
        *({"role": role, "content": role} for role in ("user", "assistant", "tool", "assistant", "user", "assistant")),
    ]
    head, exchanges = exchanges_of(turns)
    assert [turn["role"] for turn in head] == ["system"]
    assert [[turn["role"] for turn in one] for one in exchanges] == [
        ["user", "assistant", "tool", "assistant"],
        ["user", "assistant"],
    ]


def test_a_smaller_fraction_is_a_part_of_a_larger_one(tmp_path: Path) -> None:
    conversations = [conversation(f"number {n}", "cards") for n in range(40)]
    quarter, half, whole = (
        {tuple(row["input_ids"]) for row in prepare(tmp_path, conversations, fraction=size).rows}
        for size in (0.25, 0.5, 1.0)
    )
    assert (len(quarter), len(half), len(whole)) == (10, 20, 40)
    assert quarter < half < whole


def test_shares_are_reached_by_repeating_rows_and_reported_with_their_tokens(tmp_path: Path) -> None:
    conversations = [conversation(f"number {n}", "cards") for n in range(8)]
    done = prepare(tmp_path, conversations, mix={"shares": {"collected": 0.75, "generated": 0.25}})
    groups = done.mix["groups"]
    assert (groups["collected"]["rows_after"], groups["generated"]["rows_after"]) == (12, 4)
    assert sum(group["tokens"] for group in groups.values()) == sum(len(row["input_ids"]) for row in done.rows)
    assert done.counts == {"rows_in": 8, "accepted": 8, "quarantined": 0}


def test_samples_hold_the_token_ids_of_the_template_that_is_trained_with(tmp_path: Path) -> None:
    sample = prepare(tmp_path, [conversation("where is my card", "cards")]).samples[0]
    json.dumps(sample)
    assert TOKENIZER.apply_chat_template(
        sample["messages"][:1], add_generation_prompt=True, return_dict=False
    ) == sample["prompt_ids"]  # fmt: skip
    assert sample["ids"][: len(sample["prompt_ids"])] == sample["prompt_ids"]


def test_only_trained_tokens_have_labels(tmp_path: Path) -> None:
    row = prepare(tmp_path, [conversation("where is my card", "cards")]).rows[0]
    learned = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != IGNORED]
    assert TOKENIZER.decode(learned) == "cards<|im_end|>"


def test_turns_that_the_template_changes_cost_their_rows_and_only_if_all_do_the_run(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(LAST_TURN_OTHERWISE)
    short, long = conversation("where is my card", "cards"), conversation("a", "b", "c", "d")
    assert prepare(tmp_path, [short, long], tokenizer).counts == {"rows_in": 2, "accepted": 1, "quarantined": 1}
    with pytest.raises(TrainingError, match="template_changes_turns") as caught:
        prepare(tmp_path, [long, long], tokenizer)
    assert "train_on: last_turn" in caught.value.remedy


def test_rows_for_validation_are_used_once_and_counted(tmp_path: Path) -> None:
    """Repeats and fractions concern training alone; a row that is too long is set aside on both sides."""
    conversations = [
        conversation(f"number {n}", "cards " * (60 if n in (0, 1, 2, 3) else n % 5 + 1)) for n in range(60)
    ]
    mix = {"shares": {"collected": 0.8, "generated": 0.2}}
    done = prepare(tmp_path, conversations, max_length=64, mix=mix, validation_fraction=0.4)
    half = prepare(tmp_path, conversations, fraction=0.5, max_length=64, validation_fraction=0.4)
    assert done.counts == {"rows_in": 60, "accepted": 56, "quarantined": 4}
    assert done.split["trained_rows"] + done.split["rows"] + done.counts["quarantined"] == 60
    assert done.split["rows"] == len(done.validation) == 2 * done.split["documents"]
    assert len(done.rows) > done.split["trained_rows"], "the mix repeats"
    validation, trained = ({tuple(row["input_ids"]) for row in rows} for rows in (done.validation, done.rows))
    assert len(validation) == len(done.validation) and not validation & trained
    assert half.validation[:] == done.validation[:] and len(half.rows) < 20
    assert sorted(pd.read_parquet(tmp_path / "quarantine.parquet")["row_id"])[:1] == ["e0"]


def test_too_small_a_split_is_an_error_before_anything_is_trained(tmp_path: Path) -> None:
    conversations = [conversation(f"number {n}", "cards") for n in range(20)]
    with pytest.raises(TrainingError, match=r"of 20 rows aside .* a validation loss needs at least 10"):
        prepare(tmp_path, conversations, validation_fraction=0.2)
    with pytest.raises(TrainingError, match=r"\(1 documents\), and none are left to train on|sets 0 of 2 rows aside"):
        prepare(tmp_path, conversations[:2], validation_fraction=0.5)
