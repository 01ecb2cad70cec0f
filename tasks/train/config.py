"""The ``train`` section of a recipe."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from tasks.core.config import Section

Optimizer = Literal["adamw_8bit", "paged_adamw_8bit", "adamw_torch", "adamw_torch_fused"]


class TrainConfig(Section):
    """How the adapter is trained.

    The defaults follow Unsloth's notebooks; QLoRA is Dettmers et al. 2023 (arXiv 2305.14314), LoRA Hu et al. 2021
    (arXiv 2106.09685), rsLoRA Kalajdzievski 2023 (arXiv 2312.03732).
    """

    rows: Literal["training_set", "control"] = Field(
        "training_set", description="control: the random subset of the same size that validate.control keeps"
    )
    method: Literal["qlora", "lora"] = Field("qlora", description="qlora: the frozen base in 4 bit; lora: in 16/32 bit")
    backend: Literal["unsloth", "transformers"] = "unsloth"
    chat_template: Literal["model", "chatml"] = Field(
        "model", description="model: the tokenizer's own; chatml: for a base model that has none"
    )

    rank: int = Field(16, ge=1, le=1024, description="r of the update B A; 8 is the floor for good results")
    alpha: int = Field(16, ge=1, description="the update is scaled by alpha / r, with rslora by alpha / sqrt(r)")
    dropout: float = Field(0.0, ge=0, lt=1)
    bias: Literal["none", "all", "lora_only"] = "none"
    use_rslora: bool = False
    target_modules: tuple[str, ...] | Literal["all-linear"] = Field(
        "all-linear", description="names of linear layers, or every one of them but the head"
    )

    quant_type: Literal["nf4", "fp4"] = "nf4"
    double_quantisation: bool = Field(True, description="the quantisation constants are quantised too")
    compute_dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where a GPU has it, else float32"
    )
    use_gradient_checkpointing: Literal["unsloth"] | bool = Field(
        "unsloth", description="recompute activations to save memory; 'unsloth' does so on a GPU only"
    )

    batch_size: int = Field(2, ge=1, description="rows a device holds at once")
    accumulation_steps: int = Field(4, ge=1, description="batches per optimizer step")
    epochs: float | None = Field(None, gt=0, description="passes over the training set; or max_steps")
    max_steps: int | None = Field(None, ge=1, description="optimizer steps; or epochs")
    learning_rate: float = Field(2e-4, gt=0, lt=1)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_steps: int = Field(5, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    optimizer: Optimizer = Field("adamw_8bit", description="8-bit ones need a GPU; elsewhere adamw_torch_fused runs")
    max_length: int = Field(1024, ge=16, description="tokens; longer rows are quarantined, never cut")
    packing: bool = Field(False, description="several rows in one sequence, kept apart")

    save_steps: int = Field(50, ge=1, description="steps between checkpoints")
    timeout_minutes: float = Field(60, gt=0)

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.max_steps is None):
            raise ValueError("give exactly one of epochs and max_steps")
        return self

    @model_validator(mode="after")
    def _only_what_runs(self) -> Self:
        if self.target_modules == ():
            raise ValueError("target_modules is empty: name linear layers, or write all-linear")
        if self.backend == "unsloth" and self.method == "qlora":
            if self.quant_type != "nf4":
                raise ValueError("unsloth quantises to nf4 only: use quant_type nf4, or backend transformers")
            if not self.double_quantisation:
                raise ValueError(
                    "unsloth always quantises doubly: use double_quantisation true, or backend transformers"
                )
        if self.max_steps is not None and self.warmup_steps >= self.max_steps:
            raise ValueError(f"warmup_steps ({self.warmup_steps}) must be smaller than max_steps ({self.max_steps})")
        return self
