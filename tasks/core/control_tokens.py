"""The control tokens of a model's tokenizer, and the escaping of text that spells them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from tasks.core.config import ModelSource
from tasks.core.model_files import model_json
from tasks.core.progress import say

TOKENIZER, CONFIG = "tokenizer.json", "tokenizer_config.json"
NAMED = (
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
    "additional_special_tokens", "extra_special_tokens",
)  # fmt: skip
"""The keys of tokenizer_config.json that name special tokens."""
WELL_KNOWN = (
    "<s>", "</s>", "<unk>", "<pad>", "<bos>", "<eos>", "<|endoftext|>", "<|endofprompt|>",
    "<|im_start|>", "<|im_end|>", "<|im_sep|>",
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>",
    "<|python_tag|>", "<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]",
    "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|start|>", "<|message|>", "<|channel|>", "<|return|>",
    "<|call|>", "<|observation|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
)  # fmt: skip
"""Of the Llama, Mistral, Qwen, Gemma, Phi, GLM and gpt-oss families: for a model whose own tokens are unknown."""


def control_tokens(model: ModelSource) -> tuple[str, ...]:
    """The special tokens of a model's tokenizer, sorted; the well-known ones, with a notice, where it has none.

    A hub model's tokenizer files, which are small, are downloaded unless they are cached.
    Raises ModelError: one of them is not valid JSON.
    """
    found = set[str]()
    for file in _tokenizer_files(model):
        found.update(_special_tokens(model_json(file)))
    if found:
        return tuple(sorted(found))
    if not model.is_local or Path(model.path).is_dir():  # a missing folder is an error of the check
        say(f"the control tokens of {model.path} are unknown: Retune keeps out those of the well-known model families")
    return tuple(sorted(WELL_KNOWN))


def _tokenizer_files(model: ModelSource) -> Iterator[Path]:
    """The existing files. An unreachable Hub is asked once only: that takes half a minute."""
    if model.is_local:
        yield from (file for name in (TOKENIZER, CONFIG) if (file := Path(model.path) / name).is_file())
        return
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    is_unreachable = False
    for name in (TOKENIZER, CONFIG):
        try:
            yield Path(hf_hub_download(model.path, name, revision=model.revision, local_files_only=is_unreachable))
        except LocalEntryNotFoundError:
            is_unreachable = True
        except (HfHubHTTPError, HFValidationError, OSError):
            continue


def _special_tokens(file: Mapping[str, Any]) -> Iterator[str]:
    added = [*(file.get("added_tokens") or ()), *(file.get("added_tokens_decoder") or {}).values()]
    for token in [*(token for token in added if token.get("special")), *map(file.get, NAMED)]:
        yield from _contents(token)


def _contents(token: Any) -> Iterator[str]:
    """The texts in a configuration's token entry: a text, a description with its ``content``, or several of either."""
    if isinstance(token, str) and token:
        yield token
    elif isinstance(token, Mapping):
        yield from _contents([token["content"]] if "content" in token else [*token.values()])
    elif isinstance(token, list):
        for entry in token:
            yield from _contents(entry)


class TokenGuard:
    """Finds control tokens in text, and breaks them so that a tokenizer reads plain characters."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self.tokens = tuple(sorted({token for token in tokens if token}, key=lambda token: (-len(token), token)))

    @cached_property
    def _firsts(self) -> set[str]:
        return {token[0] for token in self.tokens}

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, self.tokens)) or r"(?!)")

    @cached_property
    def _escapable(self) -> re.Pattern[str]:
        """Tokens, escaped or not: escaping an escaped token again keeps every escape reversible."""
        pairs = (rf"{re.escape(token[0])}\\*{re.escape(token[1:])}" for token in self.tokens if len(token) > 1)
        return re.compile("|".join(pairs) or r"(?!)")

    def may_hold(self, text: str) -> bool:
        """Whether a text holds the first character of a token: a quick test before :meth:`find`."""
        return any(first in text for first in self._firsts)

    def find(self, text: str) -> list[str]:
        return self._pattern.findall(text)

    def escape(self, text: str) -> str:
        r"""Put a backslash after the first character of every token: ``<|im_end|>`` becomes ``<\|im_end|>``.

        A token that has backslashes there already gets one more, so removing one from each restores the text.
        """
        return self._escapable.sub(lambda match: f"{match[0][0]}\\{match[0][1:]}", text)
