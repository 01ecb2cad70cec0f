"""Whether a template's requests fit into the context of the model that answers them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.recipe.project import ProjectRecipe
from retune.prompts.lint_template import LintedTemplate
from tasks.core.base_model import pinned, require_allowed_code
from tasks.core.config import ModelSource
from tasks.core.findings import Finding

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = Sequence[Mapping[str, Any]]

TURN_RESERVE = 32
CHAT_RESERVE = 128
"""More tokens than a chat template adds per turn, and in total (Llama 3.1 adds about 30 with its date)."""


def budget_findings(
    template: LintedTemplate, recipe: ProjectRecipe, conversations: Sequence[Messages]
) -> Iterator[Finding]:
    """A finding if an example's request and its answer are longer than the teacher's context, or cannot be counted.

    A token is at least a byte, so a short text fits without the tokenizer, whose import takes seconds.
    """
    teacher = recipe.teacher
    if teacher is None or not conversations:
        return
    place = template.places.find_value("sampling", "max_tokens")
    path, answer = str(template.path), template.head.sampling.max_tokens
    generate = recipe.content.generate
    context = (generate and generate.server.max_model_len) or _own_context(teacher)
    longest = max(conversations, key=_bytes_of)
    if context is not None and _bytes_of(longest) + TURN_RESERVE * len(longest) + CHAT_RESERVE + answer <= context:
        return
    counted = _count(teacher, conversations) if context is not None else "its config.json is not on this machine"
    if isinstance(counted, str):
        what = f"The tokens of {recipe.name!r} could not be counted for {teacher.path}: {counted}"
        remedy = "download the model, or check the length in a preview"
        yield Finding("tokens-not-counted", what, path, *place, remedy, "warning")
    elif context is not None and counted + answer > context:
        what = (
            f"The request is {counted} tokens for the longest example, and the answer may be {answer}: more than the "
            f"{context} of the recipe {recipe.name!r}"
        )
        yield Finding(
            "token-budget", what, path, *place, "shorten the template, lower max_tokens, or raise max_model_len"
        )


def _bytes_of(messages: Messages) -> int:
    return sum(len(str(message["content"]).encode()) for message in messages)


@cache
def _own_context(model: ModelSource) -> int | None:
    path = Path(model.path) / "config.json" if model.is_local else cached_file(model, "config.json")
    try:
        config = json.loads(path.read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError):
        return None
    length = {**config, **(config.get("text_config") or {})}.get("max_position_embeddings")
    return int(length) if isinstance(length, int) else None


def cached_file(model: ModelSource, name: str) -> Path | None:
    """A file of a hub model, if it was downloaded before."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model.path, name, revision=model.revision)
    except HFValidationError:  # the path of a missing folder
        return None
    return Path(found) if isinstance(found, str) else None


def _count(model: ModelSource, conversations: Sequence[Messages]) -> int | str:
    if model.is_local:
        has_tokenizer = Path(model.path).is_dir()
    else:
        has_tokenizer = cached_file(model, "tokenizer_config.json") is not None
    if not has_tokenizer:
        return "its tokenizer is not on this machine"
    try:
        tokenizer = _tokenizer(model)
        return max(
            len(tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=False))
            for messages in conversations
        )
    except Exception as error:  # the model's own chat template can raise anything
        return str(error).partition("\n")[0] or type(error).__name__


@cache
def _tokenizer(model: ModelSource) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    require_allowed_code(model, local_files_only=True)
    return AutoTokenizer.from_pretrained(model.path, **pinned(model), local_files_only=True)
