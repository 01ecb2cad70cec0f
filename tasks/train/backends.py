"""The two ways to load a base with a fresh adapter on it: Unsloth, and plain transformers + PEFT + bitsandbytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.core.base_model import Quantisation, load_base, load_tokenizer, quantised_layers
from tasks.core.config import ModelSource
from tasks.core.errors import ModelError
from tasks.train.config import TrainConfig

if TYPE_CHECKING:
    import torch

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Trainable:
    """A model ready for training.

    Attributes:
        model: a PEFT model.
        tokenizer: the base model's, padding on the right.
        dtype: of the computation.
        checkpointing: whether activations are recomputed.
    """

    model: Any
    tokenizer: Any
    dtype: torch.dtype
    checkpointing: bool


def compute_dtype(config: TrainConfig) -> torch.dtype:
    """The dtype of the computation on this machine."""
    import torch

    if config.compute_dtype == "auto":
        fits = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fits else torch.float32
    return torch.bfloat16 if config.compute_dtype == "bfloat16" else torch.float32


def load_trainable(config: TrainConfig, model: ModelSource, seed: int) -> Trainable:
    """The base model with a new adapter on it.

    Raises:
        ModelError: the model cannot be loaded, is not really quantised, or has no layer of a named kind.
    """
    load = _load_with_unsloth if config.backend == "unsloth" else _load_with_transformers
    trainable = load(config, model, seed)
    if config.method == "qlora" and not quantised_layers(trainable.model):
        raise ModelError(
            "No layer of the model was quantised to 4 bit",
            where=model.path,
            remedy="bitsandbytes needs a hidden size of at least 64; use method lora for smaller models",
        )
    return trainable


def _load_with_unsloth(config: TrainConfig, source: ModelSource, seed: int) -> Trainable:
    import torch
    from unsloth import FastLanguageModel

    dtype = compute_dtype(config)
    # 'unsloth' offloads activations to the host's memory; on a CPU they are there already, recomputing only costs time.
    on_cpu = not torch.cuda.is_available()
    checkpointing = (
        False if on_cpu and config.use_gradient_checkpointing == "unsloth" else config.use_gradient_checkpointing
    )
    try:
        base, tokenizer = FastLanguageModel.from_pretrained(
            source.path,
            revision=source.revision,
            max_seq_length=config.max_length,
            dtype=dtype,
            load_in_4bit=config.method == "qlora",
            use_gradient_checkpointing=checkpointing,
            use_exact_model_name=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        if "out of memory" in str(error):
            raise
        raise ModelError(
            f"Unsloth cannot load the base model: {error}", where=source.path, remedy="try backend: transformers"
        ) from error
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
    return Trainable(model, tokenizer, dtype, bool(checkpointing))


def _load_with_transformers(config: TrainConfig, source: ModelSource, seed: int) -> Trainable:
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import set_seed

    dtype = compute_dtype(config)
    quantisation = None
    if config.method == "qlora":
        quantisation = Quantisation(quant_type=config.quant_type, double_quantisation=config.double_quantisation)
    wanted = config.use_gradient_checkpointing
    checkpointing = torch.cuda.is_available() if wanted == "unsloth" else wanted
    base = load_base(source, dtype, quantisation)
    base.config.use_cache = False
    if quantisation is not None:
        base = prepare_model_for_kbit_training(
            base,
            use_gradient_checkpointing=checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False} if checkpointing else None,
        )
    set_seed(seed)
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        bias=config.bias,
        use_rslora=config.use_rslora,
        target_modules=list(target_modules(base, config)),
        task_type="CAUSAL_LM",
    )
    return Trainable(get_peft_model(base, lora), load_tokenizer(source), dtype, checkpointing)


def target_modules(model: Any, config: TrainConfig) -> tuple[str, ...]:
    """Names of the layers that get an adapter.

    Raises:
        ModelError: the model has no linear layer of a name that the recipe asks for.
    """
    present = linear_layers(model)
    if config.target_modules == "all-linear":
        return PROJECTIONS if present.issuperset(PROJECTIONS) else tuple(sorted(present))
    if missing := sorted(set(config.target_modules) - present):
        raise ModelError(
            f"The model has no linear layer named {', '.join(missing)}",
            where="train.target_modules",
            remedy=f"its linear layers are {', '.join(sorted(present))}; or write all-linear",
        )
    return config.target_modules


def linear_layers(model: Any) -> set[str]:
    """Last parts of the names of the model's linear layers, without its head."""
    import torch

    head = model.get_output_embeddings()
    return {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }
