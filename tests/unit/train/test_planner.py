"""The planner counts what PEFT counts, and its memory is what autograd, bitsandbytes and the optimizers really keep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.recipe.read import read_recipe
from tasks.core.config import ModelSource, ServerSettings
from tasks.core.errors import ModelError
from tasks.core.home import PROJECT_ROOT
from tasks.train.config import TrainConfig
from tasks.train.devices import MemoryDevice
from tasks.train.memory import trainable_parameters
from tasks.train.model_shape import (
    built_shape,
    catalogue,
    computed_shape,
    model_shape,
    read_config,
)
from tasks.train.planner import plan_training, planned_steps
from tasks.train.resource_checks import check_target_modules
from tests.tiny_families import FAMILIES, tiny_config

QWEN2 = {
    "model_type": "qwen2", "vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True,
}  # fmt: skip
LLAMA = {**QWEN2, "model_type": "llama", "tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True}
GPT2 = {"model_type": "gpt2", "vocab_size": 320, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128}
PUBLISHED = {
    "Qwen/Qwen2.5-0.5B-Instruct": 494_032_768,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "Qwen/Qwen2.5-1.5B": 1_543_714_304,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "unsloth/Meta-Llama-3.1-8B-bnb-4bit": 8_030_261_248,
    "Qwen/Qwen2.5-14B": 14_770_033_664,
    "Qwen/Qwen2.5-32B": 32_763_876_352,
    "meta-llama/Llama-3.1-70B": 70_553_706_496,
}
"""As safetensors on the models' own pages count them."""
FUSED_EXPERTS = {"qwen 3 next", "glm 4 moe", "deepseek 3"}
"""PEFT puts adapters on their experts, which are one tensor and no linear layer; docs/planning.md says so."""
CPU = MemoryDevice("CPU", "cpu", 8 * 10**9, 6 * 10**9)


def training(**settings: Any) -> TrainConfig:
    return TrainConfig.model_validate({"max_steps": 10, "rank": 8, "target_modules": "all-linear", **settings})


def real_model(config: dict[str, Any]) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = {key: value for key, value in config.items() if key != "model_type"}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(config["model_type"], **settings))


@pytest.mark.parametrize("config", [QWEN2, LLAMA, GPT2], ids=lambda config: str(config["model_type"]))
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rank": 16},
        {"use_dora": True},
        {"bias": "all"},
        {"bias": "lora_only"},
        {"bias": "lora_only", "use_dora": True, "rank": 3},
        {"target_modules": "family"},
    ],
    ids=str,
)
def test_low_rank_counts_are_those_of_peft(config: dict[str, Any], settings: dict[str, Any]) -> None:
    from peft import LoraConfig, get_peft_model

    train = training(method="lora", **settings)
    shape = model_shape(config, train)
    bare = real_model(config)
    assert shape.total_parameters == bare.num_parameters()
    adapted = get_peft_model(
        bare,
        LoraConfig(
            r=train.rank,
            bias=train.bias,
            use_dora=train.use_dora,
            target_modules=list(shape.targets),
            task_type="CAUSAL_LM",
        ),
    )
    assert trainable_parameters(shape, train) == adapted.get_nb_trainable_parameters()[0]


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - FUSED_EXPERTS))
def test_every_family_is_counted_as_peft_counts_it(name: str) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config, train = tiny_config(FAMILIES[name]), training(method="lora")
    shape = model_shape(config.to_dict(), train)
    with torch.device("meta"):
        bare = AutoModelForCausalLM.from_config(config)
    assert shape.total_parameters == bare.num_parameters()
    lora = LoraConfig(r=8, target_modules=list(shape.targets), task_type="CAUSAL_LM")
    assert trainable_parameters(shape, train) == get_peft_model(bare, lora).get_nb_trainable_parameters()[0]


def test_prompt_tuning_counts_are_those_of_peft_and_full_training_learns_everything() -> None:
    from peft import PromptTuningConfig, get_peft_model

    prompted = training(method="prompt_tuning", rank=16, target_modules="family", virtual_tokens=7)
    full = training(method="full", rank=16, target_modules="family")
    real = get_peft_model(real_model(QWEN2), PromptTuningConfig(num_virtual_tokens=7, task_type="CAUSAL_LM"))
    assert trainable_parameters(model_shape(QWEN2, prompted), prompted) == real.get_nb_trainable_parameters()[0]
    assert trainable_parameters(model_shape(QWEN2, full), full) == real_model(QWEN2).num_parameters()


def test_the_llama_reference_recipe_trains_20971520_parameters_of_8_billion() -> None:
    recipe = read_recipe("llama-3.1-8b-qlora")
    plan = plan_training(recipe.model, recipe.train, recipe.evaluate.server, (CPU,)).as_json()
    assert plan["trainable_parameters"] == 20_971_520
    assert plan["total_parameters"] == 8_030_261_248


def test_only_models_that_are_stored_in_4_bit_are_known_as_such() -> None:
    quantised = [model for model, config in catalogue().items() if "quantization_config" in config]
    assert quantised and all(model.endswith("-bnb-4bit") for model in quantised)


@pytest.mark.parametrize("model", PUBLISHED)
def test_the_catalogue_s_numbers_make_models_of_the_published_size(model: str) -> None:
    assert model_shape(catalogue()[model], training()).total_parameters == PUBLISHED[model]


@pytest.mark.parametrize(
    "recipe", sorted((PROJECT_ROOT / "deployments" / "recipes").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_shipped_recipe_s_model_is_known_without_a_network(recipe: Path) -> None:
    model = read_recipe(str(recipe)).model
    assert model.is_local or model.path in catalogue()


def test_an_unknown_model_is_planned_from_its_config_and_never_fetched(tmp_path: Path) -> None:
    unknown = ModelSource(path="somebody/model")
    with pytest.raises(ModelError, match="is not available offline") as refused:
        read_config(unknown)
    assert "--model-config" in refused.value.remedy
    file = tmp_path / "config.json"
    file.write_text(json.dumps(QWEN2), encoding="utf-8")
    plan = plan_training(unknown, training(), ServerSettings(max_model_len=128), (CPU,), file)
    assert plan.shape.total_parameters == real_model(QWEN2).num_parameters()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not valid JSON"),
        ("[]", "does not name a model_type"),
        ('{"model_type": "my_own"}', "cannot build"),
        (None, "cannot be read"),
    ],
)
def test_a_config_that_is_none_is_refused_with_its_place(tmp_path: Path, content: str | None, says: str) -> None:
    file = tmp_path / "config.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=says) as refused:
        model_shape(read_config(ModelSource(path="a/b"), file), training())
    assert refused.value.where


def test_what_is_stored_in_4_bit_still_counts_its_full_parameters() -> None:
    stored = {**QWEN2, "quantization_config": {"load_in_4bit": True, "quant_method": "bitsandbytes"}}
    assert model_shape(stored, training()).is_quantised
    assert model_shape(stored, training()).total_parameters == model_shape(QWEN2, training()).total_parameters


@pytest.mark.parametrize(
    ("settings", "rows", "steps"),
    [
        ({"max_steps": 60}, 10_000, 60),
        ({"epochs": 1.0}, 100, 13),
        ({"epochs": 3.0}, 96, 36),
        ({"epochs": 0.01}, 10, 1),
        ({"epochs": 0.5, "batch_size": 1, "accumulation_steps": 1}, 7, 4),
    ],
)
def test_steps_are_those_of_the_rows_and_epochs(settings: dict[str, Any], rows: int, steps: int) -> None:
    batch = {"batch_size": 2, "accumulation_steps": 4, **settings}
    assert planned_steps(TrainConfig.model_validate({"method": "qlora", "warmup_steps": 0, **batch}), rows) == steps


def model_of(config: dict[str, Any], folder: Path, **settings: Any) -> ModelSource:
    """A folder with nothing but a config, which is a model's as far as its layers go."""
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return ModelSource(path=str(folder), **settings)


def is_refused(model: ModelSource, train: TrainConfig) -> bool:
    try:
        check_target_modules(model, train)
    except ModelError:
        return True
    return False


@pytest.mark.parametrize("hub", ["Qwen/Qwen2.5-0.5B-Instruct", None])
def test_layers_that_a_model_lacks_are_found_by_its_config_alone(hub: str | None, tmp_path: Path) -> None:
    model = ModelSource(path=hub, revision="main") if hub else model_of(QWEN2, tmp_path)
    assert not is_refused(model, training(target_modules=["q_proj", "self_attn.o_proj"]))
    with pytest.raises(ModelError, match="no linear layer named q_prj, W_pack"):
        check_target_modules(model, training(target_modules=["q_prj", "W_pack", "v_proj"]))


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        ({"model_type": "phi", "auto_map": {"AutoModelForCausalLM": "own.Model"}}, {"trust_remote_code": True}),
        ({"model_type": "baichuan"}, {}),
        ({**QWEN2, "intermediate_size": 96.0}, {}),
        ({**QWEN2, "num_attention_heads": 0}, {}),
        ({"hidden_size": 64}, {}),
    ],
    ids=["code of its own", "unknown architecture", "no whole number", "no head", "no model type"],
)
def test_layers_of_what_cannot_be_built_by_its_config_are_left_to_the_training(
    config: dict[str, Any], settings: dict[str, Any], tmp_path: Path
) -> None:
    wanted = training(target_modules=["Wqkv"])
    assert not is_refused(model_of(config, tmp_path, **settings), wanted)
    assert not is_refused(ModelSource(path="some/model", revision="main"), wanted)


LLAMA_WITH_BIASES = {
    **{key: QWEN2[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")},
    **{"model_type": "llama", "num_key_value_heads": 1, "vocab_size": 32_001, "head_dim": 16, "dtype": "float32"},
    **{"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True},
}


@pytest.mark.parametrize("targets", ["family", "all-linear", ("v_proj", "down_proj")])
@pytest.mark.parametrize(
    "name", ["Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-7B", "meta-llama/Llama-3.2-1B", "biased", "seedling"]
)
def test_a_computed_shape_is_the_one_that_transformers_builds(name: str, targets: Any) -> None:
    seedling = ModelSource(path=str(PROJECT_ROOT / "seedling" / "model"))
    known = {"biased": LLAMA_WITH_BIASES, "seedling": read_config(seedling)}
    config = known.get(name) or catalogue()[name]
    train = training(method="lora", target_modules=targets)
    assert computed_shape(config, train) == built_shape(config, train)
