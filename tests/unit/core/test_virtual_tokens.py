"""A prompt-tuned model as an ordinary one: PEFT's logits, PEFT's words, and no virtual token among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, PromptTuningConfig, get_peft_model
from tokenizers import pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3nTextConfig,
    Gemma3TextConfig,
    Lfm2Config,
    Lfm2MoeConfig,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedConfig,
    Qwen2Config,
    Qwen2ForCausalLM,
    Zamba2Config,
)

from tasks.core.errors import ModelError
from tasks.core.merging.trained import require_own_head
from tasks.core.merging.virtual_tokens import extend_tokenizer, token_names
from tasks.core.merging.worker import merge
from tests.tiny_model import tiny_tokenizer

COUNT = 5
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 256,
}
CONVERSATIONS = [
    [{"role": "user", "content": "where is my card"}, {"role": "assistant", "content": "in the post"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "my account is locked"}],
]


def tiny(kind: str, vocabulary: int) -> Any:
    torch.manual_seed(3)
    if kind == "gemma3":
        return Gemma3ForCausalLM(Gemma3TextConfig(vocab_size=vocabulary, head_dim=32, **SIZES))
    if kind == "gemma2":
        return Gemma2ForCausalLM(Gemma2Config(vocab_size=vocabulary, head_dim=32, **SIZES))
    if kind == "phi":  # its head has a bias
        return PhiForCausalLM(PhiConfig(vocab_size=vocabulary, **{**SIZES, "num_key_value_heads": 2}))
    rows = vocabulary + (64 if kind == "padded" else 0)
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=rows, tie_word_embeddings=kind != "untied", **SIZES))


@pytest.fixture(scope="module", params=["tied", "untied", "padded", "gemma3", "phi"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A base, a prompt adapter with its tokenizer, and the model that was made of them."""
    folder = tmp_path_factory.mktemp(request.param)
    return folder, merge(written(request.param, folder))


Made = tuple[Path, dict[str, Any]]


def written(kind: str, folder: Path, tokenizer: Any = None) -> dict[str, Any]:
    """Write a base and a prompt adapter with its tokenizer; the job that merges them."""
    tokenizer = tokenizer or tiny_tokenizer()
    base = tiny(kind, len(tokenizer))
    base.generation_config.eos_token_id = tokenizer.eos_token_id
    base.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    model = get_peft_model(base, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=COUNT))
    with torch.no_grad():  # as large as trained vectors may become
        model.prompt_encoder["default"].embedding.weight.normal_(0, 1)
    model.save_pretrained(folder / "adapter")
    tokenizer.save_pretrained(folder / "adapter")
    return {
        "model": {"path": str(folder / "base"), "revision": None},
        "adapter": str(folder / "adapter"),
        "form": "prompt",
        "method": "prompt_tuning",
        "dtype": "float32",
        "out": str(folder / "merged"),
        "token_ids": [
            tokenizer(tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False)["input_ids"]
            for turns in CONVERSATIONS
        ],
    }


def texts(folder: Path, conversation: list[dict[str, str]]) -> torch.Tensor:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    return torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])


def test_its_logits_are_pefts(made: Made) -> None:
    folder, result = made
    assert result["max_logit_difference"] < 1e-4 and result["top1_agreement"] == 1.0
    peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder / "base"), folder / "adapter").eval()
    merged = AutoModelForCausalLM.from_pretrained(folder / "merged").eval()
    question = texts(folder / "adapter", CONVERSATIONS[1])
    longer = texts(folder / "merged", CONVERSATIONS[1])
    assert longer.shape[1] == question.shape[1] + COUNT and torch.equal(longer[:, COUNT:], question)
    with torch.inference_mode():
        theirs = peft(input_ids=question).logits[0, -question.shape[1] :, : longer[0, 0]]
        ours = merged(input_ids=longer).logits[0, COUNT:, : longer[0, 0]]
        plain = peft.get_base_model()(input_ids=question).logits[0, :, : longer[0, 0]]
    assert (theirs - ours).abs().max() < 1e-4
    assert (plain - ours).abs().max() > 1e-2, "the virtual tokens changed nothing"


def test_it_writes_what_peft_writes(made: Made) -> None:
    folder, _ = made
    peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder / "base"), folder / "adapter").eval()
    merged = AutoModelForCausalLM.from_pretrained(folder / "merged").eval()
    question, longer = texts(folder / "adapter", CONVERSATIONS[0]), texts(folder / "merged", CONVERSATIONS[0])
    settings: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False}
    theirs = peft.generate(input_ids=question, attention_mask=torch.ones_like(question), **settings)
    ours = merged.generate(input_ids=longer, attention_mask=torch.ones_like(longer), **settings)
    assert theirs[0, question.shape[1] :].tolist() == ours[0, longer.shape[1] :].tolist()


def test_no_virtual_token_is_ever_the_likeliest_and_sampling_writes_none(made: Made) -> None:
    folder, _ = made
    merged = AutoModelForCausalLM.from_pretrained(folder / "merged").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "merged")
    ids = tokenizer.convert_tokens_to_ids(token_names(COUNT))
    torch.manual_seed(0)
    anything = torch.randint(0, ids[0], (8, 64))
    with torch.inference_mode():
        logits = merged(input_ids=anything).logits
    virtual, real = logits[..., ids], logits[..., : ids[0]]
    assert (virtual.amax(-1) < real.amax(-1)).all()
    assert (logits.softmax(-1)[..., ids].amax(-1) <= 1 / real.shape[-1] + 1e-6).all()
    question = texts(folder / "merged", CONVERSATIONS[0]).repeat(16, 1)
    mask = torch.ones_like(question)
    written = merged.generate(
        input_ids=question, attention_mask=mask, max_new_tokens=24, do_sample=True, temperature=5.0, top_k=0
    )
    assert not set(written[:, question.shape[1] :].flatten().tolist()) & set(ids)


def test_the_folder_is_an_ordinary_models(made: Made) -> None:
    folder, result = made
    assert {"config.json", "tokenizer.json", "generation_config.json"} <= set(result["files"])
    assert not [name for name in result["files"] if name.startswith("adapter")]
    tokenizer = AutoTokenizer.from_pretrained(folder / "merged")
    start = "".join(token_names(COUNT))
    assert tokenizer.apply_chat_template(CONVERSATIONS[0], tokenize=False).startswith(start + "<|im_start|>")
    assert tokenizer.decode(texts(folder / "merged", CONVERSATIONS[0])[0], skip_special_tokens=True).startswith("user")


def test_a_family_whose_embeddings_are_its_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match="gemma2 model with virtual tokens cannot be served: its embeddings are its he"
    ):
        merge(written("gemma2", tmp_path))
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("kind", [Gemma3nTextConfig, Lfm2Config, Lfm2MoeConfig, Zamba2Config])
def test_so_is_every_family_whose_head_vllm_ties(kind: type[PreTrainedConfig]) -> None:
    with pytest.raises(ModelError, match=f"{kind.model_type} model with virtual tokens"):
        require_own_head(kind.model_type, "org/model")


def test_a_tokenizer_that_marks_the_beginning_of_a_text_is_refused(tmp_path: Path) -> None:
    """What comes first is then another token than behind virtual ones, and the prompt was learned for that one."""
    tokenizer = tiny_tokenizer(template="{% for turn in messages %}{{ turn.role }}: {{ turn.content }}\n{% endfor %}")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="Ġ", prepend_scheme="first")
    job = written("tied", tmp_path, tokenizer)
    with pytest.raises(ModelError, match="encodes a conversation differently after virtual tokens") as caught:
        merge(job)
    assert "lora" in caught.value.remedy


def test_a_tokenizer_without_a_template_or_with_such_tokens_already_is_refused() -> None:
    with pytest.raises(ModelError, match="no chat template"):
        extend_tokenizer(tiny_tokenizer(template=None), COUNT)
    tokenizer = tiny_tokenizer()
    extend_tokenizer(tokenizer, COUNT)
    with pytest.raises(ModelError, match="already"):
        extend_tokenizer(tokenizer, COUNT)
