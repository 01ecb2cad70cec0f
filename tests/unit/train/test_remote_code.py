"""Families whose code comes with the model: refused as they are, trained where the recipe allows their code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.core.config import ModelSource
from tasks.core.errors import ModelError
from tests.tiny_remote_model import write_tiny_remote_model
from tests.unit.train.two_steps import layers_named, train_two_steps

SEPARATE = ("q_proj", "k_proj", "v_proj")
FAMILIES = {
    "baichuan": ("baichuan", ("W_pack",), ("W_pack",)),
    "chatglm": ("chatglm", ("query_key_value",), ("query_key_value",)),
    "qwen of the first generation": ("qwen", ("c_attn",), ("c_attn",)),
    "phi in the older layout": ("phi-msft", ("Wqkv",), ("Wqkv",)),
    "phi in the layout before that": ("mixformer-sequential", ("Wqkv",), ("Wqkv",)),
    "internlm": ("internlm", SEPARATE, ("q_proj", "v_proj")),
    "xverse": ("xverse", SEPARATE, ("q_proj", "v_proj")),
    "yi before it was a llama": ("Yi", SEPARATE, ("q_proj", "v_proj")),
}
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers copies a model's code before it imports it: not into the user's cache."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_with_code_of_its_own_trains_only_where_the_recipe_allows_that_code(name: str, tmp_path: Path) -> None:
    family, projections, expected = FAMILIES[name]
    folder = write_tiny_remote_model(tmp_path / f"tiny_{family}", family, projections)
    for backend in ("transformers", "unsloth", "auto"):
        with pytest.raises(ModelError, match="its own Python code, which the recipe does not allow"):
            train_two_steps(ModelSource(path=str(folder)), tmp_path / "refused", backend=backend)
    assert not (tmp_path / "modules").exists()

    allowed = ModelSource(path=str(folder), trust_remote_code=True)
    model, adapted, other = train_two_steps(allowed, tmp_path / "work")
    assert type(model.get_base_model()).__name__ == "TinyForCausalLM"
    assert adapted == layers_named(model, expected) and len(adapted) == 2 * len(expected)
    assert other == set()
