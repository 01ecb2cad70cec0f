"""The merging process: ``python -m tasks.core.merging.worker job.json``.

QLoRA trains the adapter on the base as NF4 holds it, so it is merged into just that: the 4-bit weights are dequantised
in full precision and the update is added there (merged onto the original weights, the model is another function than
the one that was trained). PEFT merges, with both backends: Unsloth cannot merge 4-bit models on a CPU.

A model of which every weight was trained is written in the wanted type; one with virtual tokens gets a larger
vocabulary, see ``virtual_tokens``.
"""

from __future__ import annotations

import os
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
    """Make a whole model of what was trained, and compare it with that.

    Args:
        job: ``model`` (path, revision), ``adapter`` (folder with what was trained and the tokenizer), ``form`` (lora,
            prompt or model), ``method`` (qlora or another), ``quantisation`` (quant_type, double_quantisation),
            ``dtype`` (float32, bfloat16 or float16), ``out`` (a folder, which is emptied), ``conversations`` (messages
            to compare on), and ``quantised_layers`` (how many the training found; left out, it is not checked).

    Returns:
        ``files`` (names), ``parameters``, ``dequantised_layers``, ``max_logit_difference`` (largest absolute
        difference of any logit between the model as written and what was trained, float32 computation) and
        ``top1_agreement`` (share of positions with the same most likely token).

    Raises:
        ModelError: base and adapter do not fit together, or the merged model cannot be read back.
        MachineError: not enough memory.
    """
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    source, trained, out = ModelSource.model_validate(job["model"]), Path(job["adapter"]), Path(job["out"])
    shutil.rmtree(out, ignore_errors=True)
    make = {"lora": merge_lora, "prompt": merge_prompt, "model": write_model}[job.get("form", "lora")]
    try:
        made = make(job, source, trained, out)
        emit(note="reading the merged model back")
        found, parameters = read_back(out, made.token_ids, source.trust_remote_code)
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise MachineError(
            "Out of memory while merging",
            where=source.path,
            remedy="merging needs four bytes a parameter of the model, twice: use a machine with more memory",
        ) from error
    return {
        "files": sorted(path.name for path in out.iterdir()),
        "parameters": parameters,
        "dequantised_layers": made.layers,
        **compare(made.expected, found, made.virtual),
    }


@dataclass(frozen=True)
class Made:
    """A model that was written, and what it should compute.

    Attributes:
        expected: logits of what was trained, (tokens, vocabulary) for each sequence.
        token_ids: sequences from which the written model should compute them.
        layers: that were dequantised.
        virtual: ids of virtual tokens: no logit of what was trained is theirs.
    """

    expected: Sequence[torch.Tensor]
    token_ids: Sequence[Sequence[int]]
    layers: int = 0
    virtual: Sequence[int] = ()


def merge_lora(job: dict[str, Any], source: ModelSource, adapter: Path, out: Path) -> Made:
    """Add a low-rank update to its base, and write the sum."""
    import torch
    from transformers import AutoTokenizer

    emit(note="loading the base and the adapter")
    trained, layers = load_trained(source, adapter, job)
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    token_ids = tokenised(tokenizer, job["conversations"])
    expected = logits_of(trained, token_ids)
    emit(note="merging")
    save_merged(plain_merge(trained, adapter), tokenizer, out, getattr(torch, job["dtype"]))
    return Made(expected, token_ids, layers)


def merge_prompt(job: dict[str, Any], source: ModelSource, adapter: Path, out: Path) -> Made:
    """Make learned virtual tokens real ones, and write the model with the larger vocabulary.

    Raises:
        ModelError: vLLM would let the model write its virtual tokens, or the tokenizer reads what follows them
            otherwise than alone.
    """
    import torch
    from transformers import AutoTokenizer

    emit(note="loading the base and the virtual tokens")
    trained, _ = load_trained(source, adapter, job)
    model = trained.get_base_model()
    require_own_head(model.config.model_type, source.path)
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    alone = tokenised(tokenizer, job["conversations"])
    expected = logits_of(trained, alone)
    with torch.no_grad():
        vectors = trained.get_prompt_embedding_to_save(trained.active_adapter).float().cpu()
    emit(note="extending the vocabulary")
    ids = extend_tokenizer(tokenizer, len(vectors))
    token_ids = tokenised(tokenizer, job["conversations"])
    if token_ids != [[*ids, *turns] for turns in alone]:  # such as one that marks the beginning of a text
        raise ModelError(
            "The tokenizer reads a conversation otherwise behind virtual tokens than alone",
            where=source.path,
            remedy="use train.method lora",
        )
    model = model.to("cpu", torch.float32)
    extend_model(model, vectors, ids)
    save_merged(model, tokenizer, out, getattr(torch, job["dtype"]))
    # PEFT's logits begin with those of the virtual tokens too, so that the positions are the same.
    return Made(expected, token_ids, virtual=ids)


def write_model(job: dict[str, Any], source: ModelSource, trained: Path, out: Path) -> Made:
    """Write a model of which every weight was trained in the wanted type."""
    import torch
    from transformers import AutoTokenizer

    emit(note="loading the model")
    model = load_base(source.model_copy(update={"path": str(trained), "revision": None}), torch.float32, None)
    tokenizer = AutoTokenizer.from_pretrained(trained)
    token_ids = tokenised(tokenizer, job["conversations"])
    expected = logits_of(model.eval(), token_ids)
    emit(note="writing the model")
    save_merged(model.to("cpu"), tokenizer, out, getattr(torch, job["dtype"]))
    return Made(expected, token_ids)


def tokenised(tokenizer: Any, conversations: Sequence[list[dict[str, str]]]) -> list[list[int]]:
    """Token ids of conversations in a tokenizer's chat template."""
    texts = [tokenizer.apply_chat_template(for_template(turns), tokenize=False) for turns in conversations]
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]


def load_trained(source: ModelSource, adapter: Path, job: dict[str, Any]) -> tuple[Any, int]:
    """The adapter on the base it was trained on, computing in float32, and the number of 4-bit layers in it."""
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
            f"The base has {layers} quantised layers, but {wanted or 'some'} were trained on",
            where=source.path,
            remedy="merge on the bitsandbytes version and with the quantisation settings of the training",
        )
    keep_weights_unpacked(base)
    try:
        return PeftModel.from_pretrained(base, str(adapter)).eval(), layers
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"The adapter does not fit the base: {error}", where=str(adapter), remedy="name the base it was trained on"
        ) from error


def plain_merge(trained: Any, adapter: Path) -> Any:
    """A plain float32 model on the CPU: the base, dequantised if it was quantised, plus the adapter's update."""
    import torch
    from peft import PeftModel

    base = trained.unload()
    if quantised_layers(base):
        base = base.dequantize(dtype=torch.float32)
    base = base.to("cpu", torch.float32)
    return PeftModel.from_pretrained(base, str(adapter)).merge_and_unload()


def save_merged(model: Any, tokenizer: Any, out: Path, dtype: torch.dtype) -> None:
    """Write weights, config, generation config, and the tokenizer with the chat template that was trained."""
    model = model.to(dtype)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    stops = model.generation_config.eos_token_id
    known = [] if stops is None else stops if isinstance(stops, list) else [stops]
    if tokenizer.eos_token_id not in known:
        # The turn's end that training taught must also end the answer.
        model.generation_config.eos_token_id = [*known, tokenizer.eos_token_id] if known else tokenizer.eos_token_id
    model.config.use_cache = True
    model.save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)


def read_back(
    folder: Path, token_ids: Sequence[Sequence[int]], trust_remote_code: bool
) -> tuple[list[torch.Tensor], int]:
    """Logits and number of parameters of the written model, loaded as anyone would load it."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=trust_remote_code)
    if getattr(model.config, "quantization_config", None) is not None:
        raise ModelError("The merged model still says that it is quantised", where=str(folder / "config.json"))
    return logits_of(model.eval(), token_ids), sum(parameter.numel() for parameter in model.parameters())


def logits_of(model: Any, token_ids: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Logits of every sequence, (tokens, vocabulary) each, float32 on the CPU."""
    import torch

    with torch.inference_mode():
        return [
            model(input_ids=torch.tensor([list(ids)], device=model.device)).logits[0].float().cpu() for ids in token_ids
        ]


def compare(
    expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor], virtual: Sequence[int] = ()
) -> dict[str, float]:
    """The largest difference of logits, and how often both models would say the same token next.

    Args:
        virtual: ids that the written model must not say, and that are compared no further. They lie behind the
            vocabulary, or among rows that a table had to spare.
    """
    import torch

    if not expected:
        raise ModelError("No conversations to compare the merged model on", remedy="pass conversations in the job")
    one, other = torch.cat(list(expected)), torch.cat(list(found))
    width = one.shape[1]
    spare = [token for token in virtual if token < width]
    difference = (one - other[:, :width]).abs()
    difference[:, spare] = 0
    one[:, spare] = -torch.inf
    return {
        "max_logit_difference": difference.max().item(),
        "top1_agreement": (one.argmax(-1) == other.argmax(-1)).float().mean().item(),
    }


if __name__ == "__main__":
    worker_main(merge)
