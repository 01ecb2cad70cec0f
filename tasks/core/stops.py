"""What ends an answer: the stop tokens in the generation config of everything that is saved, served and evaluated."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.core.errors import ModelError
from tasks.core.model_files import model_json

if TYPE_CHECKING:
    from transformers import GenerationConfig

FILE = "generation_config.json"
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
DECIDING = frozenset(
    {
        "early_stopping", "max_new_tokens", "assistant_ensemble_weight", "cache_implementation", "compile_config",
        "num_return_sequences", "watermarking_config",
    }
)  # fmt: skip
"""Keys whose values transformers 5.17 can refuse to load. Reading others needs no import of it."""


def stop_tokens(folder: Path) -> list[int]:
    """The ids that end an answer, from the generation config of a model's or adapter's folder; none if it has none.

    Raises ModelError: the file cannot be read.
    """
    return _as_list(model_json(folder / FILE).get("eos_token_id")) if (folder / FILE).exists() else []


def check_generation_config(folder: Path) -> None:
    """Raise a ModelError if transformers would refuse to load a local model's generation config."""
    if not (folder / FILE).exists() or not DECIDING & set(model_json(folder / FILE)):
        return
    from transformers import GenerationConfig

    try:
        GenerationConfig.from_pretrained(folder)
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"transformers refuses the model's generation config: {str(error).splitlines()[0]}",
            where=str(folder / FILE),
            remedy="correct or remove the value; training and serving do not need it",
        ) from error


def mend_generation_config(model: Any) -> None:
    """Give a loaded model a generation config that can be saved with it: see :func:`savable`."""
    if getattr(model, "generation_config", None) is not None:
        model.generation_config = savable(model.generation_config)


def savable(found: GenerationConfig) -> GenerationConfig:
    """A generation config that transformers saves, which it refuses to if values contradict each other.

    Sampling values without ``do_sample``, as published models have them, get it: the values are then used, as their
    authors meant. From any other contradiction, only the ids of tokens are kept.
    """
    from transformers import GenerationConfig

    mended = copy.deepcopy(found)
    if not _can_be_saved(mended):
        mended.do_sample = True
    if _can_be_saved(mended):
        return mended
    ids = {name: value for name in TOKENS if min(_as_list(value := getattr(found, name, None)), default=-1) >= 0}
    return GenerationConfig(**ids)


def stopping_at(found: GenerationConfig, ends: Sequence[int]) -> GenerationConfig:
    """A generation config whose stop tokens include ``ends``, after those that it has."""
    stopping = savable(found)
    stops = [*dict.fromkeys([*_as_list(stopping.eos_token_id), *ends])]
    stopping.eos_token_id = stops if len(stops) > 1 else next(iter(stops), None)
    return stopping


def _can_be_saved(config: GenerationConfig) -> bool:
    try:
        config.validate(strict=True)
    except ValueError:
        return False
    return True


def _as_list(value: Any) -> list[int]:
    return [] if value is None else [*value] if isinstance(value, list | tuple) else [value]
