"""How many tokens the texts of a request are, without the seconds that importing a whole model library takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tasks.core.config import ModelSource

FILE = "tokenizer.json"


def text_tokens(model: ModelSource, messages: Sequence[Mapping[str, Any]]) -> int | None:
    """Tokens of all turns' texts; the few that a chat template adds to each turn are not among them.

    None where the model's tokenizer is not on this machine.
    """
    tokenizer = _tokenizer(model)
    if tokenizer is None:
        return None
    texts = [str(turn["content"]) for turn in messages]
    return sum(len(encoding.ids) for encoding in tokenizer.encode_batch(texts, add_special_tokens=False))


@cache
def _tokenizer(model: ModelSource) -> Any:
    from tokenizers import Tokenizer

    path = Path(model.path) / FILE if model.is_local else _downloaded(model)
    if path is None or not path.is_file():
        return None
    try:
        return Tokenizer.from_file(str(path))
    except Exception:  # of its Rust code, which has no type of its own for a file that it cannot read
        return None


def _downloaded(model: ModelSource) -> Path | None:
    """A hub model's file, if it was downloaded before."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model.path, FILE, revision=model.revision)
    return Path(found) if isinstance(found, str) else None
