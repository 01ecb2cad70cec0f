"""LoftQ: an update that starts as the quantisation error of each weight (Li et al. 2023, arXiv 2310.08659, one step).

PEFT's ``replace_lora_weights_loftq`` quantises again on a GPU and reads a single file. Here the layers' own 4-bit
weights are dequantised in place, and sharded weight files are read too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.core.config import ModelSource
from tasks.core.errors import ModelError

PREFIX = "base_model.model."
ONE_FILE, INDEX = "model.safetensors", "model.safetensors.index.json"


def init_by_loftq(model: Any, source: ModelSource) -> None:
    """Set A and B of every adapted 4-bit layer so that scaling B A is the best rank-r part of W - NF4(W).

    Raises:
        ModelError: the full weights are missing, for example for a model that is distributed quantised.
    """
    import bitsandbytes.functional as bnb
    import torch
    from peft.tuners.lora import Linear4bit

    read = _weight_reader(source)
    for name, layer in model.named_modules():
        if not isinstance(layer, Linear4bit):
            continue
        weight = layer.get_base_layer().weight
        quantised = bnb.dequantize_4bit(weight.data, weight.quant_state).float()
        exact = read(name.removeprefix(PREFIX) + ".weight").to(quantised.device, torch.float32)
        if exact.shape != quantised.shape:
            raise _no_weights(source, f"{name} has another shape there")
        rank, scaling = layer.r["default"], layer.scaling["default"]
        u, s, v = torch.linalg.svd(exact - quantised, full_matrices=False)
        root = (s[:rank] / scaling).sqrt()
        layer.lora_A["default"].weight.data = (root[:, None] * v[:rank]).contiguous()
        layer.lora_B["default"].weight.data = (u[:, :rank] * root).contiguous()


def _weight_reader(source: ModelSource) -> Callable[[str], Any]:
    from safetensors import safe_open
    from transformers.utils import cached_file

    def find(name: str) -> Path | None:
        found = cached_file(source.path, name, revision=source.revision, _raise_exceptions_for_missing_entries=False)
        return Path(found) if found else None

    index = find(INDEX)
    files = json.loads(index.read_text(encoding="utf-8"))["weight_map"] if index else {}

    def read(name: str) -> Any:
        path = find(files.get(name, ONE_FILE))
        if path is None:
            raise _no_weights(source, f"there is no {files.get(name, ONE_FILE)}")
        with safe_open(path, framework="pt") as weights:
            if name not in weights.keys():  # noqa: SIM118  not a mapping
                raise _no_weights(source, f"there is no {name}")
            return weights.get_tensor(name)

    return read


def _no_weights(source: ModelSource, why: str) -> ModelError:
    return ModelError(
        f"LoftQ needs the base's full weights: {why}",
        where=source.path,
        remedy="name the 16-bit original of the model, or use init_weights default",
    )
