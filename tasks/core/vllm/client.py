"""One client for everything that is asked of a served model: chat answers, and the likelihood of given answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import openai

from tasks.core.answers import Answer
from tasks.core.errors import ModelError, RetuneError, ServerError
from tasks.core.prompts import Sampling
from tasks.core.vllm.server import Server

REQUEST_TIMEOUT_SECONDS = 600.0
RETRIES = 4


@dataclass(frozen=True)
class Request:
    """One chat request.

    Attributes:
        request_id: digest of everything that determines it.
        messages: the conversation so far.
        sampling: sampling parameters.
        seed: of the server's random numbers for this request.
        json_schema: a schema that the answer must follow, or None.
    """

    request_id: str
    messages: Sequence[Mapping[str, str]]
    sampling: Sampling
    seed: int
    json_schema: Mapping[str, Any] | None = None


def ask(
    server: Server, model: str, requests: Sequence[Request], *, concurrency: int, on_answer: Callable[[Answer], None]
) -> None:
    """Ask all requests with bounded concurrency; ``on_answer`` is called as each answer arrives, in any order.

    A request that the server refuses (400: too long, say) is answered with ``finish_reason`` ``refused: ...``.

    Raises:
        ServerError: the server stopped answering; answers so far were handed over.
    """

    async def run() -> None:
        async with _client(server) as client:
            await _bounded(concurrency, (_chat(client, model, request, on_answer) for request in requests))

    _run(server, run)


async def _chat(client: openai.AsyncOpenAI, model: str, request: Request, on_answer: Callable[[Answer], None]) -> None:
    extra: dict[str, Any] = {}
    if request.json_schema is not None:
        structured = {"json": dict(request.json_schema), "disable_any_whitespace": True}
        extra["extra_body"] = {"structured_outputs": structured}
    try:
        completion = await client.chat.completions.create(
            model=model,
            messages=list(request.messages),  # type: ignore[arg-type]
            temperature=request.sampling.temperature,
            top_p=request.sampling.top_p,
            max_tokens=request.sampling.max_tokens,
            seed=request.seed,
            **extra,
        )
    except openai.BadRequestError as error:
        on_answer(Answer(request.request_id, "", f"refused: {error.message}", 0, 0))
        return
    choice, usage = completion.choices[0], completion.usage
    on_answer(
        Answer(
            request.request_id,
            choice.message.content or "",
            choice.finish_reason or "",
            usage.prompt_tokens if usage else 0,
            usage.completion_tokens if usage else 0,
        )
    )


def log_likelihoods(
    server: Server,
    model: str,
    prompts: Sequence[Sequence[Mapping[str, str]]],
    answers: Sequence[str],
    *,
    concurrency: int,
    on_done: Callable[[int], None],
) -> list[list[float] | None]:
    """Log-probability of every answer (with its end-of-turn token) after every prompt, in nats.

    Args:
        prompts: conversations that end with the user's turn.
        answers: what the assistant may say.
        on_done: called with the number of prompts done so far.

    Returns:
        per prompt one sum of token log-probabilities per answer, or None where the server refused the prompt.

    Raises:
        ModelError: the chat template writes an answered turn otherwise than an open one.
        ServerError: the server stopped answering.
    """
    scores: list[list[float] | None] = [None] * len(prompts)
    done = 0

    async def one(client: openai.AsyncOpenAI, row: int, tails: list[list[int]]) -> None:
        nonlocal done
        prompt = await _token_ids(client, {"messages": prompts[row], "add_generation_prompt": True})
        with contextlib.suppress(openai.BadRequestError):
            completion = await client.completions.create(
                model=model,
                prompt=[prompt + tail for tail in tails],
                max_tokens=1,
                temperature=0,
                extra_body={"prompt_logprobs": 0},
            )
            choices = sorted(completion.choices, key=lambda choice: choice.index)
            scores[row] = [_tail_score(choice, tail) for choice, tail in zip(choices, tails, strict=True)]
        done += 1
        on_done(done)

    async def run() -> None:
        async with _client(server) as client:
            tails = [await _answer_tokens(client, answer) for answer in answers]
            await _bounded(concurrency, (one(client, row, tails) for row in range(len(prompts))))

    _run(server, run)
    return scores


def _tail_score(choice: Any, tail: Sequence[int]) -> float:
    """Sum of the log-probabilities of a prompt's last tokens."""
    positions: list[dict[str, dict[str, float]]] = choice.prompt_logprobs
    return sum(position[str(token)]["logprob"] for token, position in zip(tail, positions[-len(tail) :], strict=True))


async def _answer_tokens(client: openai.AsyncOpenAI, answer: str) -> list[int]:
    """Tokens of an answer and of the end of its turn: what the model itself would have to write.

    The closed conversation less the open one, less the newline that templates such as ChatML put between turns.
    """
    question = [{"role": "user", "content": "?"}]
    reply = {"role": "assistant", "content": answer}
    before = await _token_ids(client, {"messages": question, "add_generation_prompt": True})
    whole = await _token_ids(client, {"messages": [*question, reply], "add_generation_prompt": False})
    newline = await _token_ids(client, {"prompt": "\n"})
    if whole[: len(before)] != before or len(whole) == len(before):
        raise ModelError(
            "The chat template writes an answered turn otherwise than one still to be answered, "
            "so that the likelihood of an answer cannot be read",
            remedy="set evaluate.likelihood to false",
        )
    tail = whole[len(before) :]
    return tail[: -len(newline)] if newline and tail[-len(newline) :] == newline else tail


async def _token_ids(client: openai.AsyncOpenAI, body: Mapping[str, Any]) -> list[int]:
    """Of a prompt or of messages; vLLM's own route, beside those that OpenAI has."""
    url = str(client.base_url.join("/tokenize"))
    found: Any = await client.post(url, body={**body, "add_special_tokens": False}, cast_to=object)
    tokens: list[int] = found["tokens"]
    return tokens


def _client(server: Server) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=f"{server.url}/v1",
        api_key=server.api_key,
        max_retries=RETRIES,
        timeout=REQUEST_TIMEOUT_SECONDS,
        http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
    )


async def _bounded(concurrency: int, work: Iterator[Coroutine[Any, Any, None]]) -> None:
    """Await coroutines, at most ``concurrency`` at a time, each made in its turn; the first failure ends all."""

    async def worker() -> None:
        for coroutine in work:
            await coroutine

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(worker())


def _run(server: Server, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run to the end; of several failures, which have one cause as a rule, the first is raised."""
    try:
        asyncio.run(main())
    except (ExceptionGroup, openai.OpenAIError, RetuneError) as failure:
        first: BaseException = failure
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        if isinstance(first, openai.APIConnectionError | openai.InternalServerError):
            raise server.failure(first) from first
        if isinstance(first, openai.APIStatusError):
            raise ServerError(f"vLLM refused a request: {first}", where=str(server.log)) from first
        raise first from None
