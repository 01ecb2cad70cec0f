"""Whether a model needs its own Python code, and whether the recipe allows it.

Such code has the rights of the user who runs the night. It runs only where the recipe allows it for that model, and
only if it is pinned: a local folder's code is part of the model's digest, a hub repository's is that of one commit.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tasks.core.config import ModelSource
from tasks.core.errors import ModelError

CODE = "auto_map"
"""The key of config.json and tokenizer_config.json that names a repository's own classes."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ENTRY = re.compile(r'\("([^"]+)", "\w+Config"\)|"([^"]+)": "\w+Config"')


def check_remote_code(
    model: ModelSource, config: Mapping[str, Any], tokenizer: Mapping[str, Any] | None = None
) -> None:
    """Check from a model's configs, before any of its code runs, whether it may be loaded.

    Raises ModelError: transformers lacks the architecture and the recipe does not allow the model's own code; or the
    code is allowed but not pinned.
    """
    family = config.get("model_type")
    if model.trust_remote_code:
        _require_pinned(model, [*_code_of(config), *_code_of(tokenizer or {})])
    elif CODE in config and family not in architectures():
        raise ModelError(
            f"The model family {family!r} runs its own Python code, which the recipe does not allow",
            where=model.path,
            remedy="read that code; to run it, write trust_remote_code: true next to the model's path"
            + ("" if model.is_local else " and pin its revision, a commit")
            + "; or name a model of a family that transformers has",
        )
    if family is not None and CODE not in config and architectures() and family not in architectures():
        raise ModelError(
            f"The installed transformers has no model family {family!r}, and the model has no code of its own",
            where=model.path,
            remedy="name another model, or a copy of it in the layout of a family that transformers has",
        )


@cache
def architectures() -> frozenset[str]:
    """Every ``model_type`` that the installed transformers has classes for; empty where it is not installed.

    Read from its sources: importing transformers takes seconds and loads PyTorch.
    """
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None:
        return frozenset()
    folder = Path(spec.origin).parent / "models" / "auto"
    texts = ((folder / name).read_text(encoding="utf-8") for name in ("auto_mappings.py", "configuration_auto.py"))
    return frozenset(a or b for text in texts for a, b in _ENTRY.findall(text))


def _require_pinned(model: ModelSource, code: list[str]) -> None:
    if not model.is_local and not _COMMIT.fullmatch(model.revision or ""):
        raise ModelError(
            f"The recipe allows the model's own code at revision {model.revision!r}, which could change any night",
            where=model.path,
            remedy="set model.revision to the commit (40 hexadecimal digits) whose code you have read",
        )
    for name in code:
        if "--" in name:
            raise ModelError(
                f"The model takes its code from another repository ({name}), which is not pinned",
                where=model.path,
                remedy="copy the model and that code to one folder; in auto_map, name the class without a repository",
            )


def _code_of(config: Mapping[str, Any]) -> Iterator[str]:
    named = config.get(CODE)
    for value in named.values() if isinstance(named, Mapping) else [named]:
        yield from (name for name in (value if isinstance(value, list) else [value]) if isinstance(name, str))
