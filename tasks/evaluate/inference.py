"""Ask the served models: the holdout, the probes, and the base restricted to labels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.core.answer_store import Answer
from tasks.core.config import ChatTask, ModelSource, ServerSettings
from tasks.core.messages import Message
from tasks.core.progress import Advance, progress
from tasks.core.prompts import Sampling
from tasks.core.vllm.client import ask
from tasks.core.vllm.likelihoods import log_likelihoods
from tasks.core.vllm.request import Request
from tasks.core.vllm.server import BASE_NAME, Server, serving
from tasks.evaluate.config import EvaluateConfig

SEED = 0
BASES_WORDS = ("--tokenizer", "--chat-template")
"""Arguments of vLLM that set how the base reads a conversation."""


@dataclass(frozen=True)
class Question:
    """A conversation to answer, ending with a user's or tool's turn, and its tools (JSON) or None."""

    messages: Sequence[Message]
    tools: str | None = None


@dataclass(frozen=True)
class Contestant:
    """A model that answers in addition to the base.

    ``folder`` has a LoRA adapter (PEFT) or, if ``is_whole``, a model in Hugging Face layout, which is served alone,
    after the base and its adapters have ended. ``is_probed``: it answers the probes too.
    """

    name: str
    folder: Path
    is_whole: bool = False
    is_probed: bool = True


@dataclass(frozen=True)
class Replies:
    """The answers; every list is in the order of the rows or of the probes.

    ``answers`` and ``probes`` are by model (``base`` and the contestants' names). ``restricted`` is the base's most
    likely label per row, None if the server refused the row; None as a whole if not asked.
    """

    answers: Mapping[str, list[Answer]]
    probes: Mapping[str, list[Answer]]
    restricted: list[str | None] | None


def collect_replies(
    config: EvaluateConfig,
    model: ModelSource,
    task: ChatTask,
    contestants: Sequence[Contestant],
    questions: Sequence[Question],
    log: Path,
) -> Replies:
    """Start vLLM with the adapters on the base, then once for each whole model, and ask everything.

    ``log`` is vLLM's log file; a whole model has its own next to it, with its name. Raises ServerStartError,
    ServerError: vLLM did not start, or stopped answering.
    """
    adapters = {one.name: one.folder for one in contestants if not one.is_whole}
    whole = [one for one in contestants if one.is_whole]
    restrict = config.likelihood and bool(task.labels)
    probed = {BASE_NAME, *(one.name for one in contestants if one.is_probed)}
    total = (1 + len(contestants) + restrict) * len(questions) + len(probed) * len(config.probes)
    with progress("evaluate", total) as advance:
        asker = _Asker(config, questions, probed, advance)
        with serving(model, config.server, log=log, adapters=adapters) as server:
            for name in (BASE_NAME, *adapters):
                asker.ask(server, name, name)
            restricted = asker.most_likely(server, task.labels) if restrict else None
        for one in whole:
            source = model.model_copy(update={"path": str(one.folder), "revision": None})
            settings = _own_words(config.server)
            with serving(source, settings, log=log.with_stem(f"{log.stem}-{one.name}"), adapters={}) as server:
                asker.ask(server, BASE_NAME, one.name)
    return Replies(asker.answers, asker.probes, restricted)


class _Asker:
    def __init__(
        self, config: EvaluateConfig, questions: Sequence[Question], probed: Collection[str], advance: Advance
    ) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.probes: dict[str, list[Answer]] = {}
        self._config, self._questions, self._probed, self._advance = config, questions, probed, advance
        self._done = 0

    def step(self, note: str) -> None:
        self._done += 1
        self._advance(self._done, note)

    def ask(self, server: Server, served_name: str, name: str) -> None:
        """Ask a model, served as ``served_name``, all questions, and the probes if it is probed."""
        self.answers[name] = self._answers(server, served_name, name, self._questions, self._config.max_tokens)
        if name in self._probed:
            probes = [Question([{"role": "user", "content": probe}]) for probe in self._config.probes]
            self.probes[name] = self._answers(server, served_name, name, probes, self._config.probe_max_tokens)

    def most_likely(self, server: Server, labels: Sequence[str]) -> list[str | None]:
        """The base's most likely label for every question."""
        scores = log_likelihoods(
            server,
            BASE_NAME,
            [question.messages for question in self._questions],
            labels,
            concurrency=self._config.concurrency,
            on_done=lambda _: self.step("base, labels only"),
        )
        return [labels[max(range(len(labels)), key=row.__getitem__)] if row else None for row in scores]

    def _answers(
        self, server: Server, served_name: str, name: str, asked: Sequence[Question], max_tokens: int
    ) -> list[Answer]:
        sampling = Sampling(temperature=0, max_tokens=max_tokens)
        requests = [Request(str(at), one.messages, sampling, SEED, tools=one.tools) for at, one in enumerate(asked)]
        found: dict[str, Answer] = {}

        def keep(answer: Answer) -> None:
            found[answer.request_id] = answer
            self.step(name)

        ask(server, served_name, requests, concurrency=self._config.concurrency, on_answer=keep)
        return [found[request.request_id] for request in requests]


def _own_words(settings: ServerSettings) -> ServerSettings:
    """The settings without a tokenizer or chat template for the base: a whole model has its own."""
    kept: list[str] = []
    arguments = iter(settings.extra_args)
    for argument in arguments:
        name, joined, _ = argument.partition("=")
        if name.replace("_", "-") not in BASES_WORDS:  # vLLM takes either
            kept.append(argument)
        elif not joined:
            next(arguments, None)
    return settings.model_copy(update={"extra_args": tuple(kept)})
