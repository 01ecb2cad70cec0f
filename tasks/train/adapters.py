"""What PEFT adds to a base: the adapter of a method, its initial weights, and how it is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks.core.config import ModelSource
from tasks.core.errors import ModelError
from tasks.train.config import TrainConfig
from tasks.train.devices import rank
from tasks.train.loftq import init_by_loftq
from tasks.train.target_modules import target_modules

PISSA_START = "pissa_start"


def add_adapter(base: Any, config: TrainConfig) -> Any:
    """The frozen base with a new adapter. PiSSA changes the base to its residual (Meng et al. 2024)."""
    from peft import LoraConfig, PromptTuningConfig, PromptTuningInit, get_peft_model

    if config.training_method.adds_virtual_tokens:
        prompt = PromptTuningConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=config.virtual_tokens,
            # Rows of the vocabulary: random vectors differ in size from embeddings (Lester et al. 2021, 3.2).
            prompt_tuning_init=PromptTuningInit.SAMPLE_VOCAB,
        )
        return get_peft_model(base, prompt)
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        bias=config.bias,
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        init_lora_weights="pissa" if config.init_weights == "pissa" else True,
        target_modules=list(target_modules(base, config)),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(base, lora)


def init_adapter(model: Any, config: TrainConfig, source: ModelSource, work: Path) -> None:
    """Set the initial weights that PEFT does not set itself.

    PiSSA's initial adapter is kept, so that the trained one can be written for the original base.

    Raises:
        ModelError: LoftQ cannot read the full weights.
    """
    if config.init_weights == "loftq":
        init_by_loftq(model, source)
    if config.init_weights == "pissa" and rank() == 0 and not (work / PISSA_START / "adapter_config.json").is_file():
        model.peft_config["default"].init_lora_weights = True
        model.save_pretrained(work / PISSA_START)
        model.peft_config["default"].init_lora_weights = "pissa"


def load_champion(model: Any, adapter: Path, config: TrainConfig) -> None:
    """Give the new adapter the weights of a published one.

    Raises:
        ModelError: its method, rank, scaling or layers differ from the recipe's.
    """
    from peft import load_peft_weights, set_peft_model_state_dict

    published = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    ours = model.peft_config["default"].to_dict()
    differing = [
        f"{name} is {published[name]} there and {ours[name]} here"
        for name in ("peft_type", *config.training_method.peft_settings.values())
        if name in published and name in ours and _plain(published[name]) != _plain(ours[name])
    ]
    if not differing:  # layers are compared by their weights, as their names may be shortened or a pattern
        loaded = set_peft_model_state_dict(model, load_peft_weights(str(adapter), device="cpu"))
        differing = [f"it is on other layers, such as {key}" for key in loaded.unexpected_keys[:1]]
        differing += [f"it has no {key}" for key in loaded.missing_keys if "lora_" in key or "prompt" in key][:1]
    if differing:
        raise ModelError(
            f"The champion's adapter does not fit the recipe: {'; '.join(differing)}",
            where=str(adapter),
            remedy="set train.initial_adapter: fresh, or give the recipe the settings of the champion's training",
        )


def _plain(value: Any) -> Any:
    return getattr(value, "value", value)


def save_adapter(model: Any, config: TrainConfig, folder: Path, work: Path, weights: Any = None) -> None:
    """Write a trained adapter for the original base, in safetensors.

    A PiSSA adapter becomes a LoRA of twice the rank: what was learned, minus the initial adapter in ``work``.
    ``weights`` is the gathered state of a sharded model.
    """
    start = {"path_initial_model_for_weight_conversion": str(work / PISSA_START)}
    model.save_pretrained(folder, state_dict=weights, **(start if config.init_weights == "pissa" else {}))
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card; publish writes a real one
