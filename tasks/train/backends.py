"""The two backends that load a base for training: Unsloth, and plain transformers + PEFT + bitsandbytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tasks.core import base_model
from tasks.core.config import ModelSource
from tasks.core.errors import ModelError
from tasks.core.merging.trained import require_own_head
from tasks.core.processes import emit
from tasks.core.stops import mend_generation_config
from tasks.train.adapters import add_adapter, init_adapter, load_champion
from tasks.train.config import Device, TrainConfig, first_backend
from tasks.train.resource_checks import is_out_of_memory
from tasks.train.target_modules import target_modules


@dataclass(frozen=True)
class Trainable:
    """A PEFT model (with method full, a plain model) ready for training, and how it was loaded."""

    model: Any
    tokenizer: Any
    dtype: torch.dtype
    checkpointing: bool
    backend: str


def current_device() -> Device:
    return "cuda" if torch.cuda.is_available() else "cpu"


def compute_dtype(config: TrainConfig) -> torch.dtype:
    if config.compute_dtype == "auto":
        fits = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fits else torch.float32
    return torch.bfloat16 if config.compute_dtype == "bfloat16" else torch.float32


def load_trainable(
    config: TrainConfig, model: ModelSource, seed: int, work: Path, initial: str | None = None
) -> Trainable:
    """The base model with its trainable parameters; with backend auto, transformers loads what Unsloth cannot.

    ``work`` is shared with later attempts; ``initial`` is the PEFT folder of the adapter to continue. Raises
    ModelError: the model cannot be loaded, needs code that the recipe does not allow, could not be served with virtual
    tokens, has no quantised layer, or lacks a named layer; or the initial adapter does not fit.
    """
    config_of_model, method = base_model.require_allowed_code(model), config.training_method
    if method.adds_virtual_tokens:  # for a hub model, this is the first check of the family
        require_own_head(config_of_model.get("model_type"), model.path)
    backend = first_backend(config, current_device())
    try:
        load = _load_with_unsloth if backend == "unsloth" else _load_with_transformers
        trainable = load(config, model, seed, work)
    except ModelError as error:
        if config.backend != "auto" or backend == "transformers":
            raise
        emit(note=f"{error.what.splitlines()[0]}; loading it with plain transformers")
        trainable = _load_with_transformers(config, model, seed, work)
    if method.quantises_base and not base_model.quantised_layers(trainable.model):
        remedy = "bitsandbytes needs a hidden size of at least 64; use method lora for smaller models"
        raise ModelError("No layer of the model was quantised to 4 bit", where=model.path, remedy=remedy)
    if initial is not None:
        load_champion(trainable.model, Path(initial), config)
    return trainable


def _load_with_unsloth(config: TrainConfig, source: ModelSource, seed: int, work: Path) -> Trainable:
    from unsloth import FastLanguageModel

    dtype = compute_dtype(config)
    checkpointing = config.use_gradient_checkpointing
    if checkpointing == "unsloth" and not torch.cuda.is_available():
        checkpointing = False  # it offloads activations to main memory, where they are already
    base_model.give_falcon_plain_layers()
    try:
        base, _ = FastLanguageModel.from_pretrained(
            source.path,
            revision=source.revision,
            max_seq_length=config.max_length,
            dtype=dtype,
            load_in_4bit=config.training_method.quantises_base,
            use_gradient_checkpointing=checkpointing,
            use_exact_model_name=True,
            trust_remote_code=source.trust_remote_code,
        )
    except (OSError, ValueError, RuntimeError, NotImplementedError) as error:
        if is_out_of_memory(error):
            raise
        what = f"Unsloth cannot load the base model: {error}"
        raise ModelError(what, where=source.path, remedy="try backend: transformers") from error
    model = FastLanguageModel.get_peft_model(
        base,
        r=config.rank,
        target_modules=list(target_modules(base, config)),
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        bias=config.bias,
        use_gradient_checkpointing=checkpointing,
        random_state=seed,
        use_rslora=config.use_rslora,
        loftq_config=None,
    )
    mend_generation_config(base)
    # Unsloth's own has the length of this training and a padding token of its own.
    return Trainable(model, base_model.padding_tokenizer(source), dtype, bool(checkpointing), "unsloth")


def _load_with_transformers(config: TrainConfig, source: ModelSource, seed: int, work: Path) -> Trainable:
    from peft import prepare_model_for_kbit_training
    from transformers import set_seed

    dtype, method = compute_dtype(config), config.training_method
    quantisation = None
    if method.quantises_base:
        quantisation = base_model.Quantisation(
            quant_type=config.quant_type, double_quantisation=config.double_quantisation
        )
    wanted = config.use_gradient_checkpointing
    checkpointing = torch.cuda.is_available() if wanted == "unsloth" else wanted
    # A full fine-tuning keeps its weights in float32 and computes in dtype: bfloat16 cannot hold its small updates.
    stored_dtype = torch.float32 if method.trains_all_weights else dtype
    base = base_model.load_base(source, stored_dtype, quantisation, to_be_sharded=config.sharding == "fsdp")
    base.config.use_cache = False
    if config.sharding == "fsdp":
        _prepare_for_shards(base, checkpointing)
    elif quantisation is not None:
        base = prepare_model_for_kbit_training(
            base,
            use_gradient_checkpointing=checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False} if checkpointing else None,
        )
    set_seed(seed)
    model = base if method.trains_all_weights else add_adapter(base, config)
    init_adapter(model, config, source, work)
    return Trainable(model, base_model.padding_tokenizer(source), dtype, checkpointing, "transformers")


def _prepare_for_shards(base: Any, checkpointing: bool) -> None:
    """Freeze a base and keep its dtypes: FSDP flattens a layer's weights, which must share one.

    PEFT's preparation would cast norms and biases to float32, while the 4-bit weights are stored in bfloat16.
    """
    base.requires_grad_(False)
    base.enable_input_require_grads()
    if checkpointing:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
