"""Turn planned rows into written ones: ask, parse, and retry rejected rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tasks.core.answer_store import Answer
from tasks.core.characters import is_blank
from tasks.core.config import ChatTask
from tasks.core.control_tokens import TokenGuard
from tasks.core.files import canonical_json, storable
from tasks.core.messages import to_messages
from tasks.core.vllm.request import Request
from tasks.generate.engine import Engine
from tasks.generate.parse import Written, parse
from tasks.generate.request_plan import PlannedRow, Teacher, in_prefix_order, retry
from tasks.generate.written_rows import Row, rejected

WRITING = "writing rows"
Completed = tuple[dict[str, str | None], str | None]
"""A row's columns, or the broken rule."""


@dataclass
class Outcome:
    """The outcome of planned rows: those to judge, and those for the quarantine with the rule of their last answer.

    ``asked``: by prompt, rows requested or not renderable; ``no_second_chance``: rows that a limit kept from a retry.
    """

    rows: list[Row] = field(default_factory=list)
    rejected: list[Row] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    asked_by_attempt: Counter[int] = field(default_factory=Counter)
    no_second_chance: int = 0


@dataclass(frozen=True)
class RowWriter:
    """Writes rows with the teacher.

    ``columns`` are those of a row in addition to its lineage, ``attempts`` the tries of a row, the first included;
    ``guard`` finds control tokens, which no answer may contain: judges and training would interpret them.
    """

    engine: Engine
    teacher: Teacher
    task: ChatTask
    columns: tuple[str, ...]
    attempts: int
    guard: TokenGuard

    def write(self, planned: Sequence[PlannedRow]) -> Outcome:
        """Request all planned rows, and again, with other seeds, those whose answer gave no row.

        A request that the server refused or that was given up is not retried: it would fail the same way.
        """
        outcome = Outcome()
        for plan in planned:
            if plan.request is None:
                outcome.asked[plan.prompt.name] += 1
                outcome.rejected.append(rejected(self._lineage(plan, None, 0), f"render: {plan.problem}"))
        pending = [plan for plan in planned if plan.request is not None]
        losses: dict[str, Row] = {}
        for attempt in range(1, self.attempts + 1):
            if not pending:
                break
            pending = self._try(pending, attempt, outcome, losses)
        outcome.rejected += losses.values()
        return outcome

    def _try(
        self, pending: Sequence[PlannedRow], attempt: int, outcome: Outcome, losses: dict[str, Row]
    ) -> list[PlannedRow]:
        """One attempt at each; returns the rows to retry. ``losses``: the last loss of each row."""
        found = self._ask(pending, attempt)
        again: list[PlannedRow] = []
        for plan in pending:
            assert plan.request is not None
            if plan.request.request_id not in found:
                outcome.no_second_chance += attempt > 1
                continue
            outcome.asked[plan.prompt.name] += attempt == 1
            outcome.asked_by_attempt[attempt] += 1
            answer, written = found[plan.request.request_id]
            lineage = self._lineage(plan, answer, attempt)
            if problem := _problem_of(written):
                losses[plan.row_id] = rejected(lineage, problem)
                if not (answer.is_refused or answer.is_failed):
                    again.append(retry(plan, attempt + 1))
                continue
            losses.pop(plan.row_id, None)
            output = plan.prompt.head.output
            has_several = output.format == "lines" or (output.json_schema or {}).get("type") == "array"
            for number, (fields, problem) in enumerate(written):
                row = {**lineage, "row_id": f"{plan.row_id}-{number}" if has_several else plan.row_id}
                if problem is not None:
                    outcome.rejected.append(rejected(row, problem))
                else:
                    outcome.rows.append({**row, **fields, "messages": to_messages(self.task, fields)})
        return again

    def _ask(self, pending: Sequence[PlannedRow], attempt: int) -> dict[str, tuple[Answer, list[Completed]]]:
        plans = {plan.request.request_id: plan for plan in pending if plan.request is not None}
        read: dict[str, list[Completed]] = {}

        def verdict(request: Request, answer: Answer) -> str | None:
            plan = plans[request.request_id]
            rows = [self._completed(plan, one) for one in parse(plan.prompt.head.output, answer)]
            read[request.request_id] = rows
            return _problem_of(rows)

        requests = [plan.request for plan in pending if plan.request is not None]
        answers = self.engine.answer(in_prefix_order(requests), WRITING, verdict, attempt)
        return {request_id: (answer, read[request_id]) for request_id, answer in answers.items()}

    def _completed(self, plan: PlannedRow, written: Written) -> Completed:
        """A row with all columns: the prompt's output from the answer alone, then drawn values, then the document's."""
        if written.problem is not None:
            return {}, written.problem
        if tokens := {token for text in written.fields.values() for token in self.guard.find(text or "")}:
            return {}, f"control_token: the answer contains {', '.join(sorted(tokens))}"
        own = set(plan.prompt.head.output.fields)
        fields = {name: (written.fields if name in own else plan.values).get(name) for name in self.columns}
        if empty := [name for name in (self.task.input, self.task.output) if is_blank(fields.get(name) or "")]:
            return {}, f"missing: the answer has no {' and no '.join(empty)}"
        return fields, None

    def _lineage(self, plan: PlannedRow, answer: Answer | None, attempt: int) -> Row:
        request = plan.request
        return {
            "row_id": plan.row_id,
            "document_id": plan.values["document_id"],
            "prompt": plan.prompt.name,
            "prompt_digest": plan.prompt.digest,
            "request_id": request.request_id if request else None,
            "raw": storable(answer.text) if answer else "",
            "teacher": self.teacher.name,
            "teacher_revision": self.teacher.digest,
            "sampling": canonical_json(plan.prompt.head.sampling.model_dump()),
            "drawn": canonical_json(plan.drawn),
            "judgements": "[]",
            "run_id": answer.run_id if answer else None,
            "seed": request.seed if request else None,
            "attempts": attempt,
        }


def _problem_of(written: Sequence[Completed]) -> str | None:
    return written[0][1] if all(problem for _, problem in written) else None
