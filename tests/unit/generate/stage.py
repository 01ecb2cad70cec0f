"""The generate stage to run in tests: a teacher of a few lines behind a real HTTP server, documents, and prompts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.artifacts import ArtifactRef, Summary
from tasks.core.config import ChatTask, ModelSource, ServerSettings
from tasks.core.home import Home
from tasks.core.messages import MESSAGES
from tasks.core.stage import StageContext
from tasks.core.vllm.server import Server
from tasks.generate.config import GenerateConfig
from tasks.generate.generate import GenerateJob
from tests.openai_stand_in import StandIn, stand_in

Messages = list[dict[str, str]]
TASK = ChatTask(system="Route.", input="message", output="queue")
TOPICS = {"msg-1": ("lost card", "cards"), "msg-2": ("unpaid bill", "bills"), "msg-3": ("new pin", "cards")}
OUTPUT = "output: {field: message}\n"
PASSES = "output: {field: verdict}\njudge: {accept: '^yes'}\nsampling: {temperature: 0}\n"


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

    def answers(self, *pairs: tuple[str, str]) -> None:
        """Answer with the text of the first pair whose beginning the question has."""
        self.answer = lambda question: (next(text for start, text in pairs if question.startswith(start)), "stop")


def write_prompt(folder: Path, name: str, question: str, extra: str = "", variables: str = "[topic]") -> str:
    head = f"name: {name}\nversion: 1\npurpose: x\nvariables: {variables}\n{extra}"
    (folder / f"{name}.md").write_text(f"---\n{head}---\nuser:\n{question}\n", encoding="utf-8")
    return str(folder / f"{name}.md")


def write_documents(folder: Path, documents: Sequence[Mapping[str, str | None]]) -> None:
    names = dict.fromkeys(["document_id", *(name for document in documents for name in document)])
    schema = pa.schema([(name, pa.string()) for name in names]).append(pa.field("messages", MESSAGES))
    folder.mkdir(exist_ok=True)
    table = pa.Table.from_pylist([{**document, "messages": []} for document in documents], schema=schema)
    pq.write_table(table, folder / "train.parquet")


def many_documents(folder: Path, count: int = 120) -> None:
    """Replace a job's documents by so many."""
    write_documents(
        folder / "collected",
        [
            {"document_id": f"msg-{number}", "message": "m", "queue": "cards", "topic": f"topic {number}"}
            for number in range(count)
        ],
    )


def make_job(
    folder: Path, prompts: Sequence[str] | None = None, judges: Sequence[str] = (), **config: Any
) -> GenerateJob:
    """Two prompts on three documents, if nothing else is said: nine requests, tried once."""
    collected = folder / "collected"
    if not collected.exists():
        rows = [
            {"document_id": name, "message": f"real {topic}", "queue": queue, "topic": topic}
            for name, (topic, queue) in TOPICS.items()
        ]
        write_documents(collected, rows)
        (folder / "model").mkdir()
        (folder / "model" / "model.safetensors").write_bytes(b"weights")
    if prompts is None:
        prompts = (
            write_prompt(folder, "write", "Write about {{ topic }}.", f"{OUTPUT}rows_per_document: 2\n"),
            write_prompt(folder, "vary", "Vary {{ topic }}.", OUTPUT),
        )
    settings = {"concurrency": 4, "attempts": 1, "server": ServerSettings(max_model_len=2048), **config}
    return GenerateJob(
        GenerateConfig(prompts=tuple(prompts), judges=tuple(judges), **settings),
        ModelSource(path=str(folder / "model")),
        TASK,
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
    json.dumps(summary.as_json())
    rows, rejected = (pq.read_table(out / f"{name}.parquet").to_pylist() for name in ("rows", "quarantine"))
    assert (summary.accepted, summary.quarantined) == (len(rows), len(rejected))
    assert len({row["row_id"] for row in [*rows, *rejected]}) == summary.rows_in
    return summary, rows, rejected
