"""Everything that is asked of the served models: the holdout, the probes, and the base's fairest reading."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.core.answers import Answer
from tasks.core.config import ChatTask, ModelSource
from tasks.core.messages import Message
from tasks.core.progress import progress
from tasks.core.prompts import Sampling
from tasks.core.vllm.client import Request, ask
from tasks.core.vllm.likelihoods import log_likelihoods
from tasks.core.vllm.server import BASE_NAME, Server, serving
from tasks.evaluate.config import EvaluateConfig

SEED = 0


@dataclass(frozen=True)
class Question:
    """A conversation to be answered, its last turn the user's or a tool's, and the tools it may call (JSON) or None."""

    messages: Sequence[Message]
    tools: str | None = None


@dataclass(frozen=True)
class Replies:
    """What the models said; every list is in the order of the rows or of the probes.

    Attributes:
        answers: by model (``base``, ``candidate``, ``champion``), one per row.
        probes: by model, one per probe.
        restricted: the base's most likely label per row, None where the server refused the row; None as a whole where
            this was not asked.
    """

    answers: Mapping[str, list[Answer]]
    probes: Mapping[str, list[Answer]]
    restricted: list[str | None] | None


def collect_replies(
    config: EvaluateConfig,
    model: ModelSource,
    task: ChatTask,
    adapters: Mapping[str, Path],
    questions: Sequence[Question],
    log: Path,
) -> Replies:
    """Start vLLM once, with the adapters beside the base, and ask all there is to ask.

    Args:
        adapters: PEFT folders by the name under which they are asked.
        questions: one per row.
        log: vLLM's log file.

    Raises:
        ServerStartError, ServerError: vLLM did not start, or stopped answering.
    """
    probes = [Question([{"role": "user", "content": probe}]) for probe in config.probes]
    restrict = config.likelihood and bool(task.labels)
    names = (BASE_NAME, *adapters)
    total = len(names) * (len(questions) + len(probes)) + restrict * len(questions)
    with (
        serving(model, config.server, log=log, adapters=adapters) as server,
        progress("evaluate", total) as advance,
    ):
        done = 0

        def step(note: str) -> None:
            nonlocal done
            done += 1
            advance(done, note)

        def answers_of(name: str, asked: Sequence[Question], max_tokens: int) -> list[Answer]:
            sampling = Sampling(temperature=0, max_tokens=max_tokens)
            requests = [
                Request(str(i), question.messages, sampling, SEED, tools=question.tools)
                for i, question in enumerate(asked)
            ]
            found: dict[str, Answer] = {}

            def keep(answer: Answer) -> None:
                found[answer.request_id] = answer
                step(name)

            ask(server, name, requests, concurrency=config.concurrency, on_answer=keep)
            return [found[request.request_id] for request in requests]

        return Replies(
            answers={name: answers_of(name, questions, config.max_tokens) for name in names},
            probes={name: answers_of(name, probes, config.probe_max_tokens) for name in names},
            restricted=(
                most_likely_labels(server, questions, task.labels, config.concurrency, step) if restrict else None
            ),
        )


def most_likely_labels(
    server: Server,
    questions: Sequence[Question],
    labels: Sequence[str],
    concurrency: int,
    step: Callable[[str], None],
) -> list[str | None]:
    """The base's most likely label for every question: it may say nothing else, whatever it would rather write."""
    scores = log_likelihoods(
        server,
        BASE_NAME,
        [question.messages for question in questions],
        labels,
        concurrency=concurrency,
        on_done=lambda _: step("base, labels only"),
    )
    return [labels[max(range(len(labels)), key=row.__getitem__)] if row else None for row in scores]
