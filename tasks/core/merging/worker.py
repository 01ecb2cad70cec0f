"""The merging process: ``python -m tasks.core.merging.worker job.json``.

QLoRA trains the adapter on the NF4 base, so the update is added to the 4-bit weights, dequantised in full precision: on
the original weights the model would compute something else. PEFT merges for both backends: Unsloth cannot merge 4-bit
models on a CPU. A fully trained model is converted to the requested dtype; for virtual tokens see ``virtual_tokens``.
"""

from __future__ import annotations

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
from tasks.core.messages import for_template
from tasks.core.methods import METHODS
from tasks.core.processes import emit, worker_main

if TYPE_CHECKING:
    import torch


def merge(job: dict[str, Any]) -> dict[str, Any]:
    """Write a whole model from the result of a training, and compare the two.

    Args:
        job: ``model`` (path, revision), ``adapter`` (folder of the adapter or model, with its tokenizer), ``form``
            (lora, prompt or model), ``method``, ``quantisation`` (quant_type, double_quantisation), ``dtype`` (float32,
            bfloat16 or float16), ``out`` (a folder, emptied first), ``conversations`` (messages to compare on), and
            optionally ``quantised_layers`` (the number that the training had).

    Returns:
        ``files`` (names), ``parameters``, ``dequantised_layers``, ``max_logit_difference`` (largest absolute
        difference of a logit, computed in float32) and ``top1_agreement`` (share of positions with the same most likely
        token).

    Raises ModelError: base and adapter do not fit together, or the merged model cannot be read back; MachineError: not
    enough memory.
    """
    import torch

    source, trained, out = ModelSource.model_validate(job["model"]), Path(job["adapter"]), Path(job["out"])
    shutil.rmtree(out, ignore_errors=True)
    make = {"lora": merge_lora, "prompt": merge_prompt, "model": write_model}[job.get("form", "lora")]
    try:
        written = make(job, source, trained, out)
        emit(note="reading the merged model back")
        found, parameters = read_back(out, written.token_ids, source.trust_remote_code)
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise MachineError(
            "Out of memory while merging",
            where=source.path,
            remedy="merging needs eight bytes per parameter of the model: use a machine with more memory",
        ) from error
    return {
        "files": sorted(path.name for path in out.iterdir()),
        "parameters": parameters,
        "dequantised_layers": written.layers,
        **compare(written.expected, found, written.virtual),
    }


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
    token_ids = tokenised(tokenizer, job["conversations"])
    expected = logits_of(trained, token_ids)
    emit(note="merging")
    save_merged(plain_merge(trained, adapter), tokenizer, out, getattr(torch, job["dtype"]))
    return WrittenModel(expected, token_ids, layers)


def merge_prompt(job: dict[str, Any], source: ModelSource, adapter: Path, out: Path) -> WrittenModel:
    """Write a model with the learned virtual tokens in its vocabulary."""
    import torch
    from transformers import AutoTokenizer

    emit(note="loading the base and the virtual tokens")
    trained, _ = load_trained(source, adapter, job)
    model = trained.get_base_model()
    require_own_head(model.config.model_type, source.path)
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    plain_ids = tokenised(tokenizer, job["conversations"])
    expected = logits_of(trained, plain_ids)
    with torch.no_grad():
        vectors = trained.get_prompt_embedding_to_save(trained.active_adapter).float().cpu()
    emit(note="extending the vocabulary")
    ids = extend_tokenizer(tokenizer, len(vectors))
    token_ids = tokenised(tokenizer, job["conversations"])
    if token_ids != [[*ids, *turns] for turns in plain_ids]:  # for example, it marks the beginning of a text
        raise ModelError(
            "The tokenizer encodes a conversation differently after virtual tokens",
            where=source.path,
            remedy="use train.method lora",
        )
    model = model.to("cpu", torch.float32)
    extend_model(model, vectors, ids)
    save_merged(model, tokenizer, out, getattr(torch, job["dtype"]))
    # PEFT's logits include those of the virtual tokens, so the positions are the same.
    return WrittenModel(expected, token_ids, virtual=ids)


def write_model(job: dict[str, Any], source: ModelSource, trained: Path, out: Path) -> WrittenModel:
    """Write a fully trained model in the requested dtype."""
    import torch
    from transformers import AutoTokenizer

    emit(note="loading the model")
    model = load_base(source.model_copy(update={"path": str(trained), "revision": None}), torch.float32, None)
    tokenizer = AutoTokenizer.from_pretrained(trained)
    token_ids = tokenised(tokenizer, job["conversations"])
    expected = logits_of(model.eval(), token_ids)
    emit(note="writing the model")
    save_merged(model.to("cpu"), tokenizer, out, getattr(torch, job["dtype"]))
    return WrittenModel(expected, token_ids)


def tokenised(tokenizer: Any, conversations: Sequence[list[dict[str, str]]]) -> list[list[int]]:
    texts = [tokenizer.apply_chat_template(for_template(turns), tokenize=False) for turns in conversations]
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]


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


def save_merged(model: Any, tokenizer: Any, out: Path, dtype: torch.dtype) -> None:
    """Write weights, config, generation config, and the tokenizer with the chat template of the training."""
    model = model.to(dtype)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    stops = model.generation_config.eos_token_id
    known = [] if stops is None else stops if isinstance(stops, list) else [stops]
    if tokenizer.eos_token_id not in known:
        # The trained end of turn must also end the answer.
        model.generation_config.eos_token_id = [*known, tokenizer.eos_token_id] if known else tokenizer.eos_token_id
    model.config.use_cache = True
    model.save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)


def read_back(
    folder: Path, token_ids: Sequence[Sequence[int]], trust_remote_code: bool
) -> tuple[list[torch.Tensor], int]:
    """Logits and number of parameters of the written model, loaded by transformers' defaults."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=trust_remote_code)
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


def compare(
    expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor], virtual: Sequence[int] = ()
) -> dict[str, float]:
    """The largest difference of logits, and how often both models predict the same token.

    ``virtual`` ids, behind the vocabulary or among spare rows of the embeddings, are not compared and not predicted.
    """
    import torch

    if not expected:
        raise ModelError("No conversations to compare the merged model on", remedy="pass conversations in the job")
    wanted, written = torch.cat(list(expected)), torch.cat(list(found))
    width = wanted.shape[1]
    spare = [token for token in virtual if token < width]
    difference = (wanted - written[:, :width]).abs()
    difference[:, spare] = 0
    wanted[:, spare] = -torch.inf
    return {
        "max_logit_difference": difference.max().item(),
        "top1_agreement": (wanted.argmax(-1) == written.argmax(-1)).float().mean().item(),
    }


if __name__ == "__main__":
    worker_main(merge)
