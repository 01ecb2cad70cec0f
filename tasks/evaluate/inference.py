"""Ask the served models: the holdout, the probes, and the base restricted to labels."""

from __future__ import annotations

import contextlib
import functools
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.core.answer_store import Answer
from tasks.core.config import ChatTask, ModelSource, ServerSettings
from tasks.core.files import canonical_json
from tasks.core.messages import Message, turn_text
from tasks.core.progress import Advance, progress, say
from tasks.core.prompts import Sampling
from tasks.core.stops import stop_tokens
from tasks.core.vllm.client import ask
from tasks.core.vllm.likelihoods import log_likelihoods
from tasks.core.vllm.request import Request
from tasks.core.vllm.server import BASE_NAME, Server, serving
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.memory import Ask, Keep, Memory

SEED = 0
REFUSED = "refused"
FEW_SHOT = f"{BASE_NAME}_few_shot"
SHOWN_CHARACTERS = 80
Start = Callable[[], Server]
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

    @property
    def stops(self) -> tuple[int, ...]:
        return tuple(stop_tokens(self.folder))


@dataclass(frozen=True)
class Replies:
    """The answers; every list is in the order of the rows or of the probes.

    ``answers`` and ``probes`` are by model (``base`` and the contestants' names); the base with examples in its prompt
    is ``base_few_shot``. ``restricted`` is the base's most likely label per row, None if the server refused the row;
    None as a whole if not asked.
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
    with_examples: Sequence[Question],
    memory: Memory,
    log: Path,
) -> Replies:
    """Start vLLM with the adapters on the base, then once for each whole model, and ask what ``memory`` lacks.


    Every model stops at the tokens that its folder names, the base at those of the first contestant, the candidate.
    ``with_examples``: the questions with examples, for the base alone; may be empty. ``log`` is vLLM's log file; a
    whole model has its own next to it, with its name. Raises ServerStartError, ServerError, EvaluationError: vLLM did
    not start, or stopped answering.
    """
    adapters = {one.name: one.folder for one in contestants if not one.is_whole}
    whole = [one for one in contestants if one.is_whole]
    restrict = config.likelihood and bool(task.labels)
    probed = {BASE_NAME, *(one.name for one in contestants if one.is_probed)}
    total = (1 + len(contestants) + restrict) * len(questions) + len(with_examples) + len(probed) * len(config.probes)
    with progress("evaluate", total) as advance:
        stops = {one.name: one.stops for one in contestants}
        stops |= dict.fromkeys((BASE_NAME, FEW_SHOT), contestants[0].stops)
        asker = _Asker(config, questions, probed, stops, memory, advance)
        with _on_demand(lambda: serving(model, config.server, log=log, adapters=adapters)) as start:
            for name in (BASE_NAME, *adapters):
                asker.ask(start, name, name)
            if with_examples:
                asker.ask_with_examples(start, with_examples)
            restricted = asker.most_likely(start, task.labels) if restrict else None
        for one in whole:
            source = model.model_copy(update={"path": str(one.folder), "revision": None})
            settings, own_log = _own_words(config.server), log.with_stem(f"{log.stem}-{one.name}")
            serve = functools.partial(serving, source, settings, log=own_log, adapters={})
            with _on_demand(serve) as start:
                asker.ask(start, BASE_NAME, one.name)
    return Replies(asker.answers, asker.probes, restricted)


@contextlib.contextmanager
def _on_demand(serve: Callable[[], contextlib.AbstractContextManager[Server]]) -> Iterator[Start]:
    """A function that starts a server when it is first called; the server ends with the block."""
    with contextlib.ExitStack() as stack:
        yield functools.cache(lambda: stack.enter_context(serve()))


class _Asker:
    def __init__(
        self,
        config: EvaluateConfig,
        questions: Sequence[Question],
        probed: Collection[str],
        stops: Mapping[str, tuple[int, ...]],
        memory: Memory,
        advance: Advance,
    ) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.probes: dict[str, list[Answer]] = {}
        self._config, self._questions, self._probed = config, questions, probed
        self._stops, self._memory, self._advance = stops, memory, advance
        self._done = 0

    def ask(self, start: Start, served_name: str, name: str) -> None:
        """Ask a model, served as ``served_name``, all questions, and the probes if it is probed."""
        self.answers[name] = self._answers(start, served_name, name, self._questions, self._config.max_tokens)
        if name in self._probed:
            probes = [Question([{"role": "user", "content": probe}]) for probe in self._config.probes]
            self.probes[name] = self._answers(start, served_name, name, probes, self._config.probe_max_tokens)

    def ask_with_examples(self, start: Start, questions: Sequence[Question]) -> None:
        """Ask the base; it does not count if its server refuses a prompt, which is longer than the others' prompts."""
        answers = self._answers(start, BASE_NAME, FEW_SHOT, questions, self._config.max_tokens)
        if refused := sum(answer.is_refused for answer in answers):
            say(f"  the base with examples is left out: the server refused {refused} of its prompts as too long")
        else:
            self.answers[FEW_SHOT] = answers

    def most_likely(self, start: Start, labels: Sequence[str]) -> list[str | None]:
        """The base's most likely label for every question; None if the server refused it."""
        ids = [self._memory.request_id(BASE_NAME, question.messages, labels) for question in self._questions]
        prompts = {one: question.messages for one, question in zip(ids, self._questions, strict=True)}

        def ask_for_scores(
            server: Server, missing: Sequence[str], concurrency: int, keep: Keep, in_flight: set[str]
        ) -> None:
            def on_scores(one: str, scores: list[float] | None) -> None:
                keep(Answer(one, canonical_json(scores), "stop" if scores else REFUSED, 0, 0))

            log_likelihoods(
                server,
                BASE_NAME,
                {one: prompts[one] for one in missing},
                labels,
                concurrency=concurrency,
                on_scores=on_scores,
                in_flight=in_flight,
            )

        found = self._complete(start, ids, self._questions, f"{BASE_NAME}, labels only", ask_for_scores)
        scores = [None if answer.is_refused else json.loads(answer.text) for answer in found]
        return [labels[max(range(len(labels)), key=row.__getitem__)] if row else None for row in scores]

    def _answers(
        self, start: Start, served_name: str, name: str, asked: Sequence[Question], max_tokens: int
    ) -> list[Answer]:
        sampling = Sampling(temperature=0, max_tokens=max_tokens)
        ids = [self._memory.request_id(name, one.messages, one.tools, max_tokens) for one in asked]
        stops = self._stops[name]
        requests = {
            request_id: Request(request_id, one.messages, sampling, SEED, tools=one.tools, stop_token_ids=stops)
            for request_id, one in zip(ids, asked, strict=True)
        }

        def ask_for_answers(
            server: Server, missing: Sequence[str], concurrency: int, keep: Keep, in_flight: set[str]
        ) -> None:
            wanted = [requests[request_id] for request_id in missing]
            ask(server, served_name, wanted, concurrency=concurrency, on_answer=keep, in_flight=in_flight)

        return self._complete(start, ids, asked, name, ask_for_answers)

    def _complete(
        self, start: Start, ids: Sequence[str], asked: Sequence[Question], note: str, ask_for: Ask
    ) -> list[Answer]:
        """The answers in the order of the questions; equal questions are asked once."""
        words = [f"{note}: {turn_text(question.messages[-1])[:SHOWN_CHARACTERS]!r}" for question in asked]
        copies = Counter(ids)

        def step(answer: Answer) -> None:
            self._done += copies[answer.request_id]
            self._advance(self._done, note)

        wanted = dict(zip(ids, words, strict=True))
        found = self._memory.complete(start, wanted, self._config.concurrency, ask_for, step)
        return [found[request_id] for request_id in ids]


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
