"""Whether an adapter has the settings of a recipe, so that a training can continue from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tasks.train.config import TrainConfig


def differing_settings(
    found: Mapping[str, Any], train: TrainConfig, trained_by: str | None = None
) -> Iterator[tuple[str, str]]:
    """What differs between an adapter's ``adapter_config.json`` and a training, and the setting that would make it fit.

    Layers are not compared: the recipe may name them by a word, and PEFT by a pattern. ``trained_by`` is the method
        that
    trained it, if known: QLoRA and LoRA write the same adapter.
    """
    method = train.training_method
    if found.get("peft_type") != method.peft_type or (trained_by or train.method) != train.method:
        name = trained_by or str(found.get("peft_type")).lower()
        yield f"it was trained by the method {name}, and the recipe's is {train.method}", f"train.method: {name}"
        return
    for ours, theirs in method.peft_settings.items():
        if (value := found.get(theirs)) != (wanted := getattr(train, ours)):
            yield f"its {ours} is {_yaml(value)}, not {_yaml(wanted)}", f"train.{ours}: {_yaml(value)}"


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
