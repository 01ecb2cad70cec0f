"""What was trained as the end of a turn stops everything that is saved, and what is saved is the base's otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from tasks.core.artifacts import ArtifactRef
from tasks.core.config import ModelSource
from tasks.core.errors import ModelError
from tasks.core.merging.worker import merge
from tasks.core.stops import check_generation_config, savable, stop_tokens, stopping_at
from tasks.train.chat_templates import CHATML, ending_at
from tasks.train.train import TrainJob
from tests.tiny_model import tiny_tokenizer, write_tiny_model
from tests.unit.train.test_masking import R1
from tests.unit.train.trial import settings, train_here

ENDOFTEXT, IM_END = 0, 2
SAMPLING = {"temperature": 0.6, "top_p": 0.9, "top_k": 40}
FORMS = {"lora": ("adapter", "lora"), "full": ("model", "model"), "prompt_tuning": ("adapter", "prompt")}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its template ends turns with <|im_end|>, and all its configs name <|endoftext|>; it pads on the left.

    Its generation config has sampling values without do_sample, as published ones do.
    """
    return write_base(tmp_path_factory.mktemp("base"), CHATML)


def write_base(folder: Path, template: str) -> Path:
    tokenizer = tiny_tokenizer(template, eos="<|endoftext|>")
    tokenizer.pad_token = None
    write_tiny_model(folder, tokenizer)
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "padding_side": "left"}), encoding="utf-8")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ENDOFTEXT, **SAMPLING}))
    return folder


def trained(
    base: Path, training_set: ArtifactRef, folder: Path, monkeypatch: pytest.MonkeyPatch, method: str, **changes: Any
) -> Path:
    config = settings(method=method, max_steps=1, **changes)
    train_here(TrainJob(config, ModelSource(path=str(base)), training_set, seed=7), folder, monkeypatch)
    return folder / "out"


def merged(base: Path, out: Path, method: str, to: Path) -> Path:
    name, form = FORMS[method]
    merge(
        {
            "model": {"path": str(base)},
            "adapter": str(out / name),
            "form": form,
            "method": method,
            "dtype": "float32",
            "out": str(to),
            "token_ids": json.loads((out / "tokens.json").read_text(encoding="utf-8"))["trained_ids"],
        }
    )
    return to


@pytest.mark.parametrize("method", FORMS)
def test_everything_saved_stops_where_turns_were_trained_to_end(
    base: Path, training_set: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    out = trained(base, training_set, tmp_path, monkeypatch, method)
    tokens = json.loads((out / "tokens.json").read_text(encoding="utf-8"))
    assert (tokens["end_of_turn"], tokens["stop_token_ids"]) == (IM_END, [IM_END])
    assert len(tokens["trained_ids"]) == 8 and all(IM_END in row for row in tokens["trained_ids"])
    for folder in (out / FORMS[method][0], merged(base, out, method, tmp_path / "merged")):
        assert set(stop_tokens(folder)) == {ENDOFTEXT, IM_END}
        generation = GenerationConfig.from_pretrained(folder)
        assert generation.do_sample and {name: getattr(generation, name) for name in SAMPLING} == SAMPLING
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert tokenizer.eos_token == "<|im_end|>" and tokenizer.pad_token is None
        assert (tokenizer.padding_side, tokenizer.model_max_length) == ("left", 512)
        saved = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        assert saved["truncation"] is None and saved["padding"] is None


def test_a_template_whose_prompt_opens_a_thought_is_trained(
    training_set: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = trained(write_base(tmp_path / "base", R1), training_set, tmp_path / "run", monkeypatch, "lora")
    masking = json.loads((out / "masking.json").read_text(encoding="utf-8"))
    assert "assistant\n<think>\n[[\n</think>\n\n" in masking["example"] and "<|im_end|>]]" in masking["example"]
    tokens = json.loads((out / "tokens.json").read_text(encoding="utf-8"))
    thought = AutoTokenizer.from_pretrained(out / "adapter")("\n</think>\n\n", add_special_tokens=False)["input_ids"]
    assert abs(tokens["thought_tokens"] - len(thought)) <= 1


def test_a_token_without_an_embedding_and_an_end_that_was_never_learned_are_named(
    base: Path,
    training_set: ArtifactRef,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    model.generation_config = GenerationConfig()
    with torch.no_grad():
        model.get_input_embeddings().weight[IM_END] = 0
    blank = tmp_path / "blank"
    write_base(blank, CHATML)
    model.save_pretrained(blank)
    trained(blank, training_set, tmp_path / "one", monkeypatch, "lora")
    assert "warning: the base never learned <|im_end|>" in capsys.readouterr().out
    trained(base, training_set, tmp_path / "two", monkeypatch, "lora")
    assert "never learned" not in capsys.readouterr().out
    model.resize_token_embeddings(200)
    model.save_pretrained(blank)
    with pytest.raises(ModelError, match="has 200 embeddings"):
        trained(blank, training_set, tmp_path / "three", monkeypatch, "lora")


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ({"temperature": 0.6}, {"temperature": 0.6, "do_sample": True}),
        ({"top_p": 0.9, "do_sample": False}, {"top_p": 0.9, "do_sample": True}),
        ({"min_p": 0.1, "typical_p": 0.5}, {"min_p": 0.1, "do_sample": True}),
        ({"length_penalty": 2.0}, {"length_penalty": None}),
        ({"early_stopping": True}, {"early_stopping": None}),
        ({"pad_token_id": -1, "temperature": 0.6}, {"pad_token_id": None}),
        ({"temperature": 0.6, "do_sample": True, "max_length": 99}, {"temperature": 0.6, "max_length": 99}),
        ({}, {"do_sample": None}),
    ],
)
def test_a_generation_config_that_contradicts_itself_is_mended(
    values: dict[str, Any], kept: dict[str, Any], tmp_path: Path
) -> None:
    found = GenerationConfig(eos_token_id=5, **values)
    mended = savable(found)
    mended.save_pretrained(tmp_path)
    assert {name: getattr(mended, name) for name in kept} == kept
    assert mended.eos_token_id == 5 and stop_tokens(tmp_path) == [5]


@pytest.mark.parametrize(
    ("known", "ends", "stops"),
    [(None, [2], 2), (2, [2], 2), (0, [2], [0, 2]), ([0, 3], [3, 2], [0, 3, 2]), (0, [], 0), (None, [], None)],
)
def test_ends_of_turns_are_added_to_the_stop_tokens(known: Any, ends: list[int], stops: Any) -> None:
    assert stopping_at(GenerationConfig(eos_token_id=known), ends).eos_token_id == stops


def test_a_generation_config_that_transformers_refuses_to_load_is_told_with_its_file(tmp_path: Path) -> None:
    file = tmp_path / "generation_config.json"
    check_generation_config(tmp_path)
    for values in ({"num_return_sequences": 3}, {"early_stopping": "maybe"}, {"max_new_tokens": 0}):
        file.write_text(json.dumps(values), encoding="utf-8")
        with pytest.raises(ModelError, match="refuses the model's generation config") as caught:
            check_generation_config(tmp_path)
        assert caught.value.where == str(file) and caught.value.remedy
    file.write_text(json.dumps({"max_new_tokens": 9, **SAMPLING}), encoding="utf-8")
    check_generation_config(tmp_path)


def test_the_tokenizers_end_stays_where_the_template_writes_it() -> None:
    writes = "{{ eos_token }}" + CHATML
    assert ending_at(tiny_tokenizer(CHATML, eos="<|endoftext|>"), [IM_END]).eos_token == "<|im_end|>"
    assert ending_at(tiny_tokenizer(writes, eos="<|endoftext|>"), [IM_END]).eos_token == "<|endoftext|>"
    assert ending_at(tiny_tokenizer(CHATML), [ENDOFTEXT, IM_END]).eos_token == "<|im_end|>"
    assert ending_at(tiny_tokenizer(CHATML), []).eos_token == "<|im_end|>"
