"""Loading a base model with plain transformers, quantised or not, for training and for merging."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from tasks.core.config import ModelSource, Section
from tasks.core.errors import ModelError
from tasks.core.remote_code import check_remote_code

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Quantisation(Section):
    """4-bit settings of bitsandbytes."""

    quant_type: Literal["nf4", "fp4"] = "nf4"
    double_quantisation: bool = True


def pinned(model: ModelSource) -> dict[str, Any]:
    """What ``from_pretrained`` needs beside the path: the revision of weights and code, and whether code may be run.

    Left to itself, transformers asks on the terminal.
    """
    return {"revision": model.revision, "trust_remote_code": model.trust_remote_code}


def require_allowed_code(model: ModelSource, local_files_only: bool = False) -> dict[str, Any]:
    """Find out, before anything of a model is loaded, whether the recipe allows the code that this would run.

    Args:
        local_files_only: ask no hub; what was downloaded before is read.

    Returns:
        the content of its ``config.json``.

    Raises:
        ModelError: the model or its tokenizer needs code of its own which the recipe does not allow, or which nothing
            pins; or their configs cannot be read.
    """
    from transformers import PreTrainedConfig
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    where: dict[str, Any] = {"revision": model.revision, "local_files_only": local_files_only}
    config: dict[str, Any]
    try:
        config, _ = PreTrainedConfig.get_config_dict(model.path, **where)
        tokenizer = get_tokenizer_config(model.path, **where)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The model's config cannot be read: {error}",
            where=model.path,
            remedy="check model.path and model.revision",
        ) from error
    check_remote_code(model, config, tokenizer)
    return config


def load_base(
    model: ModelSource, dtype: torch.dtype, quantisation: Quantisation | None, to_be_sharded: bool = False
) -> PreTrainedModel:
    """Load a base model on this process's device: its GPU, the first one where it is alone, or the CPU.

    Args:
        model: folder or hub id; a hub repository that is quantised already keeps its own settings.
        dtype: of everything that is not quantised, and of the computation.
        quantisation: None loads the weights as they are.
        to_be_sharded: FSDP will move it, and wants 4-bit weights stored as ``dtype``.

    Raises:
        ModelError: the model is quantised although a full one was asked for, it cannot be loaded, or it needs code of
            its own that the recipe does not allow.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

    require_allowed_code(model)
    try:
        config = AutoConfig.from_pretrained(model.path, **pinned(model))
        quantised_already = getattr(config, "quantization_config", None) is not None
        if quantised_already and quantisation is None:
            raise ModelError(
                "The base model is quantised already",
                where=model.path,
                remedy="name its 16-bit original, or use method qlora",
            )
        if quantised_already and to_be_sharded:
            raise ModelError(
                "The base model is quantised already, and not in a form that can be shared among processes",
                where=model.path,
                remedy="name its 16-bit original: it is quantised as FSDP needs it; or use sharding none",
            )
        settings = {}
        if quantisation is not None and not quantised_already:
            give_falcon_plain_layers()
            settings["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type=quantisation.quant_type,
                bnb_4bit_use_double_quant=quantisation.double_quantisation,
                bnb_4bit_compute_dtype=dtype,
                bnb_4bit_quant_storage=dtype if to_be_sharded else torch.uint8,
            )
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
        place = {} if to_be_sharded else {"device_map": {"": device}}
        loaded = AutoModelForCausalLM.from_pretrained(model.path, **pinned(model), dtype=dtype, **place, **settings)
    except (OSError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"The base model cannot be loaded: {error}", where=model.path, remedy="check model.path and model.revision"
        ) from error
    keep_weights_unpacked(loaded)
    return loaded


def load_tokenizer(model: ModelSource) -> PreTrainedTokenizerBase:
    """The base model's tokenizer, padding on the right; it always has a padding token.

    Raises:
        ModelError: it cannot be loaded, or needs code of its own that the recipe does not allow.
    """
    from transformers import AutoTokenizer

    require_allowed_code(model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(model.path, **pinned(model), padding_side="right")
    except Exception as error:  # tokenizers raises nothing more particular
        raise ModelError(
            f"The tokenizer cannot be loaded: {error}", where=model.path, remedy="check model.path and model.revision"
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def give_falcon_plain_layers() -> None:
    """Let Falcon be built of PyTorch's own linear layers, which compute the same as its subclass of them.

    transformers 5.17 quantises a layer whose type is ``torch.nn.Linear`` itself, and leaves Falcon in 16 bit.
    """
    import torch
    from transformers.models.falcon import modeling_falcon

    modeling_falcon.FalconLinear = torch.nn.Linear


def quantised_layers(model: torch.nn.Module) -> int:
    """How many of a model's layers really are bitsandbytes 4-bit layers."""
    from bitsandbytes.nn import Linear4bit

    return sum(isinstance(module, Linear4bit) for module in model.modules())


def keep_weights_unpacked(model: torch.nn.Module) -> None:
    """Stop bitsandbytes from repacking 4-bit weights on CPUs with AVX512-BF16.

    It repacks them in place on the first forward pass without gradients and never unpacks them: training and
    dequantisation would then read garbage (bitsandbytes 0.50; Unsloth does the same on its CPU backend).
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
