"""Whether the folder of a model or an adapter is whole and readable, found without loading it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.core.errors import ModelError
from tasks.core.files import read_json
from tasks.core.remote_code import CODE

CONFIG, TOKENIZER, TOKENIZER_CONFIG = "config.json", "tokenizer.json", "tokenizer_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TOKENIZERS = (TOKENIZER, "*.model", "vocab.*", "*.tiktoken")
READ = (".json", ".jinja", ".model", ".txt", ".tiktoken", ".py")
"""Endings of the files that are read, in addition to the weights."""
POINTER = re.compile(
    rb"\A\s*(?:version https://git-lfs\.github\.com|# xet version|/annex/objects/|(?:\.\./)*\.git/annex/)"
)
"""What Git LFS, Xet and git-annex leave in place of a file that was not downloaded."""
EMBEDDINGS = re.compile(r"(?:^|\.)(?:embed_tokens|wte|word_embeddings|embed_in|tok_embeddings)\.weight$")
NAMED_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")
FETCH_AGAIN = "download the file itself again (git lfs pull, hf download), or copy it from where it is whole"
SHOWN = 3


def check_model_files(folder: Path) -> None:
    """Raise a ModelError for the first file of a model folder that is missing, a pointer, cut off or unreadable.

    Its ``config.json`` and ``tokenizer_config.json`` exist. Checks the files that transformers and vLLM read: JSON,
    the shards that the index names and the tensors in them, and that the tokenizer's tokens have embeddings.
    """
    _check_texts(folder)
    if not any(any(folder.glob(name)) for name in TOKENIZERS) and CODE not in model_json(folder / TOKENIZER_CONFIG):
        raise ModelError(
            f"The model folder has no tokenizer ({TOKENIZER})", where=str(folder), remedy="download its tokenizer too"
        )
    _check_vocabulary(folder, _checked_shapes(folder), _named_texts(folder))


def check_tokens(folder: Path, tokens: Sequence[str]) -> None:
    """Raise a ModelError if a model whose folder is whole has one of some tokens, but no embedding for it."""
    _check_vocabulary(folder, _checked_shapes(folder), tokens)


def _checked_shapes(folder: Path) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = {}
    for file, wanted in _weight_files(folder).items():
        found = tensor_shapes(file)
        if lacking := sorted(wanted - set(found)):
            raise ModelError(
                f"{file.name} lacks tensors that the index names: {_listed(lacking)}",
                where=str(folder / INDEX),
                remedy="download the model's files again: shards and index are of different versions",
            )
        shapes |= found
    return shapes


def check_adapter_files(folder: Path) -> None:
    """Raise a ModelError unless a folder has a whole and readable adapter in PEFT's layout."""
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / name).exists():
            raise ModelError(
                f"The adapter's folder has no {name}", where=str(folder), remedy="name a folder that PEFT wrote"
            )
    _check_texts(folder)
    tensor_shapes(folder / ADAPTER_WEIGHTS)


def tensor_shapes(file: Path) -> dict[str, list[int]]:
    """The shapes of the tensors in a safetensors file, by name, from its header; a ModelError if it is not whole."""
    from safetensors import SafetensorError, safe_open

    _require_content(file)
    try:
        with safe_open(file, framework="np") as weights:
            return {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118  no mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(
            f"{file.name} is cut off, or not a safetensors file ({file.stat().st_size:,} bytes): {error}",
            where=str(file),
            remedy=FETCH_AGAIN,
        ) from error


def model_json(file: Path) -> Mapping[str, Any]:
    """The JSON object in a file of a model, empty for another value; a ModelError if it cannot be read."""
    _require_content(file)
    try:
        content = read_json(file)
    except (ValueError, RecursionError) as error:
        what = f"The model's {file.name} is not valid JSON: {error}"
        raise ModelError(what, where=str(file), remedy=FETCH_AGAIN) from error
    return content if isinstance(content, dict) else {}


def _check_texts(folder: Path) -> None:
    for file in sorted(folder.iterdir()):
        if file.suffix in READ and not file.is_dir():
            model_json(file) if file.suffix == ".json" else _require_content(file)


def _require_content(file: Path) -> None:
    """Raise a ModelError if a file is a link to nothing, empty, or a pointer to the file that was meant."""
    try:
        with file.open("rb") as content:
            head = content.read(200)
    except OSError as error:
        raise ModelError(f"{file.name} cannot be read: {error}", where=str(file), remedy=FETCH_AGAIN) from error
    if POINTER.match(head):
        what = f"{file.name} is a pointer (Git LFS, Xet or git-annex) to a file that was not downloaded"
        raise ModelError(what, where=str(file), remedy=FETCH_AGAIN)
    if not head and file.suffix not in (".py", ".txt"):
        raise ModelError(f"{file.name} is empty", where=str(file), remedy=FETCH_AGAIN)


def _weight_files(folder: Path) -> dict[Path, set[str]]:
    """The files that hold a model's weights, each with the tensors that the index expects there."""
    if (folder / WEIGHTS).exists() or (folder / WEIGHTS).is_symlink():
        return {folder / WEIGHTS: set()}
    if not (folder / INDEX).exists():
        raise ModelError(
            f"The model folder has neither {WEIGHTS} nor {INDEX}",
            where=str(folder),
            remedy="give the weights the names under which transformers saves them; shards need their index",
        )
    index = model_json(folder / INDEX)
    placed = index.get("weight_map")
    if not isinstance(placed, dict) or not placed or not all(isinstance(name, str) for name in placed.values()):
        what = "The index has no weight_map from tensors to files"
        raise ModelError(what, where=str(folder / INDEX), remedy=FETCH_AGAIN)
    files: dict[Path, set[str]] = {}
    for tensor, name in placed.items():
        files.setdefault(folder / name, set()).add(tensor)
    if missing := sorted(file.name for file in files if not file.exists()):
        raise ModelError(
            f"{len(missing)} of {len(files)} files of weights that the index names are missing: {_listed(missing)}",
            where=str(folder / INDEX),
            remedy="download them too",
        )
    return files


def _check_vocabulary(folder: Path, shapes: Mapping[str, list[int]], named: Sequence[str]) -> None:
    """Raise a ModelError if a token that conversations can hold has no embedding.

    Special tokens that are not in the texts ``named`` may lack one: Gemma 3 1B has a token for images beyond its table,
    which no text becomes.
    """
    rows = _embedding_rows(model_json(folder / CONFIG), shapes)
    ids, special = _tokens(folder)
    beyond = [
        f"{token} ({number})"
        for token, number in sorted(ids.items(), key=lambda entry: entry[1])
        if rows is not None and number >= rows and (token not in special or any(token in text for text in named))
    ]
    if beyond:
        raise ModelError(
            f"The tokenizer has {len(beyond)} tokens beyond the model's {rows} embeddings: {_listed(beyond)}",
            where=str(folder / TOKENIZER),
            remedy="use the tokenizer that belongs to these weights; or resize the embeddings"
            " (transformers: model.resize_token_embeddings) and save the model again",
        )


def _embedding_rows(config: Mapping[str, Any], shapes: Mapping[str, list[int]]) -> int | None:
    """Rows of the embedding table: the fewest that the config and the weights name; None if unknown."""
    nested = config.get("text_config")
    text = nested if isinstance(nested, Mapping) else {}
    named = [value for value in (text.get("vocab_size", config.get("vocab_size")),) if isinstance(value, int)]
    stored = [shape[0] for name, shape in shapes.items() if EMBEDDINGS.search(name) and len(shape) == 2]
    return min([*named, *stored], default=None)


def _tokens(folder: Path) -> tuple[dict[str, int], set[str]]:
    """The ids of a tokenizer's tokens, and which of them are special; none if it has no ``tokenizer.json``."""
    from tokenizers import Tokenizer

    file = folder / TOKENIZER
    if not file.exists():
        return {}, set()
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises no narrower type
        raise ModelError(f"{TOKENIZER} cannot be read: {error}", where=str(file), remedy=FETCH_AGAIN) from error
    ids = dict(tokenizer.get_vocab(with_added_tokens=True))
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    added = model_json(folder / TOKENIZER_CONFIG).get("added_tokens_decoder") or {}
    for number, token in added.items():
        ids.setdefault(token["content"], int(number))
        if token.get("special"):
            special.add(token["content"])
    return ids, special


def _named_texts(folder: Path) -> list[str]:
    """Chat templates, and the tokens that the tokenizer's config names."""
    config = model_json(folder / TOKENIZER_CONFIG)
    values = [config.get("chat_template"), *map(config.get, NAMED_TOKENS)]
    texts = [file.read_text(encoding="utf-8") for file in folder.glob("*.jinja")]
    return [*texts, *(str(value) for value in values if value)]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
