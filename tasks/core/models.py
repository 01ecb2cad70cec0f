"""What can be known of a model folder without loading it."""

from __future__ import annotations

import json
from pathlib import Path

from tasks.core.config import ModelSource
from tasks.core.errors import ModelError
from tasks.core.files import digest_of, folder_digests

DOCUMENTATION = ("README.md", ".gitattributes")


def check_model(model: ModelSource) -> None:
    """Find out before any stage runs whether a local model folder is complete.

    Raises:
        ModelError: the folder, its config, tokenizer or weights are missing.
    """
    if not model.is_local:
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
    try:
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"The model's config.json is no JSON: {error}", where=str(folder / "config.json")) from error
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            "The model folder has no weights (*.safetensors)",
            where=str(folder),
            remedy="download or copy the weights there; .bin weights are not read: convert them to safetensors",
        )


def model_digest(model: ModelSource) -> str:
    """The revision of a model: of a local folder its files' digest, of a hub model its id and commit."""
    if model.is_local:
        return digest_of(folder_digests(Path(model.path), skip=DOCUMENTATION))
    return digest_of([model.path, model.revision])
