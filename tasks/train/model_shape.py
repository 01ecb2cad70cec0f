"""What a model's config alone says of it: the shapes of its parts, counted on PyTorch's meta device.

No weights are read and nothing is fetched: the config comes from a file, from the model's folder, or from the
catalogue.
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
from tasks.train.config import TrainConfig

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

CATALOGUE = Path(__file__).with_name("model_catalogue.yaml")
Config = Mapping[str, Any]


@dataclass(frozen=True)
class Linear:
    """A linear layer: its name, its weight's shape, and whether it has a bias."""

    name: str
    inputs: int
    outputs: int
    has_bias: bool

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs


@dataclass(frozen=True)
class ModelShape:
    """What parameters and memory depend on; counts are of parameters, widths of a token's vectors.

    Attributes:
        family: ``model_type`` of the config.
        total_parameters: of the full-precision model; tied weights count once.
        linear: every linear layer but the head: what quantisation takes.
        targets: names, or last parts of names, of those that get an adapter.
        head: parameters of an output layer that is not tied to the embedding, else 0.
        biases: parameters of every bias.
        layers: decoder layers.
        embedding_width: of the input embedding, which virtual tokens stand beside.
        hidden, query, key_value, intermediate: widths of the residual stream, of all heads' queries, of all heads' keys
            (or values), and of the feed-forward layer, of every expert that a token takes.
        heads: of the queries.
        is_gated: whether the feed-forward layer multiplies two projections (SwiGLU and the like).
        vocabulary: width of the logits.
        is_quantised: whether the weights are stored in 4 bit already.
        stored_bytes: of a parameter on disk, unless it is quantised.
    """

    family: str
    total_parameters: int
    linear: tuple[Linear, ...]
    targets: tuple[str, ...]
    head: int
    biases: int
    layers: int
    embedding_width: int
    hidden: int
    query: int
    key_value: int
    intermediate: int
    heads: int
    is_gated: bool
    vocabulary: int
    is_quantised: bool
    stored_bytes: int

    @property
    def quantisable(self) -> int:
        """Weights of the linear layers without the head."""
        return sum(layer.weights for layer in self.linear)

    @property
    def adapted(self) -> tuple[Linear, ...]:
        """The layers that get an adapter, by PEFT's rule: the whole name, or its last parts."""
        return tuple(
            layer
            for layer in self.linear
            if any(layer.name == target or layer.name.endswith(f".{target}") for target in self.targets)
        )


def read_config(model: ModelSource, file: Path | None = None) -> Config:
    """The content of a model's ``config.json``.

    Args:
        model: what the recipe names.
        file: a ``config.json`` to take instead.

    Raises:
        ModelError: there is none, neither in the model's folder nor in the catalogue, or it is no JSON object.
    """
    path = file or (Path(model.path) / "config.json" if model.is_local else None)
    if path is None:
        if model.path in catalogue():
            return catalogue()[model.path]
        raise ModelError(
            f"The config of {model.path} is not at hand, and nothing is fetched",
            where="model.path",
            remedy="pass the repository's config.json: retune plan --model-config FILE; by heart are known:"
            f" {', '.join(catalogue())}",
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"The model's config cannot be read: {error.strerror}", where=str(path), remedy="name a config.json"
        ) from error
    except ValueError as error:
        raise ModelError(f"The model's config is no JSON: {error}", where=str(path)) from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise ModelError("The model's config names no model_type", where=str(path), remedy="name a model's config.json")
    return config


@cache
def catalogue() -> Mapping[str, Config]:
    """The configs of the catalogue by hub id."""
    configs = {}
    for entry in yaml.safe_load(CATALOGUE.read_text(encoding="utf-8")):
        for model in entry["models"]:
            quantised = {"quantization_config": {"load_in_4bit": True}} if model in entry.get("quantised", ()) else {}
            configs[model] = {**entry["config"], **quantised}
    return configs


def model_shape(config: Config, train: TrainConfig) -> ModelShape:
    """Build a model without weights and look at it.

    Args:
        config: of :func:`read_config`.
        train: names the layers that get an adapter.

    Raises:
        ModelError: transformers has no such architecture, or the model has no layer of a name that the recipe asks for.
    """
    settings, model = _empty_model(config)
    try:
        return _shape_of(config, settings, model, train)
    except AttributeError as error:
        raise ModelError(
            f"The planner does not know models of this kind: {error}",
            where=f"model_type {config['model_type']}",
            remedy="it plans transformers with attention heads; state space and recurrent models it does not",
        ) from error


def check_target_modules(model: ModelSource, train: TrainConfig) -> None:
    """Find out before anything starts whether a model has the layers that a recipe wants, as far as its config is here.

    Nothing is fetched, and no code of the model's own runs: where the recipe allows such code, where the config is not
    here, or a model cannot be built of it, all is left to the training.

    Raises:
        ModelError: as :func:`target_modules`.
    """
    from tasks.train.target_modules import is_known_family, target_modules

    wanted = train.target_modules
    if not train.training_method.is_low_rank or wanted == "all-linear" or model.trust_remote_code:
        return
    try:
        config = read_config(model)
        if wanted == "family" and is_known_family(str(config["model_type"])):
            return
        _, empty = _empty_model(config)
    except Exception:  # whatever the architecture's own code raises of a config that it cannot take
        return
    target_modules(empty, train)


def _shape_of(config: Config, settings: PreTrainedConfig, model: PreTrainedModel, train: TrainConfig) -> ModelShape:
    from tasks.train.target_modules import target_modules

    text = settings.get_text_config()
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    tied = head is not None and head.weight is embedding.weight
    linear = tuple(_linear_layers(model))
    heads = text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    feed_forward = _feed_forward_width(text)
    return ModelShape(
        family=str(config["model_type"]),
        total_parameters=sum(parameter.numel() for parameter in model.parameters()),
        linear=linear,
        targets=tuple(target_modules(model, train)) if train.training_method.is_low_rank else (),
        head=0 if head is None or tied else sum(parameter.numel() for parameter in head.parameters()),
        biases=sum(parameter.numel() for name, parameter in model.named_parameters() if name.endswith("bias")),
        layers=text.num_hidden_layers,
        embedding_width=embedding.weight.shape[1],
        hidden=text.hidden_size,
        query=heads * width,
        key_value=(getattr(text, "num_key_value_heads", None) or heads) * width,
        intermediate=feed_forward * (getattr(text, "num_experts_per_tok", None) or 1),
        heads=heads,
        is_gated=any("gate" in name or ".w3." in name for name, _ in model.named_parameters()),
        vocabulary=text.vocab_size,
        is_quantised=bool(config.get("quantization_config")),
        stored_bytes=4 if str(config.get("dtype", config.get("torch_dtype"))).endswith("float32") else 2,
    )


def _empty_model(config: Config) -> tuple[PreTrainedConfig, PreTrainedModel]:
    """The architecture on the meta device: shapes, and no memory."""
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
        raise ModelError(
            f"transformers cannot build a causal language model of this config: {error}",
            where=f"model_type {config['model_type']}",
            remedy="the planner knows the architectures that transformers has classes for",
        ) from error
    return settings, model


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep back what the libraries say of parts that a plan does not use, such as kernels for other machines."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _linear_layers(model: PreTrainedModel) -> list[Linear]:
    """Every linear layer but the head; transformers' Conv1D (GPT-2) is one with its weight transposed."""
    import torch
    from transformers.pytorch_utils import Conv1D

    found = []
    for name, module in model.named_modules():
        if module is model.get_output_embeddings() or not isinstance(module, torch.nn.Linear | Conv1D):
            continue
        first, second = module.weight.shape
        outputs, inputs = (second, first) if isinstance(module, Conv1D) else (first, second)
        found.append(Linear(name, inputs, outputs, module.bias is not None))
    return found


def _feed_forward_width(text: Any) -> int:
    """The feed-forward layer's width under the names that families give it; four times the hidden size by default."""
    for name in ("moe_intermediate_size", "intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner"):
        if isinstance(width := getattr(text, name, None), int):
            return width
    return 4 * int(text.hidden_size)
