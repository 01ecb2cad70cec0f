"""Load a base model with plain transformers, quantised or not, for training and for merging."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from tasks.core.config import ModelSource, Section
from tasks.core.errors import ModelError
from tasks.core.remote_code import check_remote_code
from tasks.core.stops import mend_generation_config

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


class Quantisation(Section):
    """4-bit settings of bitsandbytes."""

    quant_type: Literal["nf4", "fp4"] = "nf4"
    double_quantisation: bool = True


def pinned(model: ModelSource) -> dict[str, Any]:
    """Arguments of ``from_pretrained``: the revision of weights and code, and whether the model's own code may run.

    Without the second, transformers asks on the terminal.
    """
    return {"revision": model.revision, "trust_remote_code": model.trust_remote_code}


def require_allowed_code(model: ModelSource, local_files_only: bool = False) -> dict[str, Any]:
    """Check, before a model is loaded, that the recipe allows the Python code that loading would run.

    Returns the content of its ``config.json``. ``local_files_only``: do not ask the hub.

    Raises ModelError: the model or its tokenizer needs its own code, which the recipe does not allow or does not pin;
    or their configs cannot be read.
    """
    from transformers import PreTrainedConfig
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    where: dict[str, Any] = {"revision": model.revision, "local_files_only": local_files_only}
    config: dict[str, Any]
    try:
        config, _ = PreTrainedConfig.get_config_dict(model.path, **where)
        tokenizer = get_tokenizer_config(model.path, **where)
    except (OSError, ValueError) as error:
        raise _unusable("The model's config cannot be read", model, error) from error
    check_remote_code(model, config, tokenizer)
    return config


def load_config(model: ModelSource) -> PreTrainedConfig:
    """A model's config. Raises ModelError: it cannot be loaded, or needs code that the recipe does not allow."""
    from transformers import AutoConfig

    require_allowed_code(model)
    try:
        return AutoConfig.from_pretrained(model.path, **pinned(model))
    except (OSError, ValueError) as error:
        raise _unusable("The model's config cannot be loaded", model, error) from error


def load_base(
    model: ModelSource, dtype: torch.dtype, quantisation: Quantisation | None, to_be_sharded: bool = False
) -> PreTrainedModel:
    """Load a base model on this process's device: the GPU of its rank (the first by default), or the CPU.

    Args:
        model: folder or hub id; a hub repository that is already quantised keeps its own settings.
        dtype: of the weights that are not quantised, and of the computation.
        quantisation: None loads the weights as they are.
        to_be_sharded: FSDP will shard it, and needs 4-bit weights stored as ``dtype``.

    Raises ModelError: the model is quantised although a full one was asked for, it cannot be loaded, or it needs its
    own code, which the recipe does not allow.
    """
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    is_quantised = getattr(load_config(model), "quantization_config", None) is not None
    if is_quantised and quantisation is None:
        raise ModelError(
            "The base model is quantised already",
            where=model.path,
            remedy="name its 16-bit original, or use method qlora",
        )
    if is_quantised and to_be_sharded:
        raise ModelError(
            "The base model is quantised already, in a form that processes cannot share",
            where=model.path,
            remedy="name its 16-bit original, which is then quantised as FSDP needs it; or use sharding none",
        )
    settings = {}
    if quantisation is not None and not is_quantised:
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
    try:
        loaded = AutoModelForCausalLM.from_pretrained(model.path, **pinned(model), dtype=dtype, **place, **settings)
    except (OSError, ValueError) as error:
        raise _unusable("The base model cannot be loaded", model, error) from error
    keep_weights_unpacked(loaded)
    mend_generation_config(loaded)
    return loaded


def load_tokenizer(model: ModelSource) -> PreTrainedTokenizerBase:
    """The base model's tokenizer, as it is; else a ModelError."""
    from transformers import AutoTokenizer

    require_allowed_code(model)
    try:
        return AutoTokenizer.from_pretrained(model.path, **pinned(model))
    except Exception as error:  # the tokenizers library raises no narrower type
        raise _unusable("The tokenizer cannot be loaded", model, error) from error


def padding_tokenizer(model: ModelSource) -> PreTrainedTokenizerBase:
    """The base model's tokenizer for batches: it pads on the right, always with a token; else a ModelError."""
    tokenizer = load_tokenizer(model)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _unusable(what: str, model: ModelSource, error: Exception) -> ModelError:
    return ModelError(f"{what}: {error}", where=model.path, remedy="check model.path and model.revision")


def give_falcon_plain_layers() -> None:
    """Build Falcon of plain ``torch.nn.Linear`` layers, which compute the same as its subclass.

    transformers 5.17 quantises only layers of exactly that type, and leaves Falcon in 16 bit.
    """
    import torch
    from transformers.models.falcon import modeling_falcon

    modeling_falcon.FalconLinear = torch.nn.Linear


def quantised_layers(model: torch.nn.Module) -> int:
    from bitsandbytes.nn import Linear4bit

    return sum(isinstance(module, Linear4bit) for module in model.modules())


def keep_weights_unpacked(model: torch.nn.Module) -> None:
    """Stop bitsandbytes from repacking 4-bit weights on CPUs with AVX512-BF16.

    It repacks them in place on the first forward pass without gradients and never unpacks them: training and
    dequantisation would then read garbage (bitsandbytes 0.50). Unsloth has the same workaround for CPUs.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
