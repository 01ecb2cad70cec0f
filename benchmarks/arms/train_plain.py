"""The plain stack, as its documentation writes it: TRL + PEFT + bitsandbytes on transformers; no code of this project.

``python -m benchmarks.arms.train_plain READY [lora]``; see benchmarks/arms/train_arm.py. QLoRA on NF4 with double
quantisation, or LoRA; all linear layers; loss on the assistant's tokens through the template's generation markers;
SDPA.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import torch
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, set_seed
from trl import SFTConfig, SFTTrainer

from benchmarks.arms.train_arm import MODULES, Round, serve
from benchmarks.arms.train_rows import TEMPLATE


def train(one: Round, method: str = "qlora") -> None:
    """Train a round."""
    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu else torch.float32
    set_seed(one.seed)
    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    model = AutoModelForCausalLM.from_pretrained(
        one.model,
        quantization_config=quantisation if method == "qlora" else None,
        dtype=dtype,
        device_map={"": "cuda:0" if on_gpu else "cpu"},
        attn_implementation="sdpa",
    )
    again = {"use_reentrant": False} if one.checkpointing else None
    if method == "qlora":
        model = prepare_model_for_kbit_training(
            model, use_gradient_checkpointing=one.checkpointing, gradient_checkpointing_kwargs=again
        )
    tokenizer = AutoTokenizer.from_pretrained(one.model)
    tokenizer.chat_template = TEMPLATE
    rows = Dataset.from_parquet(one.rows, cache_dir=one.work).select_columns(["messages"])
    arguments = SFTConfig(
        output_dir=one.work,
        per_device_train_batch_size=one.batch_size,
        gradient_accumulation_steps=one.accumulation_steps,
        num_train_epochs=one.epochs,
        learning_rate=one.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=5,
        weight_decay=0.01,
        optim="adamw_8bit" if on_gpu else "adamw_torch_fused",
        max_length=one.max_length,
        packing=one.packing,
        assistant_only_loss=True,
        gradient_checkpointing=one.checkpointing,
        gradient_checkpointing_kwargs=again,
        bf16=on_gpu,
        use_cpu=not on_gpu,
        seed=one.seed,
        data_seed=one.seed,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=on_gpu,
    )
    lora = LoraConfig(
        r=one.rank, lora_alpha=one.rank, lora_dropout=0.0, bias="none", target_modules=MODULES, task_type="CAUSAL_LM"
    )
    SFTTrainer(model=model, processing_class=tokenizer, train_dataset=rows, args=arguments, peft_config=lora).train()


if __name__ == "__main__":
    disable_progress_bars()
    serve(partial(train, method=sys.argv[2] if len(sys.argv) > 2 else "qlora"), Path(sys.argv[1]))
