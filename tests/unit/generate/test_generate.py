"""The whole stage against a real HTTP server that speaks vLLM's API (tests/openai_stand_in.py)."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.artifacts import ArtifactRef, Summary
from tasks.core.config import ChatTask, ModelSource
from tasks.core.errors import ServerError
from tasks.core.home import Home
from tasks.core.messages import MESSAGES
from tasks.core.stage import StageContext
from tasks.core.vllm import client
from tasks.core.vllm.server import Server
from tasks.generate import generate
from tasks.generate.config import GenerateConfig
from tasks.generate.generate import GenerateJob
from tests.openai_stand_in import TOO_LONG, StandIn, stand_in

Messages = list[dict[str, str]]
TASK = ChatTask(system="Route.", input="message", output="queue")
TOPICS = {"msg-1": ("lost card", "cards"), "msg-2": ("unpaid bill", "bills"), "msg-3": ("new pin", "cards")}
SCHEMA = "{type: object, properties: {message: {type: string}, queue: {enum: [cards, bills]}}, required: [message]}"


class Teacher:
    """The stand-in, started anew for every run that needs it; ``answer`` says what it writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answer: Callable[[str], tuple[str, str]] = lambda question: (f"wrote: {question}", "stop")
        self.starts = 0
        self.questions: list[str] = []
        self.bodies: list[dict[str, Any]] = []

    def chat(self, model: str, messages: Messages) -> tuple[str, str]:
        return self.answer(messages[-1]["content"])

    @contextlib.contextmanager
    def serving(self, *arguments: Any, **named: Any) -> Iterator[Server]:
        self.starts += 1
        http: StandIn
        with stand_in(self.folder, self.chat) as (server, http):
            try:
                yield server
            finally:
                self.bodies += http.asked
                self.questions += [body["messages"][-1]["content"] for body in http.asked]


@pytest.fixture
def teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Teacher:
    one = Teacher(tmp_path)
    monkeypatch.setattr(generate, "serving", one.serving)
    monkeypatch.setattr(generate, "vllm_version", lambda: "vllm-1.0")
    monkeypatch.setattr(client, "RETRIES", 0)
    return one


def write_prompt(folder: Path, name: str, question: str, extra: str = "") -> str:
    head = f"name: {name}\nversion: 1\npurpose: x\nvariables: [topic]\n{extra}"
    (folder / f"{name}.md").write_text(f"---\n{head}---\nuser:\n{question}\n", encoding="utf-8")
    return str(folder / f"{name}.md")


def make_job(folder: Path, check: str | None = None, task: ChatTask = TASK) -> GenerateJob:
    """Two prompts on three documents: nine requests."""
    collected = folder / "collected"
    if not collected.exists():
        collected.mkdir()
        rows = [
            {"document_id": name, "message": f"real {topic}", "queue": queue, "topic": topic, "messages": []}
            for name, (topic, queue) in TOPICS.items()
        ]
        schema = pa.schema([(name, pa.string()) for name in ("document_id", "message", "queue", "topic")])
        table = pa.Table.from_pylist(rows, schema=schema.append(pa.field("messages", MESSAGES)))
        pq.write_table(table, collected / "train.parquet")
        (folder / "model").mkdir()
        (folder / "model" / "model.safetensors").write_bytes(b"weights")
    output = "output: {field: message}\n"
    prompts = (
        write_prompt(folder, "write", "Write about {{ topic }}.", f"{output}rows_per_document: 2\n"),
        write_prompt(folder, "vary", "Vary {{ topic }}.", output),
    )
    return GenerateJob(
        GenerateConfig(prompts=prompts, check=check, concurrency=4),
        ModelSource(path=str(folder / "model")),
        task,
        ArtifactRef("collect", "k", str(collected), "digest", 3),
        ("message", "queue", "topic"),
        seed=7,
    )


def fill(job: GenerateJob, folder: Path, run_id: str = "run-1") -> tuple[Summary, list[dict[str, Any]], list[Any]]:
    """Run the stage: the summary, the rows, and the quarantine."""
    out = folder / f"out-{run_id}"
    out.mkdir()
    summary = job.fill(out, StageContext(Home(folder / "home"), run_id, "key"))
    summary.check_balance("generate")
    rows, rejected = (pq.read_table(out / f"{name}.parquet").to_pylist() for name in ("rows", "quarantine"))
    assert (summary.accepted, summary.quarantined) == (len(rows), len(rejected))
    return summary, rows, rejected


def test_every_row_has_its_fields_its_conversation_and_its_lineage(tmp_path: Path, teacher: Teacher) -> None:
    job = make_job(tmp_path)
    summary, rows, rejected = fill(job, tmp_path)
    assert (summary.rows_in, len(rows), len(rejected)) == (9, 9, 0)
    row = next(row for row in rows if row["prompt"] == "vary" and row["document_id"] == "msg-2")
    text = "wrote: Vary unpaid bill."
    assert (row["message"], row["queue"], row["topic"], row["raw"]) == (text, "bills", "unpaid bill", text)
    assert row["messages"] == [
        {"role": "system", "content": "Route."},
        {"role": "user", "content": text},
        {"role": "assistant", "content": "bills"},
    ]
    assert (row["run_id"], row["teacher"], len(row["teacher_revision"])) == ("run-1", "model", 64)
    assert json.loads(row["sampling"]) == {"temperature": 1.0, "top_p": 1.0, "max_tokens": 256}
    sent = next(body for body in teacher.bodies if body["messages"][-1]["content"] == "Vary unpaid bill.")
    assert sent["seed"] == row["seed"]
    assert len({row["row_id"] for row in rows}) == len({row["request_id"] for row in rows}) == 9
    assert summary.details["by_prompt"] == {"write": {"requests": 6, "kept": 6}, "vary": {"requests": 3, "kept": 3}}
    assert summary.details["asked"] == 9 and summary.details["reused"] == 0
    assert 1 <= len(summary.details["samples"]) <= 8


def test_an_unusable_answer_is_quarantined_with_rule_and_raw_text(tmp_path: Path, teacher: Teacher) -> None:
    def answer(question: str) -> tuple[str, str]:
        return {"Vary lost card.": ("half a ", "length"), "Vary new pin.": (" ", "stop")}.get(
            question, ("good", "stop")
        )

    teacher.answer = answer
    summary, rows, rejected = fill(make_job(tmp_path), tmp_path)
    assert (len(rows), len(rejected)) == (7, 2)
    assert summary.details["rules"] == {"truncated": 1, "empty": 1}
    cut = next(row for row in rejected if row["rule"].startswith("truncated"))
    assert (cut["raw"], cut["prompt"], cut["document_id"]) == ("half a ", "vary", "msg-1")


def test_a_request_that_the_server_refuses_and_a_row_that_cannot_be_rendered_are_counted(
    tmp_path: Path, teacher: Teacher
) -> None:
    job = make_job(tmp_path)
    write_prompt(tmp_path, "vary", "{{ 1 / (topic|length - 8) }}", "output: {field: message}\n")
    write_prompt(tmp_path, "write", f"{{{{ '{TOO_LONG}' if topic == 'lost card' else topic }}}}")
    summary, _, rejected = fill(job, tmp_path)
    assert summary.rows_in == 6
    assert summary.details["rules"] == {"refused": 1}
    write_prompt(tmp_path, "vary", "{{ 1 / (topic|length - 9) }}", "output: {field: message}\n")
    summary, _, rejected = fill(job, tmp_path, "run-2")
    assert summary.details["rules"] == {"refused": 1, "render": 1}
    assert {row["rule"] for row in rejected if row["document_id"] == "msg-1" and row["prompt"] == "vary"} == {
        "render: The template cannot be rendered: division by zero"
    }


def test_json_answers_fill_columns_and_one_that_lacks_the_tasks_field_is_quarantined(
    tmp_path: Path, teacher: Teacher
) -> None:
    job = make_job(tmp_path)
    output = f"output: {{format: json, json_schema: {SCHEMA}}}\n"
    write_prompt(tmp_path, "vary", "Vary {{ topic }}.", output)
    write_prompt(tmp_path, "write", "Write {{ topic }}.", output)
    job = dataclasses.replace(job, fields=("topic",))
    teacher.answer = lambda question: (
        '{"message": "hi", "queue": "bills", "extra": 1}' if "Write" in question else '{"message": "hi"}',
        "stop",
    )
    summary, rows, rejected = fill(job, tmp_path)
    assert {(row["message"], row["queue"], row["prompt"]) for row in rows} == {("hi", "bills", "write")}
    assert "extra" not in rows[0]
    assert summary.details["rules"] == {"missing": 3}
    assert "queue" in rejected[0]["rule"] and rejected[0]["raw"] == '{"message": "hi"}'


def test_rows_that_the_check_does_not_accept_are_quarantined_with_its_verdict(tmp_path: Path, teacher: Teacher) -> None:
    check = write_prompt(tmp_path, "check", "Is it about {{ topic }}?", "output: {accept: '^yes'}\n")
    teacher.answer = lambda question: (
        ("No, never" if "lost card" in question else "Yes.") if question.startswith("Is it") else f"w {question}",
        "stop",
    )
    summary, rows, rejected = fill(make_job(tmp_path, check), tmp_path)
    assert (summary.rows_in, len(rows), len(rejected)) == (9, 6, 3)
    assert {row["rule"] for row in rejected} == {"check check: 'No, never'"}
    assert {(row["document_id"], row["prompt"]) for row in rejected} == {("msg-1", "write"), ("msg-1", "vary")}
    assert all(row["raw"].startswith("w ") for row in rejected)
    assert teacher.starts == 1 and len(teacher.questions) == 18


def test_an_unchanged_job_asks_nothing_and_starts_no_server(tmp_path: Path, teacher: Teacher) -> None:
    job = make_job(tmp_path)
    _, first, _ = fill(job, tmp_path)
    summary, second, _ = fill(job, tmp_path, "run-2")
    assert teacher.starts == 1 and len(teacher.questions) == 9
    assert summary.details["asked"] == 0 and summary.details["reused"] == 9
    assert second == first
    assert {row["run_id"] for row in second} == {"run-1"}


def test_after_a_lost_server_only_what_is_missing_is_asked(tmp_path: Path, teacher: Teacher) -> None:
    job = dataclasses.replace(
        make_job(tmp_path), config=GenerateConfig(prompts=make_job(tmp_path).config.prompts, concurrency=1)
    )
    answered: list[str] = []

    def die(question: str) -> tuple[str, str]:
        if len(answered) == 4:
            raise ConnectionAbortedError
        answered.append(question)
        return "text", "stop"

    teacher.answer = die
    with pytest.raises(ServerError):
        fill(job, tmp_path)
    teacher.answer, teacher.questions = lambda question: ("text", "stop"), []
    summary, rows, _ = fill(job, tmp_path, "run-2")
    assert (summary.details["asked"], summary.details["reused"], len(rows)) == (5, 4, 9)
    assert len(teacher.questions) == 5
    runs = [row["run_id"] for row in rows]
    assert (runs.count("run-1"), runs.count("run-2")) == (4, 5)


def test_one_changed_word_asks_that_prompts_requests_again_and_no_others(tmp_path: Path, teacher: Teacher) -> None:
    job = make_job(tmp_path)
    _, before, _ = fill(job, tmp_path)
    key = job.key().hex
    teacher.questions = []
    write_prompt(tmp_path, "vary", "Alter {{ topic }}.", "output: {field: message}\n")
    assert job.key().hex != key
    _, after, _ = fill(job, tmp_path, "run-2")
    assert sorted(teacher.questions) == ["Alter lost card.", "Alter new pin.", "Alter unpaid bill."]
    assert [row["row_id"] for row in after] == [row["row_id"] for row in before]
    assert {(row["prompt"], row["run_id"]) for row in after} == {("write", "run-1"), ("vary", "run-2")}


def test_the_key_changes_with_what_shapes_the_rows(tmp_path: Path, teacher: Teacher) -> None:
    job = make_job(tmp_path)
    check = write_prompt(tmp_path, "check", "Is it {{ topic }}?", "output: {accept: '^yes'}\n")

    def configured(**changes: Any) -> GenerateJob:
        return dataclasses.replace(job, config=job.config.model_copy(update=changes))

    write, vary = job.config.prompts
    keys = [
        each.key().hex
        for each in (
            job,
            dataclasses.replace(job, seed=8),
            dataclasses.replace(job, task=ChatTask(input="message", output="queue")),
            dataclasses.replace(job, collected=dataclasses.replace(job.collected, digest="other")),
            configured(check=check),
            configured(prompts=(write,)),
            configured(prompts=(write,), check=vary),
            configured(prompts=(vary,), check=write),
        )
    ]
    assert len(set(keys)) == len(keys)
    assert configured(concurrency=9, timeout_minutes=1).key().hex == keys[0]
    (tmp_path / "model" / "model.safetensors").write_bytes(b"others")
    assert job.key().hex != keys[0]


def test_a_refused_request_is_asked_again_by_the_next_run(tmp_path: Path, teacher: Teacher) -> None:
    """The server's reason, such as a context that is too short, may be gone by then."""
    job = make_job(tmp_path)
    write_prompt(
        tmp_path, "vary", f"{{{{ '{TOO_LONG}' if topic == 'lost card' else topic }}}}", "output: {field: message}\n"
    )
    summary, _, _ = fill(job, tmp_path)
    assert summary.details["rules"] == {"refused": 1}
    summary, _, rejected = fill(job, tmp_path, "run-2")
    assert (summary.details["asked"], summary.details["reused"]) == (1, 8)
    assert "longer than the model's context" in rejected[0]["rule"]
