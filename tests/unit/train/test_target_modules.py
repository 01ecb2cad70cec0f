from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.core.config import ModelSource
from tasks.core.errors import ModelError
from tasks.core.home import PROJECT_ROOT
from tasks.train.backends import load_trainable
from tasks.train.config import TrainConfig
from tasks.train.target_modules import linear_layers, shortest_names, target_modules
from tasks.train.train import worker_environment
from tests.hub_cache import in_hub_cache
from tests.tiny_families import FAMILIES, QKVO, Family, tiny_config, write_tiny_family
from tests.unit.train.two_steps import layers_named, train_two_steps

ONE_OF_EACH_KIND = (
    "llama 3", "llama", "bloom", "falcon", "mixtral", "phi 3 and 4", "gemma 3 that sees", "gpt 2", "qwen 3 next",
    "deepseek 3",
)  # fmt: skip
"""Usual projections, query and value only, fused ones, a linear class of its own, experts, fused under other names, a
tower, Conv1D, linear attention, low-rank attention. All families train by ``make families``."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name if name in ONE_OF_EACH_KIND else pytest.param(name, marks=pytest.mark.families) for name in FAMILIES]
)
def test_two_steps_of_qlora_change_the_familys_layers_and_nothing_else(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    folder = write_tiny_family(family, tmp_path / "model")
    model, adapted, other = train_two_steps(ModelSource(path=str(folder)), tmp_path / "work")
    expected = layers_named(model, family.modules)
    assert {layer.rsplit(".", 1)[-1] for layer in expected} == {module.rsplit(".", 1)[-1] for module in family.modules}
    assert adapted == expected
    assert other == set()


BY_UNSLOTH = ("llama 3", "bloom", "falcon", "mixtral", "phi 3 and 4", "gemma 3 that sees", "gpt 2")
TRAIN_BY_UNSLOTH = """
import sys
from pathlib import Path
import unsloth
from tasks.core.config import ModelSource
from tests.tiny_families import FAMILIES, write_tiny_family
from tests.unit.train.two_steps import layers_named, train_two_steps

for number, name in enumerate(sys.argv[1:]):
    model = ModelSource(path=str(write_tiny_family(FAMILIES[name], Path(f"model{number}").absolute())))
    trained, adapted, other = train_two_steps(model, Path(f"work{number}"), backend="unsloth")
    assert adapted == layers_named(trained, FAMILIES[name].modules) and not other, name
    print("trained", name)
"""


@pytest.mark.slow
@pytest.mark.families
def test_unsloth_changes_the_same_layers(tmp_path: Path) -> None:
    """In a process of its own: Unsloth patches transformers for good."""
    run = subprocess.run(
        [sys.executable, "-c", TRAIN_BY_UNSLOTH, *BY_UNSLOTH],
        cwd=tmp_path,
        env={
            **os.environ,
            **worker_environment(ModelSource(path=str(tmp_path)), tmp_path),
            "PYTHONPATH": str(PROJECT_ROOT),
        },
        capture_output=True,
        text=True,
    )
    assert [line for line in run.stdout.splitlines() if line.startswith("trained ")] == [
        f"trained {name}" for name in BY_UNSLOTH
    ], run.stderr[-3000:]


def on_meta(family: Family) -> Any:
    """The family's tiny model without memory: names and shapes only."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(tiny_config(family))


def chosen(model: Any, modules: Any) -> tuple[str, ...]:
    return target_modules(model, TrainConfig(max_steps=10, target_modules=modules))


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_has_its_usual_layers(name: str) -> None:
    model, modules = on_meta(FAMILIES[name]), FAMILIES[name].modules
    layers = {
        layer
        for layer in linear_layers(model)
        if any(layer.endswith(f".{module}") for module in chosen(model, "family"))
    }
    assert layers == {layer for layer in linear_layers(model) if any(layer.endswith(f".{name}") for name in modules)}
    assert {layer.rpartition(".")[2] for layer in layers} == {module.rpartition(".")[2] for module in modules}


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("llama", ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")),
        ("phi 3 and 4", ("o_proj", "down_proj", "gate_up_proj", "qkv_proj")),
        ("phi in transformers' layout", ("q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2")),
        ("bloom", ("dense", "dense_4h_to_h", "dense_h_to_4h", "query_key_value")),
        ("gpt 2", ("c_attn", "c_fc", "c_proj")),
    ],
)
def test_all_linear_is_every_linear_layer_but_the_head(name: str, modules: tuple[str, ...]) -> None:
    model = on_meta(FAMILIES[name])
    assert chosen(model, "all-linear") == modules
    assert not any("head" in layer for layer in linear_layers(model))


def test_quantised_layers_are_linear_layers() -> None:
    import torch
    from bitsandbytes.nn import Linear4bit

    model = on_meta(FAMILIES["qwen 2"])
    plain = linear_layers(model)
    for layer in model.model.layers:
        layer.self_attn.q_proj = Linear4bit(64, 64, device=torch.device("meta"))
    assert linear_layers(model) == plain
    assert chosen(model, "family") == QKVO


def test_a_head_that_the_model_does_not_point_out_is_known_by_its_width() -> None:
    model = on_meta(FAMILIES["qwen 2"])
    with_head_known = linear_layers(model)
    model.get_output_embeddings = lambda: None
    assert linear_layers(model) == with_head_known


def test_towers_for_pictures_get_no_adapter_though_their_layers_have_the_same_names() -> None:
    import torch

    model = on_meta(FAMILIES["qwen 2"])
    model.vision_tower = torch.nn.ModuleDict({"self_attn": torch.nn.ModuleDict({"q_proj": torch.nn.Linear(8, 8)})})
    names = chosen(model, "family")
    reached = {
        layer
        for layer, _ in model.named_modules()
        if any(layer == name or layer.endswith(f".{name}") for name in names)
    }
    assert reached == {f"model.layers.{number}.self_attn.{name}" for number in range(2) for name in QKVO}


def test_the_recipes_own_names_are_taken_as_they_are() -> None:
    model = on_meta(FAMILIES["qwen 2"])
    assert chosen(model, ["down_proj", "self_attn.q_proj"]) == ("down_proj", "self_attn.q_proj")


@pytest.mark.parametrize("wrong", ["W_pack", "proj", "lm_head"])
def test_a_name_that_no_layer_has_is_refused_with_those_there_are(wrong: str) -> None:
    with pytest.raises(ModelError, match=f"no linear layer named {wrong}$|no linear layer named {wrong}\n") as caught:
        chosen(on_meta(FAMILIES["phi 3 and 4"]), ["qkv_proj", wrong])
    assert "o_proj, down_proj, gate_up_proj, qkv_proj" in caught.value.remedy


def test_a_family_without_a_default_is_told_what_to_write() -> None:
    model = on_meta(Family("mpt", (), {"d_model": 64, "n_layers": 2, "n_heads": 4}))
    with pytest.raises(ModelError, match="'mpt' has no default") as caught:
        chosen(model, "family")
    assert "all-linear, or names of its linear layers: up_proj, down_proj, Wqkv, out_proj" in caught.value.remedy
    assert chosen(model, "all-linear") == ("up_proj", "down_proj", "Wqkv", "out_proj")


def test_a_family_without_its_usual_layers_is_told_so() -> None:
    model = on_meta(FAMILIES["bloom"])
    for block in model.transformer.h:
        block.self_attention.renamed = block.self_attention.query_key_value
        del block.self_attention.query_key_value
    with pytest.raises(ModelError, match="none of its usual layers \\(query_key_value\\)") as caught:
        chosen(model, "family")
    assert "renamed" in caught.value.remedy


def test_the_shortest_names_reach_the_chosen_layers_and_no_other() -> None:
    layers = ["h.0.attn.c_proj", "h.0.mlp.c_proj", "h.0.attn.c_attn", "head"]
    assert shortest_names(layers[:1], layers[1:]) == ("attn.c_proj",)
    assert shortest_names(layers[:3], layers[3:]) == ("c_attn", "c_proj")
    assert shortest_names(["a.0.x"], ["a.1.x"]) == ("0.x",)


def test_prompt_tuning_refuses_a_hub_model_whose_embeddings_are_its_head_before_its_weights_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = in_hub_cache(tmp_path, monkeypatch, {"config.json": {"model_type": "gemma2"}})
    config = TrainConfig(method="prompt_tuning", backend="transformers", max_steps=2, warmup_steps=0)
    with pytest.raises(ModelError, match="gemma2 model with virtual tokens cannot be served") as caught:
        load_trainable(config, model, 1, tmp_path)
    assert "lora" in caught.value.remedy
