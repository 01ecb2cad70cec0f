"""Which options go together: by method, backend and device; each refusal says what to use instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tasks.train.config import TrainConfig

Device = Literal["cpu", "cuda"]
LORA = ("qlora", "lora")
LORA_OPTIONS = ("rank", "alpha", "dropout", "bias", "use_rslora", "use_dora", "init_weights", "lora_plus_ratio")
QUANTISATION_OPTIONS = ("quant_type", "double_quantisation")


def refusals(config: TrainConfig) -> Iterator[str]:
    """What the recipe asks for and the method or the backend cannot do, one sentence each; no device is looked at."""
    yield from _refused_by_method(config)
    if config.backend == "unsloth" and (reason := why_not_unsloth(config)):
        yield f"{reason}: use backend transformers, or auto"


def device_refusals(config: TrainConfig, device: Device) -> Iterator[str]:
    """What cannot be had on this machine's device, one sentence each."""
    if device == "cuda":
        return
    if config.optimizer.startswith("paged_"):
        plain = "adamw_8bit" if config.optimizer.endswith("8bit") else "adamw_torch_fused"
        yield f"optimizer {config.optimizer} pages the memory of a GPU, and there is none: use {plain}, or auto"
    if config.backend == "unsloth" and (reason := why_not_unsloth(config, device)):
        yield f"{reason}: use backend transformers, or auto"


def first_backend(config: TrainConfig, device: Device) -> str:
    """The backend that is tried first: the named one, or for auto Unsloth where it supports all that is asked for."""
    if config.backend != "auto":
        return config.backend
    return "transformers" if why_not_unsloth(config, device) else "unsloth"


def why_not_unsloth(config: TrainConfig, device: Device | None = None) -> str | None:
    """What Unsloth does not support of this configuration, or None; without a device, on any.

    Source: Unsloth 2026.10.9. Its CPU backend turns packing off, and takes adamw_torch_fused for 8-bit optimizers.
    """
    if config.method not in LORA:
        return f"unsloth trains low-rank adapters only, not method {config.method}"
    if config.use_dora:
        return "unsloth's kernels leave out DoRA's magnitudes"
    if config.init_weights != "default":
        return f"unsloth does not initialise the update by {config.init_weights}"
    if config.method == "qlora" and config.quant_type != "nf4":
        return "unsloth quantises to nf4 only"
    if config.method == "qlora" and not config.double_quantisation:
        return "unsloth always quantises doubly"
    if config.processes > 1:
        return "unsloth trains in one process only"
    if device == "cpu" and config.packing:
        return "unsloth packs no rows on a CPU"
    if device == "cpu" and config.optimizer == "adamw_8bit" and config.backend == "auto":
        return "unsloth replaces 8-bit optimizers on a CPU"
    return None


def _refused_by_method(config: TrainConfig) -> Iterator[str]:
    stated = {name for name, field in type(config).model_fields.items() if getattr(config, name) != field.default}
    if config.method not in LORA:
        for name in (*LORA_OPTIONS, "target_modules"):
            if name in stated:
                yield f"{name} is an option of low-rank updates, not of method {config.method}: remove it, or use lora"
    if config.method != "qlora":
        for name in QUANTISATION_OPTIONS:
            if name in stated:
                yield f"{name} is an option of a quantised base, and method {config.method} has none: use method qlora"
    if config.method != "prompt_tuning" and "virtual_tokens" in stated:
        yield f"virtual_tokens is an option of prompt_tuning, not of method {config.method}: remove it"
    if config.init_weights == "loftq" and config.method != "qlora":
        yield "loftq makes up for the error of quantisation, and the base is not quantised: use method qlora, or pissa"
    if config.init_weights == "pissa" and config.method == "qlora":
        yield "pissa takes its vectors out of the base, which a quantised one does not allow: use method lora, or loftq"
    if config.initial_adapter == "champion":
        if config.method == "full":
            yield "method full has no adapter to go on from: use initial_adapter fresh"
        if config.init_weights != "default":
            yield f"the champion's weights replace those of {config.init_weights}: use init_weights default"
    if config.init_weights == "pissa" and (config.use_dora or config.bias != "none"):
        yield "a pissa adapter is written without magnitudes and biases: use use_dora false, bias none"
    if config.over_length == "split" and config.train_on in ("last_turn", "completion"):
        yield "each piece of a split row has a last turn of its own: use train_on assistant, or over_length drop"
    if config.sharding == "fsdp" and config.processes == 1:
        yield "fsdp shares a model among processes, and there is one: use processes 2 or more, or sharding none"
    if config.sharding == "fsdp" and config.method not in LORA:
        yield f"method {config.method} is not sharded: use sharding none, or method lora or qlora"
    if config.sharding == "fsdp" and (option := _not_sharded(config)):
        yield f"{option} does not go with shards of the model: use its default, or sharding none"
    if config.packing and config.method == "prompt_tuning":
        yield "the virtual tokens stand once before a sequence, so rows cannot be packed: use packing false"


def _not_sharded(config: TrainConfig) -> str | None:
    """An option that needs whole weights, or makes the weights of a layer unlike each other."""
    if config.lora_plus_ratio is not None:
        return "lora_plus_ratio"
    if config.bias != "none":
        return f"bias {config.bias}"
    return None if config.init_weights == "default" else f"init_weights {config.init_weights}"
