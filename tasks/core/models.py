"""Facts about a model folder that need no loading."""

from __future__ import annotations

from pathlib import Path

from tasks.core.config import ModelSource
from tasks.core.errors import ModelError
from tasks.core.files import digest_of, folder_digests, read_json
from tasks.core.home import Home
from tasks.core.model_files import CONFIG, TOKENIZER_CONFIG, check_model_files, model_json
from tasks.core.public_models import ORIGIN, PUBLIC_MODELS, folder_of
from tasks.core.remote_code import check_remote_code
from tasks.core.stops import check_generation_config

DOCUMENTATION = ("README.md", ".gitattributes", ORIGIN)


def check_model(model: ModelSource) -> None:
    """Check before any stage runs that a local model folder is whole and readable.

    Raises ModelError: the folder, its config, tokenizer or weights are missing or unreadable (see ``model_files``); or
    the model needs its own code, which the recipe does not allow or does not pin.
    """
    if not model.is_local:
        check_remote_code(model, {})
        return
    folder = Path(model.path)
    if not folder.is_dir():
        is_public = folder.name in PUBLIC_MODELS and folder == folder_of(folder.name, Home.from_environment())
        get = Home.from_environment().command("model", "get", folder.name)
        remedy = f"run: {get}" if is_public else "correct model.path in the recipe"
        raise ModelError("The model folder does not exist", where=str(folder), remedy=remedy)
    for name in (CONFIG, TOKENIZER_CONFIG):
        if not (folder / name).is_file():
            raise ModelError(
                f"The model folder has no {name}", where=str(folder), remedy="name a folder in Hugging Face layout"
            )
    check_remote_code(model, model_json(folder / CONFIG), model_json(folder / TOKENIZER_CONFIG))
    if not any(folder.glob("*.safetensors*")):
        raise ModelError(
            "The model folder has no weights (*.safetensors)",
            where=str(folder),
            remedy="download or copy the weights there; .bin weights are not read: convert them to safetensors",
        )
    check_model_files(folder)
    check_generation_config(folder)


def model_family(model: ModelSource) -> str | None:
    """The ``model_type`` in a local model's config; None for a hub model, and where the config has none."""
    try:
        found = read_json(Path(model.path) / "config.json").get("model_type") if model.is_local else None
    except (OSError, ValueError):
        return None
    return str(found) if found else None


def model_digest(model: ModelSource) -> str:
    """A model's revision: the digest of a local folder's files, or of a hub model's id and commit.

    A folder's Python code is among its files. Whether the model's own code runs is part of the digest too.
    """
    if model.is_local:
        digest = digest_of(folder_digests(Path(model.path), skip=DOCUMENTATION))
    else:
        digest = digest_of([model.path, model.revision])
    return digest_of([digest, "its own code"]) if model.trust_remote_code else digest


def has_chat_template(model: ModelSource) -> bool:
    """Whether a local model's tokenizer has a chat template, in its config or in a file of its own."""
    folder = Path(model.path)
    if any(folder.glob("chat_template.*")) or any(folder.glob("additional_chat_templates/*")):
        return True
    return bool(read_json(folder / "tokenizer_config.json").get("chat_template"))
