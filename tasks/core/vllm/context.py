"""The context length that a set of requests needs: what the key-value cache must hold for one of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jinja2

from tasks.core.base_model import load_tokenizer, pinned, require_allowed_code
from tasks.core.config import ModelSource
from tasks.core.errors import ModelError
from tasks.core.vllm.client import Request

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LONGEST = 64
MARGIN = 1.05
STEP = 128
LEAST = 1024
"""Room for prompts that are not known yet, such as a judge's; less would save nothing."""


def context_length(model: ModelSource, requests: Sequence[Request]) -> int:
    """Tokens of the longest request and of its answer, rounded up; never above the model's own limit.

    Of the requests with one ``max_tokens``, those with the longest texts are counted with the model's tokenizer and
    chat template. Which text has most tokens cannot be known from its length: hence several, and a margin.

    Raises:
        ModelError: the model's config or tokenizer cannot be loaded.
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
    """Tokens of a prompt as the chat template writes it; its bytes where the template cannot, which is never less."""
    tools = json.loads(request.tools) if request.tools else None
    try:
        text = tokenizer.apply_chat_template(
            list(request.messages), tools=tools, add_generation_prompt=True, tokenize=False
        )
    except (ValueError, TypeError, jinja2.TemplateError):
        return _bytes(request)
    return len(tokenizer(text, add_special_tokens=False).input_ids)


def own_context_length(model: ModelSource) -> int | None:
    """The most tokens that the model's config allows, or None where it does not say.

    Raises:
        ModelError: the config cannot be loaded, or needs code that the recipe does not allow.
    """
    from transformers import AutoConfig

    require_allowed_code(model)
    try:
        config = AutoConfig.from_pretrained(model.path, **pinned(model))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The model's config cannot be loaded: {error}", where=model.path, remedy="check its path and revision"
        ) from error
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def _bytes(request: Request) -> int:
    texts = [str(message.get("content") or "") for message in request.messages]
    return sum(len(text.encode("utf-8", errors="replace")) for text in [*texts, request.tools or ""])
