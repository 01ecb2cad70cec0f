"""Which layers of a model get an adapter: the usual ones of its family, all linear ones, or those a recipe names.

A family's defaults are the attention projections that its adapters usually have; all-linear is often better (Dettmers
et al. 2023, arXiv 2305.14314, section 4). As in PEFT, a name is a layer's whole name or its last parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from tasks.core.errors import ModelError
from tasks.train.config import TrainConfig

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_QUERY_AND_VALUE = ("q_proj", "v_proj")
NAMED_LAYOUTS: dict[str, tuple[tuple[str, ...], ...]] = {
    **dict.fromkeys(("bloom", "chatglm", "falcon"), (("query_key_value",),)),
    **dict.fromkeys(("internlm", "mistral", "mixtral", "xverse", "Yi"), (_QUERY_AND_VALUE,)),
    "baichuan": (("W_pack",),),
    "phi": (_QUERY_AND_VALUE, ("Wqkv",)),
    "phi-msft": (("Wqkv",), _QUERY_AND_VALUE),
    "mixformer-sequential": (("Wqkv",),),
    "qwen": (("c_attn",),),
}
"""By ``model_type``: the layouts of a family; the first that a model has is used."""
ATTENTION_FAMILIES = frozenset({
    "apertus", "cohere", "cohere2", "deepseek_v3", "ernie4_5", "exaone4", "gemma", "gemma2", "gemma3", "gemma3_text",
    "glm", "glm4", "glm4_moe", "gpt2", "gpt_neox", "gpt_oss", "granite", "lfm2", "llama", "ministral3",
    "nemotron", "olmo", "olmo2", "olmo3", "phi3", "phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe",
    "qwen3_next", "seed_oss", "smollm3", "stablelm", "starcoder2",
})  # fmt: skip
"""By ``model_type``: families that get an adapter on every linear layer of the attention."""
EARLY_LLAMA_VOCABULARIES = (32_000, 64_000)
ADDED_TOKENS = 128
"""LLaMA and LLaMA-2 have 32,000 tokens, Yi 64,000, their descendants a few more; other models of the ``model_type``
llama, such as Llama 3 and SmolLM, have other vocabularies."""
_ATTENTION = re.compile(r"(^|\.)\w*(attn|attention)\w*\.")
_TOWER = re.compile(r"(^|\.)\w*(vision|visual|audio|image|speech)\w*\.")


def target_modules(model: Any, config: TrainConfig) -> tuple[str, ...]:
    """Names, for PEFT, of the layers of a causal language model that get an adapter; or a ModelError without any."""
    modules = [name for name, _ in linear_modules(model)]
    vocabulary = model.config.get_text_config().vocab_size
    return chosen_layers(config.target_modules, model.config.model_type, vocabulary, linear_layers(model), modules)


def chosen_layers(
    wanted: tuple[str, ...] | str, family: str, vocabulary: int, layers: Sequence[str], modules: Sequence[str]
) -> tuple[str, ...]:
    """As :func:`target_modules`, from the names of a model's linear layers, without and with its head and towers."""
    if isinstance(wanted, str):
        chosen = set(layers if wanted == "all-linear" else _of_family(family, vocabulary, layers))
        return shortest_names(chosen, (name for name in modules if name not in chosen))
    if missing := [name for name in wanted if not any(_has_name(layer, name) for layer in layers)]:
        what = f"The model has no linear layer named {', '.join(missing)}"
        remedy = f"its linear layers are {_listed(layers)}; or write all-linear"
        raise ModelError(what, where="train.target_modules", remedy=remedy)
    return wanted


def is_known_family(family: str) -> bool:
    return family in NAMED_LAYOUTS or family in ATTENTION_FAMILIES


def linear_layers(model: Any) -> tuple[str, ...]:
    """Whole names of a model's linear layers, without the head and without towers for pictures and sound.

    bitsandbytes' 4-bit layers are PyTorch linear layers; GPT-2's Conv1D is one with a transposed weight. If the model
    does not report its head, a layer as wide as the vocabulary is taken for it.
    """
    head = model.get_output_embeddings()
    vocabulary = model.config.get_text_config().vocab_size
    return tuple(
        name
        for name, module in linear_modules(model)
        if not _TOWER.search(name)
        and (module is not head if head is not None else getattr(module, "out_features", None) != vocabulary)
    )


def shortest_names(chosen: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    """The shortest last parts of the chosen layers' names that no other layer shares, in the usual order."""
    taken = {tail for name in others for tail in _tails(name)}
    names = {next((tail for tail in _tails(name) if tail not in taken), name) for name in chosen}
    order = {name: number for number, name in enumerate(PROJECTIONS)}
    return tuple(sorted(names, key=lambda name: (order.get(name, len(order)), name)))


def _of_family(family: str, vocabulary: int, layers: Sequence[str]) -> list[str]:
    layouts = NAMED_LAYOUTS.get(family, ())
    if family == "llama" and any(0 <= vocabulary - size <= ADDED_TOKENS for size in EARLY_LLAMA_VOCABULARIES):
        layouts = (_QUERY_AND_VALUE,)
    for names in layouts:
        chosen = [layer for layer in layers if any(_has_name(layer, name) for name in names)]
        if all(any(_has_name(layer, name) for layer in chosen) for name in names):
            return chosen
    if family in ATTENTION_FAMILIES and (chosen := [layer for layer in layers if _ATTENTION.search(layer)]):
        return chosen
    known = f"has none of its usual layers ({' or '.join(', '.join(names) for names in layouts)})" if layouts else ""
    what = f"The model family {family!r} {known or 'has no default target modules'}"
    remedy = f"write all-linear, or names of its linear layers: {_listed(layers)}"
    raise ModelError(what, where="train.target_modules: family", remedy=remedy)


def linear_modules(model: Any) -> Iterable[tuple[str, Any]]:
    import torch
    from transformers.pytorch_utils import Conv1D

    return ((name, module) for name, module in model.named_modules() if isinstance(module, (torch.nn.Linear, Conv1D)))


def _has_name(layer: str, name: str) -> bool:
    return layer == name or layer.endswith(f".{name}")


def _tails(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]


def _listed(layers: Sequence[str]) -> str:
    return ", ".join(shortest_names(layers, ()))
