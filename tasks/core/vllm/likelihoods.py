"""The likelihood of given answers under a served model."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import openai

from tasks.core.errors import ModelError
from tasks.core.vllm.client import connect, run_concurrently, run_to_end, unanswered, with_retries
from tasks.core.vllm.server import Server


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

    Prompts end with the user's turn. Per prompt, the result has a sum of token log-probabilities per answer, or is
    None if the server refused the prompt. ``on_done`` gets the number of prompts done so far.

    Raises ModelError: the chat template changes an answered turn; ServerError: the server stopped answering.
    """
    scores: list[list[float] | None] = [None] * len(prompts)
    done = 0

    async def score(client: openai.AsyncOpenAI, row: int, tails: list[list[int]]) -> None:
        nonlocal done
        with contextlib.suppress(openai.BadRequestError):
            scores[row] = await with_retries(server, lambda: _scores(client, model, prompts[row], tails))
        done += 1
        on_done(done)

    async def run() -> None:
        async with connect(f"{server.url}/v1", server.api_key, concurrency) as client:
            tails = [
                await with_retries(server, functools.partial(_answer_tokens, client, answer)) for answer in answers
            ]
            await run_concurrently(concurrency, (score(client, row, tails) for row in range(len(prompts))))

    run_to_end(server, run)
    return scores


async def _scores(
    client: openai.AsyncOpenAI, model: str, messages: Sequence[Mapping[str, str]], tails: Sequence[list[int]]
) -> list[float]:
    prompt = await _token_ids(client, {"messages": messages, "add_generation_prompt": True})
    with unanswered(client):
        completion = await client.completions.create(
            model=model,
            prompt=[prompt + tail for tail in tails],
            max_tokens=1,
            temperature=0,
            extra_body={"prompt_logprobs": 0},
        )
    choices = sorted(completion.choices, key=lambda choice: choice.index)
    return [_tail_score(choice, tail) for choice, tail in zip(choices, tails, strict=True)]


def _tail_score(choice: Any, tail: Sequence[int]) -> float:
    positions: list[dict[str, dict[str, float]]] = choice.prompt_logprobs
    return sum(position[str(token)]["logprob"] for token, position in zip(tail, positions[-len(tail) :], strict=True))


async def _answer_tokens(client: openai.AsyncOpenAI, answer: str) -> list[int]:
    """Tokens of an answer and of the end of its turn, as the model would generate them.

    The answered conversation minus the open one, minus the newline that templates such as ChatML put between turns.
    """
    question = [{"role": "user", "content": "?"}]
    reply = {"role": "assistant", "content": answer}
    before = await _token_ids(client, {"messages": question, "add_generation_prompt": True})
    whole = await _token_ids(client, {"messages": [*question, reply], "add_generation_prompt": False})
    newline = await _token_ids(client, {"prompt": "\n"})
    if whole[: len(before)] != before or len(whole) == len(before):
        raise ModelError(
            "The chat template changes a turn when it is answered, so an answer's likelihood cannot be measured",
            remedy="set evaluate.likelihood to false",
        )
    tail = whole[len(before) :]
    return tail[: -len(newline)] if newline and tail[-len(newline) :] == newline else tail


async def _token_ids(client: openai.AsyncOpenAI, body: Mapping[str, Any]) -> list[int]:
    url = str(client.base_url.join("/tokenize"))
    with unanswered(client):
        found: Any = await client.post(url, body={**body, "add_special_tokens": False}, cast_to=object)
    tokens: list[int] = found["tokens"]
    return tokens
