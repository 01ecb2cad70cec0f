"""Likelihoods as transformers and PEFT compute them, to hold a server's against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def reference_likelihoods(
    model: Path, adapter: Path | None, prompts: Sequence[list[dict[str, str]]], answers: Sequence[str]
) -> list[list[float]]:
    """Log-probability of every answer and its ``<|im_end|>`` after every prompt, in float32."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    reference = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    if adapter is not None:
        reference = PeftModel.from_pretrained(reference, adapter).eval()

    def score(prompt: list[dict[str, str]], answer: str) -> float:
        text = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
        start = tokenizer(text, add_special_tokens=False).input_ids
        tail = tokenizer(f"{answer}<|im_end|>", add_special_tokens=False).input_ids
        with torch.no_grad():
            logits = reference(torch.tensor([start + tail])).logits[0].log_softmax(-1)
        return sum(float(logits[len(start) - 1 + at, token]) for at, token in enumerate(tail))

    return [[score(prompt, answer) for answer in answers] for prompt in prompts]


def write_random_adapter(model: Path, folder: Path, rank: int) -> Path:
    """A LoRA adapter on all linear layers whose weights all differ from zero."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(rank)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    config = LoraConfig(r=rank, init_lora_weights=False, target_modules="all-linear", task_type="CAUSAL_LM")
    get_peft_model(base, config).save_pretrained(folder)
    return folder
