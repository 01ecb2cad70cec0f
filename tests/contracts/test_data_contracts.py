"""The contracts that ship with the project accept what they should and reject each thing they are there to reject."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.core.home import PROJECT_ROOT
from tasks.validate.checkpoint import Finding, run_checkpoint
from tasks.validate.contract import CONVERSATION, LINEAGE, contract_columns, read_contract

CONTRACTS = PROJECT_ROOT / "data_contracts"
FIELDS = {"generated_rows.odcs.yaml": ("message", "queue", "topic"), "chat_examples.odcs.yaml": ()}
QUEUES = ("cards", "accounts", "bills", "credit", "flights", "dining", "vehicles", "payroll")


def check(name: str, rows: list[dict[str, Any]], tmp_path: Path) -> dict[str, Finding]:
    columns = contract_columns(FIELDS[name])
    table = pd.DataFrame(rows, columns=list(columns), dtype=object)
    findings = run_checkpoint(read_contract(CONTRACTS / name, columns), table, tmp_path / "docs")
    assert not [finding.exception for finding in findings if finding.exception]
    return {finding.rule.name: finding for finding in findings}


def broken_by(findings: dict[str, Finding]) -> dict[int, set[str]]:
    """The rules that each row breaks, by position."""
    broken: dict[int, set[str]] = {}
    for name, finding in findings.items():
        for position in [] if finding.failing is None else finding.failing.tolist():
            broken.setdefault(position, set()).add(name)
    return broken


def message(number: int, **changes: Any) -> dict[str, Any]:
    queue = QUEUES[number % len(QUEUES)]
    row = {"row_id": f"r{number}", "document_id": "d", "origin": "generated", "prompt": "write", "topic": "a topic"}
    return {**row, "message": f"please help me with number {number}", "queue": queue, **changes}


def chat(
    number: int, user: str | None = "How are you?", assistant: str | None = "Fine.", **more: Any
) -> dict[str, Any]:
    turns = json.dumps([{"role": "user", "content": user}, {"role": "assistant", "content": assistant}])
    row = {"row_id": f"r{number}", "document_id": "d", "origin": "collected", "messages": turns}
    return {**row, "user_text": user, "assistant_text": assistant, **more}


def test_every_shipped_contract_is_tested_here() -> None:
    assert {path.name for path in CONTRACTS.glob("*.yaml")} == set(FIELDS)


@pytest.mark.parametrize("name", FIELDS)
def test_every_rule_is_about_columns_that_rows_have(name: str) -> None:
    rules = read_contract(CONTRACTS / name, contract_columns(FIELDS[name])).rules
    known = {*FIELDS[name], *LINEAGE, *CONVERSATION}
    assert rules and {column for rule in rules for column in rule.columns} <= known


def test_generated_rows_are_rejected_for_the_right_reason(tmp_path: Path) -> None:
    good = [message(number) for number in range(8)]
    bad = [
        (message(8, message="no no"), {"message.expect_column_value_lengths_to_be_between", "at least three words"}),
        (message(9, message="twowords only"), {"at least three words"}),
        (message(10, message="long word " * 31), {"message.expect_column_value_lengths_to_be_between"}),
        (message(11, message="my card <|im_end|> is lost"), {"no chat-control tokens"}),
        (message(12, message="12 34 56 78 90"), {"some letters"}),
        (message(13, message=None), {"message.expect_column_values_to_not_be_null"}),
        (message(14, queue="Cards"), {"queue.expect_column_values_to_be_in_set"}),
        (message(15, queue=None), {"queue.expect_column_values_to_not_be_null"}),
        (message(16, document_id=None), {"document_id.expect_column_values_to_not_be_null"}),
        (message(17, row_id=None), {"row_id.expect_column_values_to_not_be_null"}),
        (message(18, row_id="same"), {"row_id.expect_column_values_to_be_unique"}),
        (message(19, row_id="same"), {"row_id.expect_column_values_to_be_unique"}),
    ]
    findings = check("generated_rows.odcs.yaml", [*good, *(row for row, _ in bad)], tmp_path)
    assert broken_by(findings) == {number: rules for number, (_, rules) in enumerate(bad, len(good))}
    assert findings["enough rows to look at"].success and findings["every queue is there"].success


def test_words_of_other_scripts_and_accents_are_words(tmp_path: Path) -> None:
    texts = ["où est passée ma carte ?", "мою карту украли вчера", "أين راتبي هذا الشهر", "我的 信用卡 昨天 丢了 🎉"]
    rows = [message(number, message=text) for number, text in enumerate(texts)]
    assert broken_by(check("generated_rows.odcs.yaml", rows, tmp_path)) == {}


def test_a_table_with_few_rows_or_queues_is_noticed(tmp_path: Path) -> None:
    findings = check("generated_rows.odcs.yaml", [message(0), message(8)], tmp_path)
    assert not findings["enough rows to look at"].success
    assert not findings["every queue is there"].success
    assert findings["every queue is there"].rule.severity == "warning"


def test_the_messages_written_by_hand_keep_the_contract(tmp_path: Path) -> None:
    source = PROJECT_ROOT / "deployments" / "recipes" / "data" / "support_messages.csv"
    with source.open(encoding="utf-8", newline="") as file:
        rows = [{**row, "row_id": row["id"], "document_id": row["id"]} for row in csv.DictReader(file)]
    assert len(rows) >= 320
    findings = check("generated_rows.odcs.yaml", rows, tmp_path)
    assert {rows[position]["message"]: rules for position, rules in broken_by(findings).items()} == {}
    assert findings["every queue is there"].success


def test_chat_examples_are_rejected_for_the_right_reason(tmp_path: Path) -> None:
    bad = [
        (chat(1, user="<|eot_id|> hello"), {"no chat-control tokens from the user"}),
        (chat(2, assistant="ok<|im_end|>"), {"no chat-control tokens from the assistant"}),
        (chat(3, assistant="caf\ufffd"), {"no replacement characters"}),
        (chat(4, assistant=""), {"assistant_text.expect_column_value_lengths_to_be_between"}),
        (chat(5, document_id=None), {"document_id.expect_column_values_to_not_be_null"}),
        (chat(6, origin="elsewhere"), {"origin.expect_column_values_to_be_in_set"}),
    ]
    good = [chat(0), chat(7, user="你好", assistant="🎉"), chat(8, user="what does <| mean in F#?")]
    findings = check("chat_examples.odcs.yaml", [*(row for row, _ in bad), *good], tmp_path)
    assert broken_by(findings) == {number: rules for number, (_, rules) in enumerate(bad)}


def test_no_chat_examples_at_all_is_noticed(tmp_path: Path) -> None:
    assert not check("chat_examples.odcs.yaml", [], tmp_path)["at least one row"].success
