"""The files of a training, and how they become a whole model."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.config import ModelSource
from tasks.core.errors import ModelError
from tasks.core.files import read_json, require_free_space
from tasks.core.methods import Form, form_of
from tasks.core.processes import run_worker
from tasks.core.progress import say

ADAPTER, MODEL, MERGED = "adapter", "model", "merged"
TOKENS = "tokens.json"
COMPARED_ROWS, COMPARED_TOKENS = 8, 256
"""How many rows a training writes to ``tokens.json`` for the comparison with its merged model, and tokens of each."""
ROOM_FACTOR = 5
"""Disk space needed, as a multiple of the base: a merged weight may take twice the bytes, and shards are copied."""
HEAD_IS_EMBEDDING = frozenset(
    {"cohere", "cohere2", "cohere2_moe", "gemma2", "gemma3n", "gemma3n_text", "lfm2", "lfm2_moe", "zamba2"}
)
"""By ``model_type``: vLLM 0.32 uses their input embeddings as output head whatever the config says, so that the model
could generate virtual tokens."""

WITHOUT_LORA = frozenset(
    {
        "bloom", "cohere2_moe", "dbrx", "falcon", "falcon_mamba", "gemma3n", "gemma3n_text", "gpt-sw3", "gpt2", "gptj",
        "hrm_text", "mamba", "mamba2", "mimo_v2_flash", "stablelm", "zamba2",
    }
)  # fmt: skip
"""By ``model_type``: vLLM 0.32 serves no adapters on them ("does not support LoRA yet"): they are merged first."""


@dataclass(frozen=True)
class MergeSettings:
    """A recipe's training method, the quantisation of a 4-bit base (nf4 or fp4), and the dtype of written weights."""

    method: str
    quant_type: str
    double_quantisation: bool
    dtype: str


@dataclass(frozen=True)
class Trained:
    """What a train artifact or a published version contains: an adapter (PEFT) or a model, and its folder."""

    folder: Path
    form: Form

    def is_served_beside(self, family: str | None) -> bool:
        """Whether vLLM can serve it as a LoRA module on a base of this ``model_type``: no DoRA, no biases."""
        if self.form != "lora" or family in WITHOUT_LORA:
            return False
        config = _config_of(self.folder)
        return not config.get("use_dora") and config.get("bias", "none") == "none"


def trained_in(folder: Path) -> Trained:
    """What the folder of an artifact contains; a ModelError if no model and no adapter with a readable config."""
    if (folder / MODEL / "config.json").is_file():
        return Trained(folder / MODEL, "model")
    adapter = folder / ADAPTER
    return Trained(adapter, form_of(_config_of(adapter).get("peft_type")))


def _config_of(adapter: Path) -> dict[str, Any]:
    file = adapter / "adapter_config.json"
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"The adapter's config cannot be read: {error}", where=str(file)) from error
    return config


def require_own_head(family: str | None, where: str) -> None:
    """Raise a ModelError if a family (``model_type``) cannot be served with virtual tokens."""
    if family in HEAD_IS_EMBEDDING:
        raise ModelError(
            f"A {family} model with virtual tokens cannot be served: its embeddings are its head",
            where=where,
            remedy="use train.method lora",
        )


def _trained_rows(file: Path) -> list[list[int]]:
    try:
        rows: list[list[int]] = read_json(file)["trained_ids"]
    except (OSError, ValueError, KeyError) as error:
        what = f"The training's rows, on which a merged model is compared, cannot be read: {error}"
        raise ModelError(what, where=str(file), remedy="run again: the training writes them") from error
    return rows


def merged(
    trained: Trained,
    base: ModelSource,
    settings: MergeSettings,
    *,
    out: Path,
    work: Path,
    log: Path,
    timeout_s: float,
) -> dict[str, Any]:
    """Write a whole model to ``out`` in a process of its own; see ``worker.merge`` for the result and errors.

    It is compared with what was trained on rows of the training, as the training tokenised them.
    """
    weights = trained.folder if trained.form == "model" else Path(base.path)
    size = sum(path.stat().st_size for path in weights.glob("*.safetensors"))
    require_free_space(out.parent, ROOM_FACTOR * size, "the merged model")
    job = {
        "model": base.model_dump(),
        "adapter": str(trained.folder),
        "form": trained.form,
        "method": settings.method,
        "quantisation": {"quant_type": settings.quant_type, "double_quantisation": settings.double_quantisation},
        "dtype": settings.dtype,
        "out": str(out),
        "token_ids": _trained_rows(trained.folder.parent / TOKENS),
    }
    try:
        return run_worker(
            "tasks.core.merging.worker",
            job,
            folder=work,
            log=log,
            timeout_s=timeout_s,
            on_event=lambda event: say(f"  {event['note']}"),
            environment={"OMP_WAIT_POLICY": "PASSIVE", **({"HF_HUB_OFFLINE": "1"} if base.is_local else {})},
        )
    finally:
        shutil.rmtree(work, ignore_errors=True)
