"""The context length that a set of requests needs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.core.base_model import load_config, load_tokenizer
from tasks.core.config import ModelSource
from tasks.core.vllm.request import Request

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LONGEST = 64
MARGIN = 1.05
STEP = 128
LEAST = 1024
"""Space for prompts that are not known yet, such as a judge's; less would save nothing."""


def context_length(model: ModelSource, requests: Sequence[Request]) -> int:
    """Tokens of the longest request and its answer, rounded up; at most the model's own limit.

    Counts the ``LONGEST`` longest texts for each ``max_tokens`` with the model's tokenizer and chat template. The
    longest text need not have the most tokens: hence several texts, and a margin.

    Raises ModelError: the model's config or tokenizer cannot be loaded.
    """
    tokenizer = load_tokenizer(model)
    by_answer: dict[int, list[Request]] = defaultdict(list)
    for request in requests:
        by_answer[request.sampling.max_tokens].append(request)
    needed = max(
        (
            int(MARGIN * prompt_tokens(tokenizer, request)) + max_tokens
            for max_tokens, group in by_answer.items()
            for request in sorted(group, key=_bytes, reverse=True)[:LONGEST]
        ),
        default=0,
    )
    rounded = -(-max(needed, LEAST) // STEP) * STEP
    own = own_context_length(model)
    return min(rounded, own) if own else rounded


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, request: Request) -> int:
    """Tokens of a prompt by the chat template; if the template fails, its bytes, which are never fewer."""
    import jinja2

    tools = json.loads(request.tools) if request.tools else None
    try:
        text = tokenizer.apply_chat_template(
            list(request.messages), tools=tools, add_generation_prompt=True, tokenize=False
        )
    except (ValueError, TypeError, jinja2.TemplateError):
        return _bytes(request)
    return len(tokenizer(text, add_special_tokens=False).input_ids)


def own_context_length(model: ModelSource) -> int | None:
    """The most tokens that the model's config allows; None: no limit. A ModelError if it cannot be loaded."""
    return getattr(load_config(model).get_text_config(), "max_position_embeddings", None)


def _bytes(request: Request) -> int:
    texts = [str(message.get("content") or "") for message in request.messages]
    return sum(len(text.encode("utf-8", errors="replace")) for text in [*texts, request.tools or ""])
