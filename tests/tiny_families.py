"""A tiny random model of every family that training knows: transformers' own classes, two layers of 64."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.tiny_model import tiny_tokenizer

QV = ("q_proj", "v_proj")
QKVO = ("q_proj", "k_proj", "v_proj", "o_proj")
SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "tie_word_embeddings": False,
}
EXPERTS: dict[str, Any] = {
    "num_local_experts": 4,
    "num_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
    "shared_expert_intermediate_size": 64,
}


@dataclass(frozen=True)
class Family:
    """A family.

    Attributes:
        model_type: as its config names it.
        modules: last parts of the names of the layers that get an adapter by default.
        settings: what its config needs beside SIZES.
    """

    model_type: str
    modules: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)


FAMILIES = {
    "bloom": Family("bloom", ("query_key_value",), {"n_layer": 2, "n_head": 4}),
    "bloomz": Family("bloom", ("query_key_value",), {"n_layer": 2, "n_head": 4, "slow_but_exact": True}),
    "falcon": Family("falcon", ("query_key_value",), {"ffn_hidden_size": 128}),
    "falcon of 40 billion": Family(
        "falcon", ("query_key_value",), {"ffn_hidden_size": 128, "new_decoder_architecture": True, "num_kv_heads": 2}
    ),
    "llama": Family("llama", QV, {"vocab_size": 32_000}),
    "llama 2 with added tokens": Family("llama", QV, {"vocab_size": 32_016}),
    "yi": Family("llama", QV, {"vocab_size": 64_000}),
    "mistral": Family("mistral", QV, {"vocab_size": 32_768}),
    "mixtral": Family("mixtral", QV, EXPERTS),
    "phi in transformers' layout": Family("phi", QV),
    "llama 3": Family("llama", QKVO, {"vocab_size": 128_256}),
    "smollm": Family("llama", QKVO, {"vocab_size": 49_152}),
    "smollm 3": Family("smollm3", QKVO, {"pad_token_id": 0}),
    "qwen 2": Family("qwen2", QKVO),
    "qwen 2 moe": Family("qwen2_moe", QKVO, EXPERTS),
    "qwen 3": Family("qwen3", QKVO, {"head_dim": 16}),
    "qwen 3 moe": Family("qwen3_moe", QKVO, {**EXPERTS, "head_dim": 16}),
    "qwen 3 next": Family(
        "qwen3_next",
        (*QKVO, "in_proj_qkvz", "in_proj_ba", "linear_attn.out_proj"),
        {
            **EXPERTS,
            "head_dim": 16,
            "layer_types": ["linear_attention", "full_attention"],
            "linear_num_value_heads": 4,
            "linear_num_key_heads": 4,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
        },
    ),
    "gemma": Family("gemma", QKVO, {"head_dim": 16}),
    "gemma 2": Family("gemma2", QKVO, {"head_dim": 16}),
    "gemma 3": Family("gemma3_text", QKVO, {"head_dim": 16}),
    "gemma 3 that sees": Family(
        "gemma3",
        tuple(f"language_model.layers.{layer}.self_attn.{name}" for layer in range(2) for name in QKVO),
        {
            "text_config": {**SIZES, "head_dim": 16},
            "vision_config": {
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "image_size": 28,
                "patch_size": 14,
            },
            "mm_tokens_per_image": 4,
            "boi_token_index": 5,
            "eoi_token_index": 6,
            "image_token_index": 7,
        },
    ),
    "phi 3 and 4": Family("phi3", ("qkv_proj", "o_proj"), {"pad_token_id": 0}),
    "phi moe": Family("phimoe", QKVO, {**EXPERTS, "pad_token_id": 0}),
    "glm": Family("glm", QKVO, {"head_dim": 16, "pad_token_id": 0}),
    "glm 4": Family("glm4", QKVO, {"head_dim": 16, "pad_token_id": 0}),
    "glm 4 moe": Family("glm4_moe", QKVO, {**EXPERTS, "head_dim": 16, "n_group": 1, "topk_group": 1}),
    "granite": Family("granite", QKVO),
    "ministral 3": Family("ministral3", QKVO, {"head_dim": 16}),
    "olmo": Family("olmo", QKVO, {"pad_token_id": 0}),
    "olmo 2": Family("olmo2", QKVO, {"pad_token_id": 0}),
    "olmo 3": Family("olmo3", QKVO, {"pad_token_id": 0}),
    "cohere": Family("cohere", QKVO, {"pad_token_id": 0}),
    "cohere 2": Family("cohere2", QKVO, {"head_dim": 16, "pad_token_id": 0}),
    "stablelm": Family("stablelm", QKVO),
    "starcoder 2": Family("starcoder2", QKVO),
    "exaone 4": Family("exaone4", QKVO),
    "ernie 4.5": Family("ernie4_5", QKVO, {"head_dim": 16}),
    "seed oss": Family("seed_oss", QKVO, {"head_dim": 16}),
    "apertus": Family("apertus", QKVO, {"pad_token_id": 0}),
    "nemotron": Family("nemotron", QKVO, {"head_dim": 16}),
    "gpt oss": Family("gpt_oss", QKVO, {**EXPERTS, "head_dim": 16, "pad_token_id": 0}),
    "lfm 2": Family(
        "lfm2",
        ("q_proj", "k_proj", "v_proj", "self_attn.out_proj"),
        {"layer_types": ["conv", "full_attention"], "pad_token_id": 0},
    ),
    "deepseek 3": Family(
        "deepseek_v3",
        ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"),
        {
            **EXPERTS,
            "num_key_value_heads": 4,
            "n_group": 1,
            "topk_group": 1,
            "first_k_dense_replace": 1,
            "q_lora_rank": 64,
            "kv_lora_rank": 64,
            "qk_nope_head_dim": 16,
            "qk_rope_head_dim": 16,
            "v_head_dim": 16,
        },
    ),
    "gpt 2": Family("gpt2", ("c_attn", "attn.c_proj"), {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512}),
    "gpt neox": Family("gpt_neox", ("query_key_value", "attention.dense")),
}


def tiny_config(family: Family) -> Any:
    """The family's own config class, of the tiny sizes."""
    from transformers import AutoConfig

    sizes = {} if "text_config" in family.settings else SIZES
    return AutoConfig.for_model(family.model_type, **{**sizes, "eos_token_id": 2, **family.settings})


def write_tiny_family(family: Family, folder: Path) -> Path:
    """Write model and tokenizer in Hugging Face layout; the same weights every time."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config(family))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
