"""What PEFT adds to a base: the adapter of a method, its initial weights, and how it is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks.core.config import ModelSource
from tasks.core.errors import ModelError
from tasks.train.config import TrainConfig
from tasks.train.devices import rank
from tasks.train.target_modules import target_modules

PISSA_START = "pissa_start"
PREFIX = "base_model.model."
ONE_FILE, INDEX = "model.safetensors", "model.safetensors.index.json"


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

    PiSSA's initial adapter is kept, so that the trained one can be written for the original base. LoftQ raises a
    ModelError if it cannot read the full weights, for example of a model that is distributed quantised.
    """
    if config.init_weights == "loftq":
        _init_by_loftq(model, source)
    if config.init_weights == "pissa" and rank() == 0 and not (work / PISSA_START / "adapter_config.json").is_file():
        model.peft_config["default"].init_lora_weights = True
        model.save_pretrained(work / PISSA_START)
        model.peft_config["default"].init_lora_weights = "pissa"


def load_champion(model: Any, adapter: Path, config: TrainConfig) -> None:
    """Give the new adapter the weights of a published one; raises a ModelError if settings or layers differ."""
    from peft import load_peft_weights, set_peft_model_state_dict

    published = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    differing = [what for what, _ in differing_settings(published, config)]
    if not differing:  # layers are compared by their weights, as their names may be shortened or a pattern
        loaded = set_peft_model_state_dict(model, load_peft_weights(str(adapter), device="cpu"))
        differing = [f"it is on other layers, such as {key}" for key in loaded.unexpected_keys[:1]]
        differing += [f"it has no {key}" for key in loaded.missing_keys if "lora_" in key or "prompt" in key][:1]
    if differing:
        what = f"The champion's adapter does not fit the recipe: {'; '.join(differing)}"
        remedy = "set train.initial_adapter: fresh, or give the recipe the settings of the champion's training"
        raise ModelError(what, where=str(adapter), remedy=remedy)


def differing_settings(
    found: Mapping[str, Any], train: TrainConfig, trained_by: str | None = None
) -> Iterator[tuple[str, str]]:
    """What differs between an adapter's ``adapter_config.json`` and a training, and the setting that would make it fit.

    Layers are not compared: the recipe may name them by a word, and PEFT by a pattern. ``trained_by`` is the
    method that trained it, if known: QLoRA and LoRA write the same adapter.
    """
    method = train.training_method
    if found.get("peft_type") != method.peft_type or (trained_by or train.method) != train.method:
        name = trained_by or str(found.get("peft_type")).lower()
        yield f"it was trained by the method {name}, and the recipe's is {train.method}", f"train.method: {name}"
        return
    for ours, theirs in method.peft_settings.items():
        if (value := found.get(theirs)) != (wanted := getattr(train, ours)):
            yield f"its {ours} is {_yaml(value)}, not {_yaml(wanted)}", f"train.{ours}: {_yaml(value)}"


def save_adapter(model: Any, config: TrainConfig, folder: Path, work: Path, weights: Any = None) -> None:
    """Write a trained adapter for the original base, in safetensors.

    A PiSSA adapter becomes a LoRA of twice the rank: what was learned, minus the initial adapter in ``work``.
    ``weights`` is the gathered state of a sharded model.
    """
    start = {"path_initial_model_for_weight_conversion": str(work / PISSA_START)}
    model.save_pretrained(folder, state_dict=weights, **(start if config.init_weights == "pissa" else {}))
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card; publish writes a real one


def _init_by_loftq(model: Any, source: ModelSource) -> None:
    """Set A and B of every adapted 4-bit layer so that scaling B A is the best rank-r part of W - NF4(W).

    LoftQ: Li et al. 2023, arXiv 2310.08659, one step. PEFT's ``replace_lora_weights_loftq`` quantises again on a GPU,
    and reads a single file; this dequantises the layers' own 4-bit weights, and reads sharded files too.
    """
    import bitsandbytes.functional as bnb
    import torch
    from peft.tuners.lora import Linear4bit

    read = _weight_reader(source)
    for name, layer in model.named_modules():
        if not isinstance(layer, Linear4bit):
            continue
        weight = layer.get_base_layer().weight
        quantised = bnb.dequantize_4bit(weight.data, weight.quant_state).float()
        exact = read(name.removeprefix(PREFIX) + ".weight").to(quantised.device, torch.float32)
        if exact.shape != quantised.shape:
            raise _no_weights(source, f"{name} has another shape there")
        rank, scaling = layer.r["default"], layer.scaling["default"]
        u, s, v = torch.linalg.svd(exact - quantised, full_matrices=False)
        root = (s[:rank] / scaling).sqrt()
        layer.lora_A["default"].weight.data = (root[:, None] * v[:rank]).contiguous()
        layer.lora_B["default"].weight.data = (u[:, :rank] * root).contiguous()


def _weight_reader(source: ModelSource) -> Callable[[str], Any]:
    from safetensors import safe_open
    from transformers.utils import cached_file

    def find(name: str) -> Path | None:
        found = cached_file(source.path, name, revision=source.revision, _raise_exceptions_for_missing_entries=False)
        return Path(found) if found else None

    index = find(INDEX)
    files = json.loads(index.read_text(encoding="utf-8"))["weight_map"] if index else {}

    def read(name: str) -> Any:
        path = find(files.get(name, ONE_FILE))
        if path is None:
            raise _no_weights(source, f"there is no {files.get(name, ONE_FILE)}")
        with safe_open(path, framework="pt") as weights:
            if name not in weights.keys():  # noqa: SIM118  not a mapping
                raise _no_weights(source, f"there is no {name}")
            return weights.get_tensor(name)

    return read


def _no_weights(source: ModelSource, why: str) -> ModelError:
    remedy = "name the 16-bit original of the model, or use init_weights default"
    return ModelError(f"LoftQ needs the base's full weights: {why}", where=source.path, remedy=remedy)


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
