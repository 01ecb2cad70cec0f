"""The shipped templates, through the whole stage: what they ask, and what becomes of a good answer."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tasks.core.config import ChatTask
from tasks.core.home import PROJECT_ROOT
from tests.unit.generate.stage import Teacher, fill, make_job, write_documents

PROMPTS = PROJECT_ROOT / "prompts"


def shipped(name: str) -> str:
    return str(PROMPTS / f"{name}.md")


def example_of(name: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((PROMPTS / "examples" / f"{name}.json").read_text(encoding="utf-8"))
    return values


def test_self_instruct_turns_seed_tasks_into_new_ones(tmp_path: Path, teacher: Teacher) -> None:
    job = make_job(tmp_path, [shipped("self_instruct")])
    seeds = [
        {"document_id": f"seed-{number}", **seed} for number, seed in enumerate(example_of("self_instruct")["seeds"])
    ]
    write_documents(tmp_path / "collected", seeds)
    fields = ("instruction", "input", "output")
    task = ChatTask(input="instruction", context="input", output="output")
    new = [
        {"instruction": "Add up the numbers.", "input": "1 2 3", "output": "6"},
        {"instruction": "Name a bird of prey.", "input": "", "output": "The kestrel."},
        {"instruction": "No", "input": "", "output": "too short a task"},
    ]
    teacher.answer = lambda question: (json.dumps(new), "stop")
    summary, rows, rejected = fill(dataclasses.replace(job, fields=fields, task=task), tmp_path)
    assert (summary.rows_in, len(rows), len(rejected)) == (24, 16, 8)
    turns = {tuple(turn["content"] for turn in row["messages"]) for row in rows}
    assert turns == {("Add up the numbers.\n1 2 3", "6"), ("Name a bird of prey.", "The kestrel.")}
    shown = [json.loads(row["drawn"])["seeds"] for row in rows]
    assert all(row["document_id"] not in names for row, names in zip(rows, shown, strict=True))
    assert len({row["kind"] for row in rows}) > 1
    first = next(question for question in teacher.questions if "bicycle" in question)
    assert "Input: (none)" in first and "Write 4 new tasks" in first


def test_the_label_is_drawn_first_and_a_message_written_for_it(tmp_path: Path, teacher: Teacher) -> None:
    job = make_job(tmp_path, [shipped("write_labelled_message")])
    queues = ("cards", "accounts", "bills", "credit", "flights", "dining", "vehicles", "payroll")
    documents = [
        {"document_id": f"{queue}-{number}", "message": f"about {queue}", "topic": "t", "queue": queue}
        for queue in queues
        for number in range(3)
    ]
    write_documents(tmp_path / "collected", documents)
    teacher.answer = lambda question: (json.dumps({"topic": "new topic", "message": "It is gone again."}), "stop")
    _, rows, rejected = fill(job, tmp_path)
    assert len(rows) == 48 and not rejected
    assert len({row["queue"] for row in rows}) > 4
    asked = {json.dumps([row["queue"], row["persona"], row["tone"], row["length"]]) for row in rows}
    assert len(asked) > 30
    for row in rows:
        assert row["messages"][-1]["content"] == row["queue"]
        assert row["topic"] == "new topic"
        assert {name.partition("-")[0] for name in json.loads(row["drawn"])["examples"]} == {row["queue"]}
    for question in teacher.questions:
        (queue,) = [name for name in queues if f'queue "{name}":' in question]
        assert f"- about {queue} (topic: t)" in question


@pytest.mark.parametrize(("score", "passes"), [(5, True), (4, True), (3, False)])
def test_a_question_stays_only_with_an_answer_that_its_passage_supports(
    tmp_path: Path, teacher: Teacher, score: int, passes: bool
) -> None:
    job = make_job(tmp_path, [shipped("ask_about_passage")], [shipped("judge_faithfulness")])
    example = example_of("judge_faithfulness")
    write_documents(tmp_path / "collected", [{"document_id": "p", "passage": example["passage"]}])
    task = ChatTask(input="question", output="answer")
    written = json.dumps({"question": example["question"], "answer": example["answer"]})
    verdict = json.dumps({"reasons": "The passage says so.", "score": score})
    teacher.answer = lambda question: (verdict if "Criteria:" in question else written, "stop")
    summary, rows, _ = fill(dataclasses.replace(job, fields=("passage",), task=task), tmp_path)
    assert summary.rows_in == 6 and bool(rows) is passes
    judged = next(question for question in teacher.questions if "Criteria:" in question)
    assert example["passage"] in judged and f"Answer: {example['answer']}" in judged
    assert "from 1 (" in judged and "to 5" in judged
    assert summary.details.judges["judge_faithfulness"]["mean_score"] == score
    if passes:
        assert json.loads(rows[0]["judgements"])[0]["reasons"] == "The passage says so."
