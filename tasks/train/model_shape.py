"""The shapes of a model's parts from its config alone, counted on PyTorch's meta device.

No weights are read and nothing is downloaded: the config comes from a file, the model's folder, or the catalogue.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tasks.core.config import ModelSource
from tasks.core.errors import ModelError
from tasks.core.home import Home, recipe_of_night
from tasks.train.config import TrainConfig
from tasks.train.target_modules import chosen_layers, linear_modules, target_modules

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

CATALOGUE = Path(__file__).with_name("model_catalogue.yaml")
Config = Mapping[str, Any]
COMPUTED = ("llama", "qwen2")
COMPUTED_FROM = {
    "hidden_size", "intermediate_size", "vocab_size", "num_attention_heads", "num_key_value_heads",
    "num_hidden_layers", "tie_word_embeddings",
}  # fmt: skip
"""The families whose shape is computed, from configs that have all these keys."""


@dataclass(frozen=True)
class Linear:
    name: str
    inputs: int
    outputs: int
    has_bias: bool

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs


@dataclass(frozen=True)
class ModelShape:
    """The numbers that parameters and memory depend on.

    ``total_parameters`` are those of the full-precision model, tied weights once; ``linear`` the layers except the
    head, which quantisation applies to; ``targets`` names, or last parts of names, of the layers that get an adapter;
    ``biases`` the parameters of all biases; ``layers`` the number of decoder layers. The widths are those of the input
    embedding, the residual stream (``hidden``), all heads' queries, all heads' keys, the feed-forward layers that a
    token passes, and the logits (``vocabulary``). ``is_gated``: the feed-forward layer multiplies two projections, as
    SwiGLU does; ``is_quantised``: weights are stored in 4 bit; ``stored_bytes`` are those of an unquantised parameter
    on disk.
    """

    family: str
    total_parameters: int
    linear: tuple[Linear, ...]
    targets: tuple[str, ...]
    biases: int
    layers: int
    embedding_width: int
    hidden: int
    query: int
    key_value: int
    intermediate: int
    is_gated: bool
    vocabulary: int
    is_quantised: bool
    stored_bytes: int

    @property
    def quantisable(self) -> int:
        return sum(layer.weights for layer in self.linear)

    @property
    def adapted(self) -> tuple[Linear, ...]:
        """The layers that get an adapter; PEFT matches whole names or their last parts."""
        return tuple(
            layer
            for layer in self.linear
            if any(layer.name == target or layer.name.endswith(f".{target}") for target in self.targets)
        )


def read_config(model: ModelSource, file: Path | None = None) -> Config:
    """The content of ``file``, or of the ``config.json`` of the model's folder or the catalogue; or a ModelError."""
    path = file or (Path(model.path) / "config.json" if model.is_local else None)
    if path is None:
        if model.path in catalogue():
            return catalogue()[model.path]
        plan = Home.from_environment().command("plan", "--model-config", "FILE", recipe=recipe_of_night())
        remedy = f"pass the repository's config.json: {plan}; the catalogue has {', '.join(catalogue())}"
        raise ModelError(f"The config of {model.path} is not available offline", where="model.path", remedy=remedy)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        what = f"The model's config cannot be read: {error.strerror}"
        raise ModelError(what, where=str(path), remedy="name a config.json") from error
    except ValueError as error:
        raise ModelError(f"The model's config is not valid JSON: {error}", where=str(path)) from error
    if not isinstance(config, dict) or "model_type" not in config:
        what = "The model's config does not name a model_type"
        raise ModelError(what, where=str(path), remedy="name a model's config.json")
    return config


@cache
def catalogue() -> Mapping[str, Config]:
    configs = {}
    for entry in yaml.safe_load(CATALOGUE.read_text(encoding="utf-8")):
        for model in entry["models"]:
            quantised = {"quantization_config": {"load_in_4bit": True}} if model in entry.get("quantised", ()) else {}
            configs[model] = {**entry["config"], **quantised}
    return configs


def model_shape(config: Config, train: TrainConfig) -> ModelShape:
    """The shape of a model, with the layers that ``train`` names; or a ModelError, if it lacks one or is not known."""
    is_computed = config["model_type"] in COMPUTED and config.keys() >= COMPUTED_FROM
    return computed_shape(config, train) if is_computed else built_shape(config, train)


def computed_shape(config: Config, train: TrainConfig) -> ModelShape:
    """The shape of a Llama or Qwen2 model from its config: importing transformers would take seconds."""
    hidden, feed_forward, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads, count = config["num_attention_heads"], config["num_hidden_layers"]
    width = config.get("head_dim") or hidden // heads
    query, key_value = heads * width, config["num_key_value_heads"] * width
    sizes = {
        "self_attn.q_proj": (hidden, query), "self_attn.k_proj": (hidden, key_value),
        "self_attn.v_proj": (hidden, key_value), "self_attn.o_proj": (query, hidden),
        "mlp.gate_proj": (hidden, feed_forward), "mlp.up_proj": (hidden, feed_forward),
        "mlp.down_proj": (feed_forward, hidden),
    }  # fmt: skip
    biased = {name for name in sizes if config.get(f"{name.partition('.')[0].replace('self_attn', 'attention')}_bias")}
    if config["model_type"] == "qwen2":
        biased = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}
    linear = tuple(
        Linear(f"model.layers.{at}.{name}", *size, name in biased)
        for at in range(count)
        for name, size in sizes.items()
    )
    names = [layer.name for layer in linear]
    targets: tuple[str, ...] = ()
    if train.training_method.is_low_rank:
        targets = chosen_layers(train.target_modules, config["model_type"], vocabulary, names, [*names, "lm_head"])
    biases = sum(layer.outputs for layer in linear if layer.has_bias)
    embeddings = vocabulary * hidden * (1 if config["tie_word_embeddings"] else 2)
    return ModelShape(
        family=config["model_type"],
        total_parameters=embeddings + hidden * (2 * count + 1) + biases + sum(layer.weights for layer in linear),
        linear=linear,
        targets=targets,
        biases=biases,
        layers=count,
        embedding_width=hidden,
        hidden=hidden,
        query=query,
        key_value=key_value,
        intermediate=feed_forward,
        is_gated=True,
        vocabulary=vocabulary,
        **_storage(config),
    )


def built_shape(config: Config, train: TrainConfig) -> ModelShape:
    settings, model = empty_model(config)
    try:
        return _shape_of(config, settings, model, train)
    except AttributeError as error:
        what = f"The planner does not support models of this kind: {error}"
        remedy = "it plans transformers with attention heads, not state space or recurrent models"
        raise ModelError(what, where=f"model_type {config['model_type']}", remedy=remedy) from error


def _shape_of(config: Config, settings: PreTrainedConfig, model: PreTrainedModel, train: TrainConfig) -> ModelShape:
    text = settings.get_text_config()
    heads = text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    return ModelShape(
        family=str(config["model_type"]),
        total_parameters=sum(parameter.numel() for parameter in model.parameters()),
        linear=tuple(_linear_layers(model)),
        targets=tuple(target_modules(model, train)) if train.training_method.is_low_rank else (),
        biases=sum(parameter.numel() for name, parameter in model.named_parameters() if name.endswith("bias")),
        layers=text.num_hidden_layers,
        embedding_width=model.get_input_embeddings().weight.shape[1],
        hidden=text.hidden_size,
        query=heads * width,
        key_value=(getattr(text, "num_key_value_heads", None) or heads) * width,
        intermediate=_feed_forward_width(text) * (getattr(text, "num_experts_per_tok", None) or 1),
        is_gated=any("gate" in name or ".w3." in name for name, _ in model.named_parameters()),
        vocabulary=text.vocab_size,
        **_storage(config),
    )


def _storage(config: Config) -> dict[str, Any]:
    is_float32 = str(config.get("dtype", config.get("torch_dtype"))).endswith("float32")
    return {"is_quantised": bool(config.get("quantization_config")), "stored_bytes": 4 if is_float32 else 2}


def empty_model(config: Config) -> tuple[PreTrainedConfig, PreTrainedModel]:
    plain = {key: value for key, value in config.items() if key not in ("quantization_config", "auto_map")}
    try:
        with _without_warnings():
            import torch
            from transformers import AutoConfig, AutoModelForCausalLM

            settings = AutoConfig.for_model(plain.pop("model_type"), **plain)
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(settings)
            model.tie_weights()
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        what = f"transformers cannot build a causal language model from this config: {error}"
        remedy = "the planner supports the architectures that transformers has classes for"
        raise ModelError(what, where=f"model_type {config['model_type']}", remedy=remedy) from error
    return settings, model


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Suppress the libraries' warnings about parts that a plan does not use, such as kernels for other machines."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _linear_layers(model: PreTrainedModel) -> list[Linear]:
    from transformers.pytorch_utils import Conv1D

    found = []
    for name, module in linear_modules(model):
        if module is not model.get_output_embeddings():
            first, second = module.weight.shape
            outputs, inputs = (second, first) if isinstance(module, Conv1D) else (first, second)
            found.append(Linear(name, inputs, outputs, module.bias is not None))
    return found


def _feed_forward_width(text: Any) -> int:
    """The width by the name that the family uses; four times the hidden size by default."""
    for name in ("moe_intermediate_size", "intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner"):
        if isinstance(width := getattr(text, name, None), int):
            return width
    return 4 * int(text.hidden_size)
