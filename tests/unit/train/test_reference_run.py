"""The Llama 3.1 reference recipe as it ships, with a tiny random Llama in place of the weights: 60 real steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.recipe.read import read_recipe
from tasks.core.artifacts import ArtifactRef
from tasks.core.config import ModelSource
from tasks.core.home import PROJECT_ROOT, Home
from tasks.core.stage import run_stage
from tasks.train.train import TrainJob
from tests.tiny_model import tiny_tokenizer
from tests.unit.train.conftest import write_training_set

pytestmark = pytest.mark.slow


@pytest.fixture
def tiny_llama(tmp_path: Path) -> Path:
    """A base model without a chat template, as the reference's is, whose texts begin and end with its own tokens."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path / "llama"
    specials = ["<|begin_of_text|>", "<|end_of_text|>"]
    tokenizer = tiny_tokenizer(None, specials=specials, eos="<|end_of_text|>", pad="<|begin_of_text|>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def visible_in_project() -> set[Path]:
    return {path for path in PROJECT_ROOT.iterdir() if not path.name.startswith(".")}  # caches come and go


@pytest.fixture
def rows(tmp_path: Path) -> ArtifactRef:
    return write_training_set(tmp_path / "set", rows=64)


def test_the_reference_recipe_trains_sixty_steps(tiny_llama: Path, rows: ArtifactRef, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    recipe = read_recipe("llama-3.1-8b-qlora")
    job = TrainJob(recipe.train, ModelSource(path=str(tiny_llama)), rows, recipe.seed)
    before = visible_in_project()
    result = run_stage(job, Home(tmp_path / "home"), "night")
    assert visible_in_project() == before, "Unsloth left something behind"
    found = result.ref.manifest()["summary"]["details"]
    assert found["steps"] == 60
    assert (found["backend"], found["method"], found["quantised_layers"]) == ("unsloth", "qlora", 14)
    assert found["optimizer"] == "adamw_torch_fused"
    # r (in + out) of the seven projections of two layers: hidden 64, intermediate 128, keys and values of 32.
    assert found["trainable_parameters"] == 2 * 8 * (2 * 128 + 2 * 96 + 3 * 192)
    curve = [float(line.split(",")[1]) for line in (result.ref.folder / "loss.csv").read_text().splitlines()[1:]]
    assert len(curve) == 60
    assert sum(curve[-5:]) < sum(curve[:5]) - 1
    masking = json.loads((result.ref.folder / "masking.json").read_text())
    assert "[[cards<|im_end|>]]" in masking["example"]
    assert (result.ref.folder / "adapter" / "chat_template.jinja").is_file()
    saved, base = (AutoTokenizer.from_pretrained(folder) for folder in (result.ref.folder / "adapter", tiny_llama))
    kept = ("model_max_length", "padding_side", "bos_token", "pad_token")
    assert [getattr(saved, name) for name in kept] == [getattr(base, name) for name in kept]
    assert base.model_max_length != recipe.train.max_length and saved.eos_token == "<|im_end|>"
