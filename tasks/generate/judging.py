"""Judges: each judges every remaining row; its verdict stays with the row."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from tasks.core.answer_store import Answer
from tasks.core.files import canonical_json, storable
from tasks.core.patterns import matches
from tasks.core.prompts import Prompt
from tasks.core.prompts.rendering import Renderer
from tasks.core.vllm.request import Request
from tasks.generate.documents import applies, needed_fields
from tasks.generate.early_stop import Failures
from tasks.generate.engine import Engine
from tasks.generate.parse import Unusable, answered, parse
from tasks.generate.request_plan import PlannedRow, Teacher, in_prefix_order, plan_judging
from tasks.generate.written_rows import Row, rejected


@dataclass(frozen=True)
class Judgement:
    """A judge's verdict on a row.

    ``score`` is on the judge's scale, None for a judge with a pattern or without a verdict; ``raw`` is its unchanged
    answer; ``problem`` says why there is no verdict (``rule: detail``), or None.
    """

    judge: str
    digest: str
    passed: bool
    score: float | None
    reasons: str
    raw: str
    problem: str | None = None

    @property
    def rule(self) -> str | None:
        """The rule that the row broke, or None: ``judge NAME: detail``."""
        if self.passed:
            return None
        if self.problem is not None:
            return f"judge {self.judge}: no verdict: {self.problem}"
        scored = "" if self.score is None else f"score {self.score:g}, "
        return f"judge {self.judge}: {scored}{self.reasons!r}"


def read_judgement(judge: Prompt, answer: Answer) -> Judgement:
    """The verdict in a judge's answer; the row fails if there is none: cut off, refused or not on the judge's scale.

    With ``accept`` a row passes if the answer matches it anywhere, case ignored; with a scale, from the threshold up.
    """
    rules = judge.head.judge
    assert rules is not None
    if rules.accept is None:
        return _scored(judge, answer)
    try:
        text = answered(judge.head.output, answer)
        passed = matches(rules.accept, text, any_case=True)
    except Unusable as unusable:
        return no_judgement(judge, str(unusable), answer.text)
    except TimeoutError as error:
        return no_judgement(judge, f"accept: {error}", answer.text)
    return Judgement(judge.name, judge.digest, passed, None, text, answer.text)


def no_judgement(judge: Prompt, problem: str, raw: str = "") -> Judgement:
    return Judgement(judge.name, judge.digest, False, None, "", storable(raw), problem)


def as_text(judgements: Iterable[Judgement]) -> str:
    """The verdicts on one row as JSON text, in order."""
    plain = [asdict(judgement) for judgement in judgements]
    return canonical_json([{name: one for name, one in row.items() if name != "problem" or one} for row in plain])


@dataclass
class Tally:
    """A judge's totals: asked, passed, without a verdict, and the scores."""

    asked: int = 0
    passed: int = 0
    no_verdict: int = 0
    scores: list[float] = field(default_factory=list)

    def count(self, judgement: Judgement) -> None:
        self.asked += 1
        self.passed += judgement.passed
        self.no_verdict += judgement.problem is not None
        if judgement.score is not None:
            self.scores.append(judgement.score)

    def as_numbers(self) -> dict[str, Any]:
        mean = round(fmean(self.scores), 4) if self.scores else None
        return {"asked": self.asked, "passed": self.passed, "no_verdict": self.no_verdict, "mean_score": mean}


@dataclass
class Panel:
    """The judges of a recipe, in order; a row stays if all pass it.

    ``failure_limit`` is the share of rows that a judge may fail before generation stops; ``not_asked`` counts the rows
    that a limit left without a verdict.
    """

    judges: Sequence[Prompt]
    engine: Engine
    teacher: Teacher
    seed: int
    renderer: Renderer
    failure_limit: float
    tallies: dict[str, Tally] = field(init=False)
    not_asked: int = 0

    def __post_init__(self) -> None:
        self.tallies = {judge.name: Tally() for judge in self.judges}
        self._failures = {judge.name: Failures(self.failure_limit) for judge in self.judges}

    def judge(self, rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
        """The rows that passed, and quarantine rows for the others, each with its verdicts.

        Raises GenerationError: a larger share than ``failure_limit`` of at least 50 rows failed one judge.
        """
        verdicts: dict[str, list[Judgement]] = {row["row_id"]: [] for row in rows}
        lost: list[Row] = []
        left = list(rows)
        for judge in self.judges:
            judged = list(zip(left, self._judgements(judge, left), strict=True))
            left = []
            for row, judgement in judged:
                self.tallies[judge.name].count(judgement)
                verdicts[row["row_id"]].append(judgement)
                row["judgements"] = as_text(verdicts[row["row_id"]])
                if judgement.rule is None:
                    left.append(row)
                else:
                    lost.append(rejected(row, judgement.rule))
        return left, lost

    def _judgements(self, judge: Prompt, rows: Sequence[Row]) -> list[Judgement]:
        if not rows:
            return []
        planned = plan_judging(judge, rows, self.teacher, self.seed, self.renderer)
        failures = self._failures[judge.name]

        def verdict(_: Request, answer: Answer) -> str | None:
            judgement = read_judgement(judge, answer)
            failures.count(answer, judgement.rule)
            failures.check()
            return judgement.problem

        requests = [plan.request for plan in planned if plan.request is not None and applies(judge, plan.values)]
        answers = self.engine.answer(in_prefix_order(requests), f"judging by {judge.name}", verdict)
        return [self._judgement(judge, plan, answers) for plan in planned]

    def _judgement(self, judge: Prompt, plan: PlannedRow, answers: Mapping[str, Answer]) -> Judgement:
        if lacking := [name for name in needed_fields(judge) if plan.values.get(name) is None]:
            return no_judgement(judge, f"missing: the row has no {lacking[0]}")
        if plan.request is None:
            return no_judgement(judge, f"render: {plan.problem}")
        answer = answers.get(plan.request.request_id)
        if answer is None:
            self.not_asked += 1
            return no_judgement(judge, f"not asked: {self.engine.stopped} was reached")
        return read_judgement(judge, answer)


def _scored(judge: Prompt, answer: Answer) -> Judgement:
    rules = judge.head.judge
    assert rules is not None and rules.scale is not None and rules.threshold is not None
    written = parse(judge.head.output, answer)[0]
    if written.problem:
        return no_judgement(judge, written.problem, answer.text)
    low, high = rules.scale
    try:
        score = float(written.fields.get(rules.score, ""))
    except ValueError:
        score = math.nan
    if not low <= score <= high:
        said = written.fields.get(rules.score, "nothing")
        return no_judgement(judge, f"score: {said!r} is not a number from {low} to {high}", answer.text)
    reasons = written.fields.get(rules.reasons, "")
    return Judgement(judge.name, judge.digest, score >= rules.threshold, score, reasons, answer.text)
