"""Whether a model needs Python code of its own, and whether the recipe allows to run it.

Such code runs with the rights of whoever runs the night. It is run only where the recipe says so for that one model,
and only code that cannot change unseen: that of a local folder, which is part of the model's digest, or that of one
commit of a hub repository.
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
    """Find out from a model's configs, before any of its code is run, whether it may be loaded.

    Args:
        config: content of ``config.json``.
        tokenizer: content of ``tokenizer_config.json``.

    Raises:
        ModelError: transformers has no such architecture and the recipe does not allow the model's own code; or it is
            allowed, and is not pinned.
    """
    family = config.get("model_type")
    if model.trust_remote_code:
        _require_pinned(model, [*_code_of(config), *_code_of(tokenizer or {})])
    elif CODE in config and family not in architectures():
        raise ModelError(
            f"The model family {family!r} runs Python code of its own, which the recipe does not allow",
            where=model.path,
            remedy="read that code; to run it, write trust_remote_code: true beside the model's path"
            + ("" if model.is_local else " and pin its revision, a commit")
            + "; or name a model of a family that transformers has",
        )
    if family is not None and CODE not in config and architectures() and family not in architectures():
        raise ModelError(
            f"The installed transformers has no model family {family!r}, and the model brings no code of its own",
            where=model.path,
            remedy="name another model, or a copy of it in the layout of a family that transformers has",
        )


@cache
def architectures() -> frozenset[str]:
    """Every ``model_type`` that the installed transformers has classes for; none where it is not installed.

    Read from its sources: to import it takes seconds, and it brings PyTorch along.
    """
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None:
        return frozenset()
    folder = Path(spec.origin).parent / "models" / "auto"
    texts = (
        folder.joinpath(name).read_text(encoding="utf-8") for name in ("auto_mappings.py", "configuration_auto.py")
    )
    return frozenset(a or b for text in texts for a, b in _ENTRY.findall(text))


def _require_pinned(model: ModelSource, code: list[str]) -> None:
    if not model.is_local and not _COMMIT.fullmatch(model.revision or ""):
        raise ModelError(
            f"Code of its own is allowed for a model whose revision is {model.revision!r}: it could change any night",
            where=model.path,
            remedy="write model.revision: the commit (40 hexadecimal digits) whose code you have read",
        )
    for name in code:
        if "--" in name:
            raise ModelError(
                f"The model takes its code from another repository ({name}), which nothing pins",
                where=model.path,
                remedy="copy the model to a folder with that code beside it, and name the class in auto_map without"
                " the repository",
            )


def _code_of(config: Mapping[str, Any]) -> Iterator[str]:
    named = config.get(CODE)
    for value in named.values() if isinstance(named, Mapping) else [named]:
        yield from (name for name in (value if isinstance(value, list) else [value]) if isinstance(name, str))
