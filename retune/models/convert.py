"""Child process that writes a model in GGUF as safetensors in Hugging Face layout, dequantised to bfloat16.

The package ``gguf`` is on its path only. Files hold no date and no version, so that equal weights give equal files.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from tasks.core.files import read_json, write_json
from tasks.core.processes import worker_main

RMS_NORM_EPS = 1e-5
"""GGUF stores it in 32 bits, which reads as 9.999999747378752e-06."""


def convert(job: dict[str, Any]) -> dict[str, Any]:
    """Read ``weights`` (a GGUF file of a Llama) and write the folder ``to``, with ``special_tokens`` in place."""
    import gguf
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # transformers reads the file five times, and each takes seconds in Python.
    gguf.GGUFReader = functools.cache(gguf.GGUFReader)

    source, to = Path(job["weights"]), Path(job["to"])
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    for name, token in job["special_tokens"].items():
        setattr(tokenizer, name, token)
    tokenizer.clean_up_tokenization_spaces = False  # GGUF has no such setting, and the default corrupts BPE
    dequantised = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.bfloat16)
    config = dequantised.config
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    # A model that counts as quantised cannot be saved.
    del config.quantization_config
    config.update({**ids, "rms_norm_eps": RMS_NORM_EPS})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(dequantised.state_dict())
    model.generation_config.update(**ids)
    tokenizer.model_max_length = config.max_position_embeddings
    model.save_pretrained(to)
    tokenizer.save_pretrained(to)
    _without(to / "config.json", "_model_name_or_path", "transformers_version")
    _without(to / "generation_config.json", "transformers_version")
    _without(to / "tokenizer_config.json", "is_local", "local_files_only")
    return {}


def _without(file: Path, *keys: str) -> None:
    content = read_json(file)
    write_json(file, {name: value for name, value in sorted(content.items()) if name not in keys})


if __name__ == "__main__":
    worker_main(convert)
