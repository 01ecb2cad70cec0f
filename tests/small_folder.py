"""A model folder of a few hundred bytes: whole and readable, without a model in it."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

VOCABULARY = {"a": 0, "b": 1, "<|end|>": 2}


def write_safetensors(file: Path, shapes: Mapping[str, Sequence[int]]) -> None:
    """Tensors of zeros (uint8) in the safetensors format."""
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 1
        for side in shape:
            size *= side
        header[name] = {"dtype": "U8", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    head = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(head)) + head + bytes(end))


def write_small_folder(folder: Path) -> Path:
    """Config, tokenizer of three tokens and weights with four embeddings."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"vocab_size": 4}', encoding="utf-8")
    (folder / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    write_tokenizer(folder, VOCABULARY)
    write_safetensors(folder / "model.safetensors", {"model.embed_tokens.weight": (4, 2)})
    return folder


def write_tokenizer(folder: Path, vocabulary: Mapping[str, int], special: Sequence[str] = ()) -> None:
    from tokenizers import AddedToken, Tokenizer, models

    tokenizer = Tokenizer(models.WordLevel(dict(vocabulary), unk_token="a"))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))
