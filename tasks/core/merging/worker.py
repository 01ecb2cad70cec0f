"""The merging process: ``python -m tasks.core.merging.worker job.json``.

QLoRA trains the adapter on the NF4 base, so the update is added to the 4-bit weights, dequantised in full precision: on
the original weights the model would compute something else. PEFT merges for both backends: Unsloth cannot merge 4-bit
models on a CPU. A fully trained model is converted to the requested dtype; for virtual tokens see ``virtual_tokens``.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.core.base_model import Quantisation, keep_weights_unpacked, load_base, quantised_layers
from tasks.core.config import ModelSource
from tasks.core.errors import MachineError, ModelError
from tasks.core.merging.trained import require_own_head
from tasks.core.merging.virtual_tokens import extend_model, extend_tokenizer
from tasks.core.methods import METHODS
from tasks.core.processes import emit, worker_main
from tasks.core.stops import stop_tokens, stopping_at

if TYPE_CHECKING:
    import torch

MOST_DIFFERENCE = {"float32": 0.01, "float16": 0.05, "bfloat16": 0.25}
"""Of a logit, as a share of the largest logit, by the dtype of the written weights."""
LEAST_AGREEMENT = {"float32": 0.98, "float16": 0.95, "bfloat16": 0.9}


def merge(job: dict[str, Any]) -> dict[str, Any]:
    """Write a whole model from the result of a training, and compare the two.

    Args:
        job: ``model`` (path, revision), ``adapter`` (folder of the adapter or model, with its tokenizer), ``form``
            (lora, prompt or model), ``method``, ``quantisation`` (quant_type, double_quantisation), ``dtype`` (float32,
            bfloat16 or float16), ``out`` (a folder, emptied first), ``token_ids`` (of rows to compare on), and
            optionally ``quantised_layers`` (the number that the training had).

    Returns:
        ``files`` (names), ``parameters``, ``dequantised_layers``, ``max_logit_difference`` (largest absolute
        difference of a logit, computed in float32) and ``top1_agreement`` (share of positions with the same most likely
        token).

    Raises ModelError: base and adapter do not fit together, the merged model cannot be read back, or it computes
    something else than what was trained (see :func:`judge`); MachineError: not enough memory.
    """
    import torch

    source, trained, out = ModelSource.model_validate(job["model"]), Path(job["adapter"]), Path(job["out"])
    shutil.rmtree(out, ignore_errors=True)
    make = {"lora": merge_lora, "prompt": merge_prompt, "model": write_model}[job.get("form", "lora")]
    try:
        written = make(job, source, trained, out)
        emit(note="reading the merged model back")
        # In float16 a model may also overflow while it computes.
        computing = torch.float16 if job["dtype"] == "float16" else torch.float32
        found, parameters = read_back(out, written.token_ids, source.trust_remote_code, computing)
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise MachineError(
            "Out of memory while merging",
            where=source.path,
            remedy="merging needs eight bytes per parameter of the model: use a machine with more memory",
        ) from error
    figures = compare(written.expected, found, written.virtual)
    judge(figures, job["dtype"], source.path)
    return {
        "files": sorted(path.name for path in out.iterdir()),
        "parameters": parameters,
        "dequantised_layers": written.layers,
        "max_logit_difference": figures.max_logit_difference,
        "top1_agreement": figures.top1_agreement,
    }


@dataclass(frozen=True)
class Figures:
    """How a merged model compares with what was trained.

    The largest absolute difference of a logit, the share of positions with the same most likely token, and the largest
    absolute logit of what was trained.
    """

    max_logit_difference: float
    top1_agreement: float
    largest_logit: float


@dataclass(frozen=True)
class WrittenModel:
    """A written model; ``expected`` holds (tokens, vocabulary) logits per sequence, none for ``virtual`` ids."""

    expected: Sequence[torch.Tensor]
    token_ids: Sequence[Sequence[int]]
    layers: int = 0
    virtual: Sequence[int] = ()


def merge_lora(job: dict[str, Any], source: ModelSource, adapter: Path, out: Path) -> WrittenModel:
    """Write the sum of the base and a low-rank update."""
    import torch
    from transformers import AutoTokenizer

    emit(note="loading the base and the adapter")
    trained, layers = load_trained(source, adapter, job)
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    expected = logits_of(trained, job["token_ids"])
    emit(note="merging")
    save_merged(plain_merge(trained, adapter), tokenizer, adapter, out, getattr(torch, job["dtype"]))
    return WrittenModel(expected, job["token_ids"], layers)


def merge_prompt(job: dict[str, Any], source: ModelSource, adapter: Path, out: Path) -> WrittenModel:
    """Write a model with the learned virtual tokens in its vocabulary."""
    import torch
    from transformers import AutoTokenizer

    emit(note="loading the base and the virtual tokens")
    trained, _ = load_trained(source, adapter, job)
    model = trained.get_base_model()
    require_own_head(model.config.model_type, source.path)
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    plain_ids = job["token_ids"]
    expected = logits_of(trained, plain_ids)
    with torch.no_grad():
        vectors = trained.get_prompt_embedding_to_save(trained.active_adapter).float().cpu()
    emit(note="extending the vocabulary")
    texts = [tokenizer.decode(turns).lstrip() for turns in plain_ids]
    alone = [encoded(tokenizer, text) for text in texts]
    ids = extend_tokenizer(tokenizer, len(vectors))
    names = "".join(tokenizer.convert_ids_to_tokens(ids))
    # A tokenizer may, for example, mark the beginning of a text.
    if [encoded(tokenizer, names + text) for text in texts] != [[*ids, *turns] for turns in alone]:
        raise ModelError(
            "The tokenizer encodes a conversation differently after virtual tokens",
            where=source.path,
            remedy="use train.method lora",
        )
    model = model.to("cpu", torch.float32)
    extend_model(model, vectors, ids)
    save_merged(model, tokenizer, adapter, out, getattr(torch, job["dtype"]))
    # PEFT's logits include those of the virtual tokens, so the positions are the same.
    return WrittenModel(expected, [[*ids, *turns] for turns in plain_ids], virtual=ids)


def write_model(job: dict[str, Any], source: ModelSource, trained: Path, out: Path) -> WrittenModel:
    """Write a fully trained model in the requested dtype."""
    import torch
    from transformers import AutoTokenizer

    emit(note="loading the model")
    model = load_base(source.model_copy(update={"path": str(trained), "revision": None}), torch.float32, None)
    tokenizer = AutoTokenizer.from_pretrained(trained)
    expected = logits_of(model.eval(), job["token_ids"])
    emit(note="writing the model")
    save_merged(model.to("cpu"), tokenizer, trained, out, getattr(torch, job["dtype"]))
    return WrittenModel(expected, job["token_ids"])


def encoded(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def load_trained(source: ModelSource, adapter: Path, job: dict[str, Any]) -> tuple[Any, int]:
    """The adapter on its base, computing in float32, and the base's number of 4-bit layers."""
    import torch
    from peft import PeftModel

    quantisation = (
        Quantisation.model_validate(job.get("quantisation") or {}) if METHODS[job["method"]].quantises_base else None
    )
    base = load_base(source, torch.float32, quantisation)
    layers = quantised_layers(base)
    wanted = job.get("quantised_layers", layers)
    if layers != wanted or (quantisation is not None and not layers):
        raise ModelError(
            f"The base has {layers} quantised layers, but {wanted or 'some'} in training",
            where=source.path,
            remedy="merge with the bitsandbytes version and the quantisation settings of the training",
        )
    keep_weights_unpacked(base)
    try:
        return PeftModel.from_pretrained(base, str(adapter)).eval(), layers
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"The adapter does not fit the base: {error}", where=str(adapter), remedy="name the base of its training"
        ) from error


def plain_merge(trained: Any, adapter: Path) -> Any:
    """A float32 model on the CPU: the base, dequantised if necessary, plus the adapter's update."""
    import torch
    from peft import PeftModel

    base = trained.unload()
    if quantised_layers(base):
        base = base.dequantize(dtype=torch.float32)
    base = base.to("cpu", torch.float32)
    return PeftModel.from_pretrained(base, str(adapter)).merge_and_unload()


def save_merged(model: Any, tokenizer: Any, trained: Path, out: Path, dtype: torch.dtype) -> None:
    """Write weights, config, the tokenizer with the chat template of the training, and the stop tokens of ``trained``.

    An adapter without a generation config was trained before they had one: its tokenizer names the end of turn.
    """
    model = model.to(dtype)
    for name, weight in model.named_parameters():
        if not weight.isfinite().all():
            raise not_finite(f"weights ({name})", dtype, out)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    stops = stop_tokens(trained) or [tokenizer.eos_token_id]
    model.generation_config = stopping_at(model.generation_config, stops)
    model.config.use_cache = True
    model.save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)


def read_back(
    folder: Path, token_ids: Sequence[Sequence[int]], trust_remote_code: bool, dtype: torch.dtype
) -> tuple[list[torch.Tensor], int]:
    """Logits, computed in ``dtype``, and number of parameters of the written model, as transformers loads it."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, trust_remote_code=trust_remote_code)
    if getattr(model.config, "quantization_config", None) is not None:
        raise ModelError("The merged model is still marked as quantised", where=str(folder / "config.json"))
    return logits_of(model.eval(), token_ids), sum(parameter.numel() for parameter in model.parameters())


def logits_of(model: Any, token_ids: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Logits of every sequence, (tokens, vocabulary), float32 on the CPU."""
    import torch

    with torch.inference_mode():
        return [
            model(input_ids=torch.tensor([list(ids)], device=model.device)).logits[0].float().cpu() for ids in token_ids
        ]


def compare(expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor], virtual: Sequence[int] = ()) -> Figures:
    """Measure how far the logits of two models differ, each (tokens, vocabulary) per sequence.

    ``virtual`` ids, behind the vocabulary or among spare rows of the embeddings, are not compared and not predicted.
    """
    import torch

    if not expected:
        raise ModelError("No rows to compare the merged model on", remedy="pass token_ids in the job")
    wanted, written = torch.cat(list(expected)), torch.cat(list(found))
    width = wanted.shape[1]
    spare = [token for token in virtual if token < width]
    difference = (wanted - written[:, :width]).abs()
    difference[:, spare] = 0
    difference[wanted == written[:, :width]] = 0  # a token that both exclude with an infinite logit
    largest = torch.where(torch.isfinite(wanted), wanted, 0).abs().max().item()
    wanted[:, spare] = -torch.inf
    agreement = (wanted.argmax(-1) == written.argmax(-1)).float().mean().item()
    return Figures(difference.max().item(), agreement, largest)


def not_finite(what: str, dtype: object, where: object) -> ModelError:
    return ModelError(
        f"The merged model has {what} that are not finite in {str(dtype).removeprefix('torch.')}",
        where=str(where),
        remedy="set publish.dtype: bfloat16 or float32, which hold larger numbers than float16",
    )


def judge(figures: Figures, dtype: str, where: str) -> None:
    """Raise a ModelError unless a merged model, written in ``dtype``, computes what was trained.

    The limits leave room for rounding. They find what no rounding does: overflow, a wrong base, a lost update.
    """
    if not math.isfinite(figures.max_logit_difference):
        raise not_finite("logits", dtype, where)
    allowed = MOST_DIFFERENCE[dtype] * figures.largest_logit
    if figures.max_logit_difference > allowed or figures.top1_agreement < LEAST_AGREEMENT[dtype]:
        raise ModelError(
            f"The merged model does not compute what was trained: its logits differ by up to"
            f" {figures.max_logit_difference:.3g} (at most {allowed:.3g}), and it predicts"
            f" {figures.top1_agreement:.1%} of the tokens alike (at least {LEAST_AGREEMENT[dtype]:.0%})",
            where=where,
            remedy="set publish.dtype: float32; if that does not help, report this with the recipe and the merge's log",
        )


if __name__ == "__main__":
    worker_main(merge)
