"""Write the missing training rows: plan, ask the teacher, parse, check, and keep every loss with its raw text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.answers import Answer, AnswerStore
from tasks.core.artifacts import ArtifactRef, StageKey, Summary
from tasks.core.config import ChatTask, ModelSource
from tasks.core.files import canonical_json
from tasks.core.messages import MESSAGES, to_messages
from tasks.core.models import model_digest
from tasks.core.progress import progress, say
from tasks.core.prompts import Prompt, read_prompt
from tasks.core.stage import StageContext
from tasks.core.vllm.client import ask
from tasks.core.vllm.server import BASE_NAME, Server, serving, vllm_version
from tasks.generate.config import GenerateConfig
from tasks.generate.parse import accepts, parse
from tasks.generate.plan import PlannedRow, Teacher, plan_row, plan_rows

VERSION = 1
LINEAGE = (
    "row_id", "document_id", "prompt", "prompt_digest", "request_id", "raw", "teacher", "teacher_revision", "sampling",
)  # fmt: skip
QUARANTINE_COLUMNS = ("row_id", "document_id", "prompt", "prompt_digest", "rule", "raw")

Row = dict[str, Any]


@dataclass(frozen=True)
class GenerateJob:
    """Writes ``rows.parquet`` and ``quarantine.parquet`` from the training documents.

    ``fields`` are the documents' own columns: an answer's fields replace those of the same name, the others stay.
    """

    config: GenerateConfig
    model: ModelSource
    task: ChatTask
    collected: ArtifactRef
    fields: tuple[str, ...]
    seed: int

    @property
    def teacher(self) -> ModelSource:
        return self.config.teacher or self.model

    @property
    def engine(self) -> str:
        """Name and version of the server software, and the settings that shape its answers."""
        shaping = self.config.server.model_dump(include={"dtype", "max_model_len", "extra_args"})
        return f"{vllm_version()} {canonical_json(shaping)}"

    @property
    def prompts(self) -> list[Prompt]:
        return [read_prompt(Path(path)) for path in self.config.prompts]

    @property
    def check(self) -> Prompt | None:
        return read_prompt(Path(self.config.check)) if self.config.check else None

    def key(self) -> StageKey:
        """Determined by documents, prompt files, teacher, server software, seed and task."""
        prompts = {f"prompt:{prompt.name}": prompt.digest for prompt in self.prompts}
        checks = {f"check:{self.check.name}": self.check.digest} if self.check else {}
        return StageKey(
            "generate",
            VERSION,
            {
                "engine": self.engine,
                "task": self.task,
                "fields": self.fields,
                "seed": self.seed,
            },
            inputs=[self.collected],
            files={"model": model_digest(self.teacher), **prompts, **checks},
            libraries=["jinja2", "jsonschema"],
        )

    def fill(self, folder: Path, context: StageContext) -> Summary:
        """Ask what was never asked before, and write what came of everything."""
        documents = pq.read_table(self.collected.folder / "train.parquet").to_pylist()
        teacher = Teacher(self.teacher.path, model_digest(self.teacher), self.engine)
        with AnswerStore.open(context.home.answers) as store, _Oracle(self, store, context) as oracle:
            planned = plan_rows(documents, self.prompts, teacher, self.seed)
            answers = oracle.answer(planned, "writing rows")
            rows, rejected = self._read(planned, answers, teacher)
            if self.check is not None:
                rows, failed = self._checked(rows, self.check, teacher, oracle)
                rejected += failed
            asked, reused, tokens = oracle.asked, oracle.reused, oracle.completion_tokens
        _write(folder / "rows.parquet", rows, self._schema())
        _write(folder / "quarantine.parquet", rejected, pa.schema([(name, pa.string()) for name in QUARANTINE_COLUMNS]))
        details = {
            "asked": asked,
            "reused": reused,
            "completion_tokens": tokens,
            "rules": dict(Counter(row["rule"].split(":")[0] for row in rejected)),
            "by_prompt": _by_prompt(planned, rows),
            "samples": _samples(rows, self.task),
        }
        return Summary(len(planned), len(rows), len(rejected), 0, details)

    def _read(
        self, planned: Sequence[PlannedRow], answers: Mapping[str, Answer], teacher: Teacher
    ) -> tuple[list[Row], list[Row]]:
        rows: list[Row] = []
        rejected: list[Row] = []
        for plan in planned:
            if plan.request is None:
                rejected.append(_rejected(plan, f"render: {plan.problem}", ""))
                continue
            answer = answers[plan.request.request_id]
            fields, problem = parse(plan.prompt.head.output, answer)
            if problem:
                rejected.append(_rejected(plan, problem, answer.text))
                continue
            row = self._fields_of(plan, fields)
            if empty := [name for name in (self.task.input, self.task.output) if not row[name].strip()]:
                rejected.append(_rejected(plan, f"missing: the answer has no {' and no '.join(empty)}", answer.text))
                continue
            rows.append(
                {
                    "row_id": plan.row_id,
                    "document_id": plan.values["document_id"],
                    "prompt": plan.prompt.name,
                    "prompt_digest": plan.prompt.digest,
                    "request_id": plan.request.request_id,
                    "raw": answer.text,
                    "teacher": Path(teacher.name).name if self.teacher.is_local else teacher.name,
                    "teacher_revision": teacher.digest,
                    "sampling": canonical_json(plan.request.sampling.model_dump()),
                    "seed": plan.request.seed,
                    "run_id": answer.run_id,
                    **row,
                    "messages": to_messages(self.task, row),
                }
            )
        return rows, rejected

    def _fields_of(self, plan: PlannedRow, written: Mapping[str, str]) -> dict[str, str]:
        """The row's fields: what the prompt's output fills is the answer's alone, the rest is the document's."""
        kept = set(self.fields) - set(plan.prompt.head.output.fields)
        return {name: str(plan.values[name]) if name in kept else written.get(name, "") for name in self.all_fields}

    @property
    def all_fields(self) -> tuple[str, ...]:
        """The documents' fields, and those that only the prompts' outputs have."""
        written = (name for prompt in self.prompts for name in prompt.head.output.fields)
        return tuple(dict.fromkeys([*self.fields, *written]))

    def _checked(
        self, rows: list[Row], check: Prompt, teacher: Teacher, oracle: _Oracle
    ) -> tuple[list[Row], list[Row]]:
        """Keep the rows that the check accepts."""
        plans = [plan_row(check, f"{check.name}:{row['row_id']}:{row['raw']}", row, teacher, self.seed) for row in rows]
        answers = oracle.answer(plans, "checking rows")
        kept: list[Row] = []
        rejected: list[Row] = []
        for row, plan in zip(rows, plans, strict=True):
            answer = answers.get(plan.request.request_id) if plan.request else None
            if answer is not None and accepts(check.head.output, answer):
                kept.append(row)
                continue
            verdict = answer.text.strip() if answer else plan.problem
            names = {name: row[name] for name in ("row_id", "document_id", "prompt", "prompt_digest", "raw")}
            rejected.append({**names, "rule": f"check {check.name}: {verdict!r}"})
        return kept, rejected

    def _schema(self) -> pa.Schema:
        texts = [(name, pa.string()) for name in LINEAGE]
        fields = [(name, pa.string()) for name in self.all_fields]
        return pa.schema([*texts, ("seed", pa.int64()), ("run_id", pa.string()), *fields, ("messages", MESSAGES)])


class _Oracle:
    """Answers planned requests from the store, and from a server that it starts when the first is missing."""

    def __init__(self, job: GenerateJob, store: AnswerStore, context: StageContext) -> None:
        self._job, self._store, self._context = job, store, context
        self._serving: Any = None
        self._server: Server | None = None
        self.asked = self.reused = self.completion_tokens = 0

    def __enter__(self) -> _Oracle:
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._serving is not None:
            self._serving.__exit__(*exception)

    def answer(self, plans: Sequence[PlannedRow], what: str) -> dict[str, Answer]:
        """The answer to every request of the plan, by request id; each is stored as it arrives."""
        requests = {plan.request.request_id: plan.request for plan in plans if plan.request is not None}
        answers = self._store.find(requests)
        missing = [request for request_id, request in requests.items() if request_id not in answers]
        self.asked += len(missing)
        self.reused += len(answers)
        say(f"  {what}: {len(missing)} to ask, {len(answers)} answered before")
        if missing:
            with progress(what, len(missing)) as advance:

                def keep(answer: Answer) -> None:
                    answers[answer.request_id] = replace(answer, run_id=self._context.run_id)
                    if not answer.is_refused:  # another night, the server may be able to
                        self._store.add(answer, self._context.run_id)
                    self.completion_tokens += answer.completion_tokens
                    advance(len(answers) - (len(requests) - len(missing)), f"{self.completion_tokens} tokens")

                ask(self._start(), BASE_NAME, missing, concurrency=self._job.config.concurrency, on_answer=keep)
        return answers

    def _start(self) -> Server:
        if self._server is None:
            log = self._context.log("generate-vllm")
            self._serving = serving(self._job.teacher, self._job.config.server, log=log)
            self._server = self._serving.__enter__()
        return self._server


def _rejected(plan: PlannedRow, rule: str, raw: str) -> Row:
    return {
        "row_id": plan.row_id,
        "document_id": plan.values["document_id"],
        "prompt": plan.prompt.name,
        "prompt_digest": plan.prompt.digest,
        "rule": rule,
        "raw": raw,
    }


def _by_prompt(planned: Sequence[PlannedRow], rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    asked = Counter(plan.prompt.name for plan in planned)
    kept = Counter(row["prompt"] for row in rows)
    return {name: {"requests": count, "kept": kept[name]} for name, count in asked.items()}


def _samples(rows: Sequence[Row], task: ChatTask, count: int = 8) -> list[dict[str, str]]:
    """A few rows spread over the whole, for people to read."""
    step = max(1, len(rows) // count)
    return [
        {"prompt": row["prompt"], "input": row["messages"][-2]["content"], "output": row["messages"][-1]["content"]}
        for row in rows[::step][:count]
    ]


def _write(path: Path, rows: list[Row], schema: pa.Schema) -> None:
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
