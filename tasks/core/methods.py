"""The training methods: what each one trains, writes and supports, and how it is described.

CONTRIBUTING.md says how to add a method, and what a new ``Form`` needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Method = Literal["qlora", "lora", "full", "prompt_tuning"]
Form = Literal["lora", "prompt", "model"]


@dataclass(frozen=True)
class TrainingMethod:
    """What the stages and the command need to know about a method.

    Attributes:
        summary: one line for the reference of the recipe.
        form: what it writes: a low-rank update, virtual tokens before the prompt, or a model with every weight trained.
        card_title: how a model card introduces the result; the name of the base follows.
        card_merged: how the merged model contains what was trained, for the model card.
        peft_type: in ``adapter_config.json``; None: it writes a whole model, which no later training continues.
        options: settings of ``train`` that other methods do not take.
        peft_settings: settings that must stay the same when a training continues an adapter: the recipe's name for
            each, and PEFT's.
        quantises_base: whether the frozen base is held in 4 bit.
        checkpoint_factor: upper bound for the size of a checkpoint, as a multiple of the base in 16 bit.
        supports_packing, supports_sharding, supports_unsloth: several rows in a sequence; FSDP; the backend.
    """

    summary: str
    form: Form
    card_title: str
    card_merged: str
    peft_type: str | None = None
    options: tuple[str, ...] = ()
    peft_settings: Mapping[str, str] = field(default_factory=dict)
    quantises_base: bool = False
    checkpoint_factor: float = 0.5
    supports_packing: bool = True
    supports_sharding: bool = False
    supports_unsloth: bool = False

    @property
    def is_low_rank(self) -> bool:
        return self.form == "lora"

    @property
    def trains_all_weights(self) -> bool:
        return self.form == "model"

    @property
    def adds_virtual_tokens(self) -> bool:
        return self.form == "prompt"


_LORA = TrainingMethod(
    summary="a low-rank update on the frozen base in 16/32 bit",
    form="lora",
    card_title="A low-rank adapter for",
    card_merged=" with the adapter merged in",
    peft_type="LORA",
    options=(
        "rank", "alpha", "dropout", "bias", "use_rslora", "use_dora", "init_weights", "lora_plus_ratio",
        "target_modules",
    ),
    peft_settings={
        "rank": "r",
        "alpha": "lora_alpha",
        "use_rslora": "use_rslora",
        "use_dora": "use_dora",
        "bias": "bias",
    },
    supports_sharding=True,
    supports_unsloth=True,
)  # fmt: skip

METHODS: Mapping[str, TrainingMethod] = {
    "qlora": replace(
        _LORA,
        summary="a low-rank update on the frozen base in 4 bit",
        options=(*_LORA.options, "quant_type", "double_quantisation"),
        quantises_base=True,
    ),
    "lora": _LORA,
    "full": TrainingMethod(
        summary="every weight",
        form="model",
        card_title="A fine-tune of every weight of",
        card_merged=", every one trained",
        checkpoint_factor=6,  # weights and two moments in float32
    ),
    "prompt_tuning": TrainingMethod(
        summary="virtual tokens before the prompt",
        form="prompt",
        card_title="Learned virtual tokens (prompt tuning) for",
        card_merged=" with the virtual tokens in the vocabulary and at the beginning of the chat template",
        peft_type="PROMPT_TUNING",
        options=("virtual_tokens",),
        peft_settings={"virtual_tokens": "num_virtual_tokens"},
        supports_packing=False,
    ),
}


def form_of(peft_type: str | None) -> Form:
    """What an adapter of a PEFT type is; an unknown type counts as a low-rank update."""
    return next((method.form for method in METHODS.values() if peft_type and method.peft_type == peft_type), "lora")
