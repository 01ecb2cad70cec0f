"""A repository of a model hub as a download would leave it in the cache, the hub itself out of reach."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tasks.core.config import ModelSource

COMMIT = "0123456789abcdef0123456789abcdef01234567"


UNPINNED = {
    "config.json": {"model_type": "qwen2", "max_position_embeddings": 64, "hidden_size": 64},
    "tokenizer_config.json": {"auto_map": {"AutoTokenizer": [None, "other/code--tokenization_x.XTokenizer"]}},
}
"""A model of a family that transformers has, with a tokenizer whose code is in another repository."""


def in_hub_cache(cache: Path, patch: pytest.MonkeyPatch, files: Mapping[str, Any], **settings: Any) -> ModelSource:
    """Write JSON files of the repository ``org/model``, pinned to a commit; ``settings`` are those of its source."""
    snapshot = cache / "models--org--model" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for name, content in files.items():
        (snapshot / name).write_text(json.dumps(content), encoding="utf-8")
    patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return ModelSource(path="org/model", revision=COMMIT, **settings)
