"""The answers of an evaluation, kept as they arrive, so that another attempt asks only for what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.core.answer_store import Answer, AnswerStore
from tasks.core.errors import EvaluationError, ServerError
from tasks.core.files import digest_of
from tasks.core.vllm.server import Server

MOST_DEATHS = 2
Keep = Callable[[Answer], None]
Ask = Callable[[Server, list[str], int, Keep, set[str]], None]
"""Asks what has these ids, so many at a time; each answer goes to ``Keep``, and the ids in flight are in the set."""


@dataclass(frozen=True)
class Memory:
    """The answers so far to what one artifact needs.

    Attributes:
        key: the artifact's, which determines every answer together with the model's name and the question.
        run_id: whose servers' deaths count: another night may find a mended machine.
    """

    store: AnswerStore
    key: str
    run_id: str

    def request_id(self, *asked: Any) -> str:
        """The id under which an answer to this is kept."""
        return digest_of([self.key, *asked])

    def complete(
        self, start: Callable[[], Server], wanted: Mapping[str, str], concurrency: int, ask: Ask, on_answer: Keep
    ) -> dict[str, Answer]:
        """The answers by id; those that are missing are asked, first and one by one those that a server died of.

        The server is started only if an answer is missing.

        ``wanted``: by id what is asked, in words; ``on_answer`` gets every answer. Answers that the server refused are
        not kept. Raises ServerError: the server stopped answering; EvaluationError: for the second time at the same
        question, of the same cause.
        """
        answers: dict[str, Answer] = {}

        def keep(answer: Answer) -> None:
            if not answer.is_refused:
                self.store.add(answer, self.run_id)
            answers[answer.request_id] = answer
            on_answer(answer)

        for answer in self.store.find(wanted).values():
            answers[answer.request_id] = answer
            on_answer(answer)
        missing = [request_id for request_id in wanted if request_id not in answers]
        suspects = {request_id for request_id, _ in self.store.deaths(self.run_id)}
        first = [request_id for request_id in missing if request_id in suspects]
        rest = [request_id for request_id in missing if request_id not in suspects]
        for request_ids, at_a_time in ((first, 1), (rest, concurrency)):
            if not request_ids:
                continue
            server, in_flight = start(), set[str]()
            try:
                ask(server, request_ids, at_a_time, keep, in_flight)
            except ServerError as error:
                self._note_death(server, error, {one: wanted[one] for one in in_flight})
                raise
        return answers

    def _note_death(self, server: Server, error: ServerError, in_flight: Mapping[str, str]) -> None:
        death = server.death
        self.store.add_death(in_flight, death, self.run_id)
        deaths = self.store.deaths(self.run_id)
        guilty = [words for one, words in in_flight.items() if deaths[one, death] >= MOST_DEATHS]
        if guilty:
            raise EvaluationError(
                f"vLLM died twice of the same cause while it was asked the same: {guilty[0]}\n{error.what}",
                where=error.where,
                remedy="leave out what it dies of (a document of the holdout, a probe, evaluate.likelihood), or change"
                " the server's settings; the answers so far are kept",
            ) from error
