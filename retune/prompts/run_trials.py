"""Try a template as a night uses it: the same plan, teacher, parsing and judges, on a few documents."""

from __future__ import annotations

import contextlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flows.recipe.named_files import control_tokens_of, document_fields, judges_of, prompts_of
from flows.recipe.recipe import Recipe
from retune.prompts.documents import RUN, Material
from retune.prompts.trials import Trial, TriedRow
from retune.teacher import StandingTeacher, fingerprint, recipe_teacher, served_model, standing_teacher
from tasks.core.answer_store import Answer, AnswerStore
from tasks.core.control_tokens import TokenGuard
from tasks.core.errors import ServerError
from tasks.core.home import Home
from tasks.core.models import check_model
from tasks.core.progress import say
from tasks.core.prompts import Prompt
from tasks.core.prompts.rendering import Renderer
from tasks.core.stage import StageContext
from tasks.generate.config import Endpoint, GenerateConfig, Limits
from tasks.generate.engine import Engine
from tasks.generate.judging import Judgement, Panel, read_judgement
from tasks.generate.request_plan import PlannedRow, Teacher, plan_judging, plan_rows
from tasks.generate.sampling import ExamplePool
from tasks.generate.writing import RowWriter
from tasks.generate.written_rows import columns_of_rows

KEY = "RETUNE_STANDING_TEACHER_KEY"
ANY_FAILURES = 1.0
"""No share of failed rows ends a trial: it is there to show failures."""


@dataclass(frozen=True)
class Try:
    """A planned row: row ``index`` (from 0) of a document."""

    document_id: str
    index: int
    plan: PlannedRow


@dataclass(frozen=True)
class Bench:
    """Everything to try templates: ``engine`` asks the teacher for answers that the ``store`` does not have."""

    recipe: Recipe
    teacher: Teacher
    renderer: Renderer
    store: AnswerStore
    engine: Engine

    def ask(self, prompt: Prompt, tries: Sequence[Try]) -> list[Trial]:
        """Ask the teacher, parse the answers, and ask the recipe's judges about the rows; in the order of the tries."""
        planned = [attempt.plan for attempt in tries]
        ids = [plan.request.request_id for plan in planned if plan.request is not None]
        known = set(self.store.find(ids))
        rows = self._judge(prompt, planned) if prompt.head.judge else self._write(prompt, planned)
        answers = self.store.find(ids)
        return [_trial(attempt, answers, known, tuple(rows[attempt.plan.row_id])) for attempt in tries]

    def _write(self, prompt: Prompt, planned: Sequence[PlannedRow]) -> Mapping[str, list[TriedRow]]:
        recipe = self.recipe
        assert recipe.generate is not None
        columns = columns_of_rows(document_fields(recipe), [*prompts_of(recipe), prompt])
        guard = TokenGuard(control_tokens_of(recipe))
        outcome = RowWriter(self.engine, self.teacher, recipe.task, columns, 1, guard).write(planned)
        judges = judges_of(recipe)
        panel = Panel(judges, self.engine, self.teacher, recipe.seed, self.renderer, ANY_FAILURES)
        _, lost = panel.judge(outcome.rows)
        refused = {row["row_id"]: row["rule"] for row in lost}
        by_id: dict[str, list[TriedRow]] = defaultdict(list)
        for row in outcome.rows:
            fields = {name: row[name] or "" for name in prompt.head.output.fields}
            judgements = tuple(Judgement(**found) for found in json.loads(row["judgements"]))
            by_id[_request_of(row)].append(TriedRow(fields, refused.get(row["row_id"]), judgements))
        for row in outcome.rejected:
            by_id[_request_of(row)].append(TriedRow({}, row["rule"]))
        return by_id

    def _judge(self, judge: Prompt, planned: Sequence[PlannedRow]) -> Mapping[str, list[TriedRow]]:
        requests = [plan.request for plan in planned if plan.request is not None]
        found = self.engine.answer(requests, "judging", lambda _, answer: read_judgement(judge, answer).problem)
        by_id: dict[str, list[TriedRow]] = defaultdict(list)
        for plan in planned:
            if plan.request is None:
                by_id[plan.row_id].append(TriedRow({}, f"render: {plan.problem}"))
                continue
            judgement = read_judgement(judge, found[plan.request.request_id])
            by_id[plan.row_id].append(TriedRow({}, judgement.rule, (judgement,)))
        return by_id


def plan_tries(
    prompt: Prompt, material: Material, teacher: Teacher, seed: int, renderer: Renderer, most: int
) -> list[Try]:
    """The first ``most`` rows that a night would plan for these documents: each document once, then again."""
    documents = material.documents
    if prompt.head.judge is not None:
        rows = [{"row_id": str(document["document_id"]), "raw": "", **document} for document in documents[:most]]
        planned = plan_judging(prompt, rows, teacher, seed, renderer)
        names = [str(row["document_id"]) for row in rows]
        return [
            Try(name, names[:at].count(name), plan) for at, (name, plan) in enumerate(zip(names, planned, strict=True))
        ]
    rounds = min(prompt.head.rows_per_document, -(-most // len(documents)))
    fewer = replace(prompt, head=prompt.head.model_copy(update={"rows_per_document": rounds}))
    planned = plan_rows(documents, [fewer], teacher, seed, renderer, ExamplePool(material.pool))
    tries = [
        Try(str(document["document_id"]), number, planned[place * rounds + number])
        for number in range(rounds)
        for place, document in enumerate(documents)
    ]
    return tries[:most]


def unasked(attempt: Try) -> Trial:
    """The request, before it is asked."""
    if attempt.plan.request is None:
        return Trial(attempt.document_id, attempt.index, (), (TriedRow({}, f"render: {attempt.plan.problem}"),))
    return Trial(attempt.document_id, attempt.index, attempt.plan.request.messages)


def _trial(attempt: Try, answers: Mapping[str, Answer], known: set[str], rows: tuple[TriedRow, ...]) -> Trial:
    request = attempt.plan.request
    answer = answers.get(request.request_id) if request is not None else None
    if answer is None:  # refused, given up, or not rendered: the row's rule tells which
        return replace(unasked(attempt), rows=rows)
    return replace(
        unasked(attempt),
        rows=rows,
        answer=answer.text,
        finish_reason=answer.finish_reason,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        was_stored=answer.request_id in known,
    )


def _request_of(row: Mapping[str, Any]) -> str:
    """The row id of the request of a row: an answer with several rows numbers them after a dash."""
    return str(row["row_id"]).partition("-")[0]


@contextlib.contextmanager
def bench(recipe: Recipe, home: Home) -> Iterator[Bench]:
    """Find the served teacher, if it is the recipe's, or start one. The recipe's limits do not apply."""
    served = served_model(recipe)
    assert recipe.generate is not None
    config = recipe.generate.model_copy(update={"limits": Limits(), "failure_limit": ANY_FAILURES})
    standing = None if config.endpoints else _standing(recipe, home)
    if standing is not None:
        config = _asking(config, standing)
    elif not config.endpoints:
        check_model(served)
    teacher = standing.teacher if standing else recipe_teacher(recipe)
    with (
        _key(standing),
        AnswerStore.open(home.answers) as store,
        Renderer() as renderer,
        Engine(config, served, store, StageContext(home, RUN, RUN)) as engine,
    ):
        store.forget_deaths(RUN)
        try:
            yield Bench(recipe, teacher, renderer, store, engine)
        except ServerError as error:
            if standing is None:
                raise
            raise ServerError(
                f"The teacher that is being served stopped answering: {error.what}",
                where=standing.log,
                remedy=f"start it again: {home.command('serve-teacher', recipe=recipe.reference)}",
            ) from error


def _standing(recipe: Recipe, home: Home) -> StandingTeacher | None:
    standing = standing_teacher(home)
    if standing is None:
        keeps = home.command("serve-teacher", recipe=recipe.reference)
        say(f"starting a teacher, because none is being served; `{keeps}` keeps one and saves this time")
        return None
    if standing.fingerprint == fingerprint(recipe) or standing.model_digest == recipe_teacher(recipe).digest:
        return standing
    say(f"starting the recipe's teacher, because another model is being served, {standing.model}")
    return None


def _asking(config: GenerateConfig, standing: StandingTeacher) -> GenerateConfig:
    endpoint = Endpoint(url=f"{standing.url}/v1", model=standing.served_name, api_key_env=KEY)
    return config.model_copy(update={"endpoints": (endpoint,), "teacher": None, "adapter": None})


@contextlib.contextmanager
def _key(standing: StandingTeacher | None) -> Iterator[None]:
    if standing is None:
        yield
        return
    os.environ[KEY] = standing.api_key
    try:
        yield
    finally:
        del os.environ[KEY]
