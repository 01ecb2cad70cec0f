"""The checks that read tokens: how many a text has by the model's tokenizer, and whether it spells control tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field, model_validator

from tasks.core.control_tokens import TOKENIZER, WELL_KNOWN, TokenGuard
from tasks.core.errors import ModelError
from tasks.validate.contracts.expectations.own import (
    Arguments,
    Mask,
    RowCheck,
    is_missing,
    is_text,
    search,
    text_batches,
)

if TYPE_CHECKING:
    import pandas as pd
    from tokenizers import Tokenizer

AT_ONCE = 2_000  # texts encoded at a time, because encodings are large
SHOWN = 8  # control tokens that Data Docs list


class TokenCounts(Arguments):
    """Bounds on the number of tokens, without the special tokens that a chat template adds."""

    from_recipe: ClassVar[Mapping[str, str]] = {"tokenizer": "model"}
    tokenizer: str = Field(description="a folder with tokenizer.json, or a model of the hub: name or name@revision")
    min_value: Annotated[int, Field(ge=0)] | None = None
    max_value: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _is_a_range(self) -> TokenCounts:
        if self.min_value is None and self.max_value is None:
            raise ValueError("give min_value, max_value or both")
        if self.min_value is not None and self.max_value is not None and self.min_value > self.max_value:
            raise ValueError(f"min_value {self.min_value} is more than max_value {self.max_value}")
        return self


def has_wrong_token_count(values: pd.Series[Any], arguments: TokenCounts) -> Mask:
    """Texts with fewer or more tokens than the bounds allow, and values that are not strings.

    Raises ModelError: the tokenizer is missing or cannot be read.
    """
    counts = count_tokens(values, load_tokenizer(arguments.tokenizer))
    low = arguments.min_value if arguments.min_value is not None else 0
    high = arguments.max_value if arguments.max_value is not None else np.iinfo(np.int64).max
    return ((counts < low) | (counts > high) | ~is_text(values)) & ~is_missing(values)


def count_tokens(values: pd.Series[Any], tokenizer: Tokenizer) -> NDArray[np.int64]:
    counts = [np.zeros(0, np.int64)]
    for texts in text_batches(values):
        for start in range(0, len(texts), AT_ONCE):
            batch = tokenizer.encode_batch_fast(texts.slice(start, AT_ONCE).to_pylist(), add_special_tokens=False)
            counts.append(np.fromiter((len(encoding) for encoding in batch), np.int64, len(batch)))
    return np.concatenate(counts)


@lru_cache(maxsize=4)
def load_tokenizer(model: str) -> Tokenizer:
    """The fast tokenizer of a model folder or hub model, without truncation and padding; or raises a ModelError."""
    from tokenizers import Tokenizer

    file = _tokenizer_file(model)
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises plain Exception
        remedy = "copy the model's tokenizer.json again"
        raise ModelError(f"The tokenizer cannot be read: {error}", where=str(file), remedy=remedy) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _tokenizer_file(model: str) -> Path:
    folder = Path(model)
    if folder.is_dir():
        if (folder / TOKENIZER).is_file():
            return folder / TOKENIZER
        raise ModelError(f"The model has no {TOKENIZER}", where=model, remedy="name a folder that has one")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = model.partition("@")
    try:
        return Path(hf_hub_download(name, TOKENIZER, revision=revision or None))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        remedy = f"name a folder with {TOKENIZER}"
        raise ModelError(f"The tokenizer cannot be loaded: {error}", where=model, remedy=remedy) from error


class ControlTokens(Arguments):
    """The tokens that only a chat template may write."""

    from_recipe: ClassVar[Mapping[str, str]] = {"tokens": "control_tokens"}
    tokens: Sequence[Annotated[str, Field(min_length=1)]] = Field(WELL_KNOWN, min_length=1)


def holds_control_token(values: pd.Series[Any], arguments: ControlTokens) -> Mask:
    """Texts that spell a control token; one that a backslash interrupts (``<\\|im_end|>``) does no harm."""
    guard = TokenGuard(arguments.tokens)
    # Searching for the first characters of tokens is linear, however many tokens there are, and leaves few texts.
    beginnings = "|".join(sorted({re.escape(token[:2]) for token in guard.tokens}))
    held = search(values, lambda texts: pc.match_substring_regex(texts, beginnings))
    for position in np.flatnonzero(held):
        held[position] = bool(guard.find(values.iloc[position]))
    return held


def _token_counts(arguments: TokenCounts) -> str:
    low, high = arguments.min_value, arguments.max_value
    bounds = f"at least {low}" if high is None else f"at most {high}" if low is None else f"between {low} and {high}"
    return f"values must have {bounds} tokens, as the tokenizer of {arguments.tokenizer} counts"


def _control_tokens(arguments: ControlTokens) -> str:
    more = len(arguments.tokens) - SHOWN
    listed = [*arguments.tokens[:SHOWN], *([f"and {more} more"] if more > 0 else [])]
    return f"values must not spell control tokens: {', '.join(listed)}"


CHECKS = (
    RowCheck("expect_column_token_counts_to_be_between", TokenCounts, has_wrong_token_count, _token_counts),
    RowCheck("expect_column_values_to_not_hold_control_tokens", ControlTokens, holds_control_token, _control_tokens),
)
