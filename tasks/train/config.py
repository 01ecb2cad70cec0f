"""The ``train`` section of a recipe, and which of its options go together: by method, backend and device."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, model_validator

from tasks.core.config import Section
from tasks.core.methods import METHODS, Method, TrainingMethod

Backend = Literal["auto", "unsloth", "transformers"]
Optimizer = Literal["auto", "adamw_torch", "adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit"]
Device = Literal["cpu", "cuda"]
Group = Literal["collected", "generated", "replay"]


class MixConfig(Section):
    """Shares of the training rows by origin; rows are repeated or left out to reach them."""

    shares: dict[Group, float] = Field(
        default_factory=dict, description="share of the rows by group, summing to 1; empty: no mixing"
    )
    replay: tuple[str, ...] = Field((), description="names of collect.sources with general data against forgetting")
    source_weights: dict[str, float] = Field(
        default_factory=dict, description="weight of a row of a source within its group; others weigh 1"
    )
    max_upsampling: float = Field(4.0, ge=1, description="how often a row is used at most")

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if any(share < 0 for share in self.shares.values()) or any(w < 0 for w in self.source_weights.values()):
            raise ValueError("shares and weights cannot be negative")
        if self.shares and abs(sum(self.shares.values()) - 1) > 1e-6:
            raise ValueError(f"the shares sum to {sum(self.shares.values()):g}: make them sum to 1")
        if self.shares.get("replay") and not self.replay:
            raise ValueError("replay has a share but no source: name some of collect.sources in mix.replay")
        return self


class EarlyStopping(Section):
    """When a training ends before its last step."""

    patience: int = Field(3, ge=1, description="evaluations in a row without improvement after which it ends")
    min_improvement: float = Field(
        0.0, ge=0, description="nats per token by which the validation loss must fall to count as improved"
    )


class TrainConfig(Section):
    """How the adapter is trained.

    The defaults follow Unsloth's notebooks; QLoRA is Dettmers et al. 2023 (arXiv 2305.14314), LoRA Hu et al. 2021
    (arXiv 2106.09685), rsLoRA Kalajdzievski 2023 (arXiv 2312.03732), DoRA Liu et al. 2024 (arXiv 2402.09353), LoftQ
    Li et al. 2023 (arXiv 2310.08659), PiSSA Meng et al. 2024 (arXiv 2404.02948), LoRA+ Hayou et al. 2024
    (arXiv 2402.12354), NEFTune Jain et al. 2023 (arXiv 2310.05914), prompt tuning Lester et al. 2021
    (arXiv 2104.08691).
    """

    rows: Literal["training_set", "control"] = Field(
        "training_set", description="control: the random subset of the same size that validate.control keeps"
    )
    mix: MixConfig = MixConfig()
    fractions: tuple[float, ...] = Field(
        (1.0,), description="nested subsets to train on, the last one all rows: the evaluation draws the learning curve"
    )

    method: Method = Field(
        "qlora", description="; ".join(f"{name}: {method.summary}" for name, method in METHODS.items())
    )
    backend: Backend = Field("auto", description="auto: unsloth where it supports the configuration")
    chat_template: Literal["model", "chatml", "llama3", "alpaca"] = Field(
        "model", description="model: the tokenizer's own; or a named one, for a base model without one"
    )
    train_on: Literal["assistant", "last_turn", "completion", "everything"] = Field(
        "assistant",
        description="assistant: every turn of the assistant; last_turn: its last turn; completion: everything from its"
        " last turn on, with the template's layout; everything: every token",
    )
    initial_adapter: Literal["fresh", "champion"] = Field(
        "fresh", description="champion: continue the published adapter, or start fresh if none is published"
    )

    rank: int = Field(16, ge=1, le=1024, description="r of the update B A; 8 is the floor for good results")
    alpha: int = Field(16, ge=1, description="the update is scaled by alpha / r; with use_rslora by alpha / sqrt(r)")
    dropout: float = Field(0.0, ge=0, lt=1)
    bias: Literal["none", "all", "lora_only"] = "none"
    use_rslora: bool = False
    use_dora: bool = Field(
        False, description="learn the magnitude of each weight's columns separately from their direction"
    )
    init_weights: Literal["default", "loftq", "pissa"] = Field(
        "default",
        description="default: B is zero; loftq: the update compensates the quantisation error; pissa: the principal"
        " singular vectors of the base",
    )
    lora_plus_ratio: float | None = Field(None, ge=1, description="LoRA+: learning rate of B over that of A")
    target_modules: tuple[str, ...] | Literal["all-linear", "family"] = Field(
        "family", description="names of linear layers; all-linear: all but the head; family: the family's usual layers"
    )
    virtual_tokens: int = Field(16, ge=1, le=1024, description="trained by prompt_tuning")

    quant_type: Literal["nf4", "fp4"] = "nf4"
    double_quantisation: bool = Field(True, description="quantise the quantisation constants too")
    compute_dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 on a GPU that supports it, else float32"
    )
    use_gradient_checkpointing: Literal["unsloth"] | bool = Field(
        "unsloth", description="recompute activations to save memory; 'unsloth': on a GPU only"
    )

    batch_size: int = Field(2, ge=1, description="rows per device and forward pass")
    accumulation_steps: int = Field(4, ge=1, description="batches per optimizer step")
    epochs: float | None = Field(None, gt=0, description="passes over the training set, instead of max_steps")
    max_steps: int | None = Field(None, ge=1, description="optimizer steps, instead of epochs")
    learning_rate: float = Field(2e-4, gt=0, lt=1)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_steps: int = Field(5, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    optimizer: Optimizer = Field(
        "auto", description="auto: adamw_8bit on a GPU, adamw_torch_fused on a CPU; the paged ones need a GPU"
    )
    neftune_alpha: float | None = Field(None, gt=0, description="NEFTune: noise on the embeddings during training")
    max_length: int = Field(1024, ge=16, description="tokens of a row")
    over_length: Literal["drop", "truncate", "split"] = Field(
        "drop",
        description="rows over max_length. drop: quarantine; truncate: cut at the end; split: between turns, with the"
        " system turn repeated",
    )
    packing: bool = Field(False, description="several rows in one sequence, without attention between rows")

    processes: int = Field(1, ge=1, description="that train together, one per GPU; each takes batch_size rows")
    sharding: Literal["none", "fsdp"] = Field(
        "none", description="none: each process holds the whole model (DDP); fsdp: each holds a shard"
    )

    validation_fraction: float = Field(
        0.0, ge=0, le=0.5, description="share of the documents whose rows measure the loss and are not trained on"
    )
    early_stopping: EarlyStopping | None = Field(None, description="end when the validation loss stops falling")
    keep: Literal["best", "last"] = Field(
        "last", description="the step that becomes the adapter: of the lowest validation loss, or the last one"
    )

    save_steps: int = Field(
        50, ge=1, description="steps between checkpoints; with validation_fraction, also between evaluations"
    )
    timeout_minutes: float = Field(60, gt=0)

    @property
    def training_method(self) -> TrainingMethod:
        return METHODS[self.method]

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if (self.epochs is None) == (self.max_steps is None):
            raise ValueError("give exactly one of epochs and max_steps")
        if self.max_steps is not None and self.warmup_steps >= self.max_steps:
            raise ValueError(f"warmup_steps ({self.warmup_steps}) must be smaller than max_steps ({self.max_steps})")
        return self

    @model_validator(mode="after")
    def _check_fractions(self) -> Self:
        sizes = self.fractions
        if not sizes or sizes[-1] != 1 or any(not 0 < size <= 1 for size in sizes) or list(sizes) != sorted(set(sizes)):
            raise ValueError("fractions must increase, stay above 0 and end with 1, such as [0.25, 0.5, 1.0]")
        return self

    @model_validator(mode="after")
    def _check_validation(self) -> Self:
        for name, wanted in {"early_stopping": self.early_stopping, "keep best": self.keep == "best"}.items():
            if wanted and not self.validation_fraction:
                raise ValueError(f"{name} needs a validation loss: set validation_fraction, for example to 0.1")
        if self.early_stopping and self.max_steps is not None:
            evaluations = math.ceil(self.max_steps / self.save_steps)
            if self.early_stopping.patience >= evaluations:
                raise ValueError(
                    f"early_stopping.patience {self.early_stopping.patience} is never reached before the last step:"
                    f" {self.max_steps} steps have {evaluations} evaluations; lower patience or save_steps"
                )
        return self

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        if self.target_modules == ():
            raise ValueError("target_modules is empty: name linear layers, or write all-linear or family")
        if problem := next(refusals(self), None):
            raise ValueError(problem)
        return self


def refusals(config: TrainConfig) -> Iterator[str]:
    """Options that the method or the backend does not support, one sentence each; independent of the device."""
    yield from _method_refusals(config)
    if config.backend == "unsloth" and (reason := why_not_unsloth(config)):
        yield f"{reason}: use backend transformers, or auto"


def device_refusals(config: TrainConfig, device: Device) -> Iterator[str]:
    """Options that this machine's device does not support, one sentence each."""
    if device == "cuda":
        return
    if config.optimizer.startswith("paged_"):
        plain = "adamw_8bit" if config.optimizer.endswith("8bit") else "adamw_torch_fused"
        yield f"optimizer {config.optimizer} pages the memory of a GPU, and there is none: use {plain}, or auto"
    if config.backend == "unsloth" and (reason := why_not_unsloth(config, device)):
        yield f"{reason}: use backend transformers, or auto"


def first_backend(config: TrainConfig, device: Device) -> str:
    """The named backend; for auto, Unsloth where it supports the configuration, else transformers."""
    if config.backend != "auto":
        return config.backend
    return "transformers" if why_not_unsloth(config, device) else "unsloth"


def why_not_unsloth(config: TrainConfig, device: Device | None = None) -> str | None:
    """The first thing in this configuration that Unsloth does not support, or None; without a device, on any device.

    Source: Unsloth 2026.10.9. Its CPU backend turns packing off, and takes adamw_torch_fused for 8-bit optimizers.
    """
    method = config.training_method
    quantises, on_cpu, is_auto = method.quantises_base, device == "cpu", config.backend == "auto"
    reasons = {
        f"unsloth trains low-rank adapters only, not method {config.method}": not method.supports_unsloth,
        "unsloth's kernels leave out DoRA's magnitudes": config.use_dora,
        f"unsloth does not support init_weights {config.init_weights}": config.init_weights != "default",
        "unsloth quantises to nf4 only": quantises and config.quant_type != "nf4",
        "unsloth always uses double quantisation": quantises and not config.double_quantisation,
        "unsloth trains in one process only": config.processes > 1,
        "unsloth does not pack rows on a CPU": on_cpu and config.packing,
        "unsloth replaces 8-bit optimizers on a CPU": on_cpu and config.optimizer == "adamw_8bit" and is_auto,
    }
    return next((reason for reason, applies in reasons.items() if applies), None)


def _method_refusals(config: TrainConfig) -> Iterator[str]:
    method = config.training_method
    for name, field in type(config).model_fields.items():
        users = [other for other, known in METHODS.items() if name in known.options]
        if users and config.method not in users and getattr(config, name) != field.default:
            what = f"{name} is an option of method {' or '.join(users)}, not of method {config.method}"
            yield f"{what}: remove it, or use method {users[-1]}"
    if config.init_weights == "loftq" and not method.quantises_base:
        yield "loftq compensates the quantisation error, but the base is not quantised: use method qlora, or pissa"
    if config.init_weights == "pissa" and method.quantises_base:
        yield "pissa takes its vectors from full weights, but the base is quantised: use method lora, or loftq"
    if config.initial_adapter == "champion":
        if method.peft_type is None:
            yield f"method {config.method} has no adapter to continue: use initial_adapter fresh"
        if config.init_weights != "default":
            yield f"the champion's weights replace those of {config.init_weights}: use init_weights default"
    if config.init_weights == "pissa" and (config.use_dora or config.bias != "none"):
        yield "a pissa adapter is written without magnitudes and biases: use use_dora false, bias none"
    if config.over_length == "split" and config.train_on in ("last_turn", "completion"):
        yield "each piece of a split row has its own last turn: use train_on assistant, or over_length drop"
    if config.sharding == "fsdp":
        if config.processes == 1:
            yield "fsdp shards a model across processes, but there is one: use processes 2 or more, or sharding none"
        if not method.supports_sharding:
            yield f"method {config.method} cannot be sharded: use sharding none, or method lora or qlora"
        # These need whole weights, or different parameters in layers of one kind.
        for name in ("lora_plus_ratio", "bias", "init_weights"):
            if (value := getattr(config, name)) != type(config).model_fields[name].default:
                yield f"{name} {value} cannot be used with a sharded model: use its default, or sharding none"
    if config.packing and not method.supports_packing:
        yield f"virtual tokens stand once before a sequence, so method {config.method} cannot pack: use packing false"
