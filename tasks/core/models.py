"""What can be known of a model folder without loading it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.core.config import ModelSource
from tasks.core.errors import ModelError
from tasks.core.files import digest_of, folder_digests
from tasks.core.remote_code import check_remote_code

DOCUMENTATION = ("README.md", ".gitattributes")


def check_model(model: ModelSource) -> None:
    """Find out before any stage runs whether a local model folder is complete.

    Raises:
        ModelError: the folder, its config, tokenizer or weights are missing; or it needs code of its own that the
            recipe does not allow, or allows without pinning it.
    """
    if not model.is_local:
        check_remote_code(model, {})
        return
    folder = Path(model.path)
    if not folder.is_dir():
        raise ModelError(
            "The model folder does not exist", where=str(folder), remedy="correct model.path in the recipe"
        )
    for name in ("config.json", "tokenizer_config.json"):
        if not (folder / name).is_file():
            raise ModelError(
                f"The model folder has no {name}", where=str(folder), remedy="name a folder in Hugging Face layout"
            )
    check_remote_code(model, _read_json(folder / "config.json"), _read_json(folder / "tokenizer_config.json"))
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            "The model folder has no weights (*.safetensors)",
            where=str(folder),
            remedy="download or copy the weights there; .bin weights are not read: convert them to safetensors",
        )


def model_family(model: ModelSource) -> str | None:
    """The ``model_type`` that a local model's config states; None of a hub model, and where there is none."""
    if not model.is_local:
        return None
    try:
        found = json.loads((Path(model.path) / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError):
        return None
    return str(found) if found else None


def model_digest(model: ModelSource) -> str:
    """The revision of a model: of a local folder its files' digest, of a hub model its id and commit.

    A folder's Python code is among its files. Whether that code is run, or transformers' own, is part of it too.
    """
    if model.is_local:
        digest = digest_of(folder_digests(Path(model.path), skip=DOCUMENTATION))
    else:
        digest = digest_of([model.path, model.revision])
    return digest_of([digest, "its own code"]) if model.trust_remote_code else digest


def _read_json(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"The model's {file.name} is no JSON: {error}", where=str(file)) from error
    return content if isinstance(content, dict) else {}


def has_chat_template(model: ModelSource) -> bool:
    """Whether a local model's tokenizer comes with a chat template, in its config or in a file of its own."""
    folder = Path(model.path)
    if any(folder.glob("chat_template.*")) or any(folder.glob("additional_chat_templates/*")):
        return True
    return bool(json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template"))
