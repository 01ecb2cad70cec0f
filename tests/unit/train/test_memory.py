"""The planner's memory figures are what autograd, bitsandbytes and the optimizers really keep, on small models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.train.config import TrainConfig
from tasks.train.devices import devices_present, limit_of_the_container
from tasks.train.memory import inference_memory, layer_activations, trainable_parameters, training_memory
from tasks.train.model_shape import catalogue, model_shape
from tests.unit.train.test_planner import GPT2, LLAMA, QWEN2, real_model, training

MIB = 2**20
WIDE = {**QWEN2, "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3}
LLAMA_WIDE = {**LLAMA, "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3}


def kept_bytes(model: Any, rows: int, length: int) -> int:
    """Bytes of the distinct tensors that a decoder's forward pass keeps for the backward one, weights left out."""
    import torch

    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    held = []  # the graph: without it PyTorch would give the same address to one tensor after another
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        held.append(model(input_ids=torch.ones(rows, length, dtype=torch.long), use_cache=False).last_hidden_state)
    return sum(kept.values())


@pytest.mark.parametrize("config", [WIDE, LLAMA_WIDE], ids=lambda config: str(config["model_type"]))
@pytest.mark.parametrize(
    "settings", [{"method": "lora"}, {"method": "lora", "target_modules": "family"}, {"method": "full"}], ids=str
)
def test_activations_are_those_that_autograd_keeps(config: dict[str, Any], settings: dict[str, Any]) -> None:
    from peft import LoraConfig, get_peft_model

    if settings["method"] == "full":
        settings = {**settings, "rank": 16, "target_modules": "family"}
    train = training(**settings)
    shape = model_shape(config, train)
    model = real_model(config)
    if train.method == "lora":
        adapted = get_peft_model(model, LoraConfig(r=8, target_modules=list(shape.targets), task_type="CAUSAL_LM"))
        adapted.enable_input_require_grads()
        model = adapted.base_model.model
    measured = kept_bytes(model.train().model, rows=2, length=64)
    expected = shape.layers * layer_activations(shape, train, compute=4) * 2 * 64
    assert measured == pytest.approx(expected, rel=0.08)


@pytest.mark.parametrize("double", [True, False])
def test_4_bit_weights_and_their_constants_are_what_bitsandbytes_stores(double: bool) -> None:
    import torch
    from bitsandbytes.nn import Params4bit

    train = training(double_quantisation=double, backend="transformers")
    shape = model_shape(WIDE, train)
    stored = constants = 0
    for layer in shape.linear:
        weight = Params4bit(torch.randn(layer.outputs, layer.inputs), False, compress_statistics=double).to("cpu")
        stored += weight.numel() * weight.element_size()
        state = weight.quant_state
        parts = [state.absmax, *([state.state2.absmax, state.state2.code] if double else [])]
        constants += sum(part.numel() * part.element_size() for part in parts)
    planned = training_memory(shape, train, "cpu")
    others = (shape.total_parameters - shape.quantisable + trainable_parameters(shape, train)) * 4
    assert planned.weights == stored + others
    assert planned.quantisation == constants


def test_gradients_and_moments_are_what_the_optimizer_holds() -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    train = training(method="lora")
    shape = model_shape(WIDE, train)
    model = get_peft_model(real_model(WIDE), LoraConfig(r=8, target_modules=list(shape.targets), task_type="CAUSAL_LM"))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, fused=True)
    ids = torch.ones(1, 8, dtype=torch.long)
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    moments = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    planned = training_memory(shape, train, "cpu")
    assert planned.optimizer == sum(tensor.numel() * tensor.element_size() for tensor in moments)
    assert planned.gradients == sum(p.grad.numel() * p.grad.element_size() for p in trained if p.grad is not None)


def test_8_bit_moments_are_what_bitsandbytes_holds() -> None:
    import torch
    from bitsandbytes.optim import AdamW8bit

    train = training(method="full", rank=16, target_modules="family", optimizer="adamw_8bit")
    shape = model_shape({**WIDE, "hidden_size": 256}, train)
    weights = torch.nn.Parameter(torch.randn(shape.total_parameters))
    weights.grad = torch.randn_like(weights)
    optimizer = AdamW8bit([weights])
    optimizer.step()
    state = optimizer.state[weights]
    held = sum(state[name].numel() * state[name].element_size() for name in ("state1", "state2", "absmax1", "absmax2"))
    assert training_memory(shape, train, "cuda").optimizer == held


def test_the_reference_run_stays_near_what_the_qlora_paper_says_of_its_weights() -> None:
    train = training()
    shape = model_shape(catalogue()["unsloth/Meta-Llama-3.1-8B-bnb-4bit"], train)
    planned = training_memory(shape, train, "cuda")
    assert planned.quantisation * 8 / shape.quantisable == pytest.approx(0.127, abs=0.001)
    quantised = planned.weights - (shape.total_parameters - shape.quantisable) * 2
    quantised -= trainable_parameters(shape, train) * 4
    assert quantised * 8 / shape.quantisable == pytest.approx(4)


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        ({"batch_size": 2}, {"batch_size": 4}),
        ({"max_length": 256}, {"max_length": 512}),
        ({"use_gradient_checkpointing": True}, {"use_gradient_checkpointing": False}),
        ({"method": "qlora"}, {"method": "lora"}),
        ({"double_quantisation": True, "backend": "transformers"}, {"double_quantisation": False}),
        ({"rank": 8}, {"rank": 64}),
        ({"optimizer": "adamw_8bit"}, {"optimizer": "adamw_torch"}),
    ],
    ids=str,
)
def test_what_saves_memory_is_planned_to_save_it(smaller: dict[str, Any], larger: dict[str, Any]) -> None:
    shape_of = catalogue()["meta-llama/Llama-3.2-1B"]

    def peak(settings: dict[str, Any]) -> int:
        train = training(**{"backend": "transformers", **settings})
        return training_memory(model_shape(shape_of, train), train, "cuda").total

    assert peak(smaller) < peak(larger)


def test_a_smaller_batch_is_planned_without_another_recipe() -> None:
    train = training(batch_size=8)
    shape = model_shape(WIDE, train)
    halved = training_memory(shape, train, "cpu", batch_size=4)
    assert halved == training_memory(shape, train.model_copy(update={"batch_size": 4}), "cpu")
    assert halved.activations < training_memory(shape, train, "cpu").activations


def test_fsdp_shares_what_belongs_to_parameters_and_not_the_activations() -> None:
    one = training(backend="transformers")
    shape = model_shape(catalogue()["meta-llama/Llama-3.1-8B"], one)
    four = one.model_copy(update={"processes": 4, "sharding": "fsdp"})
    alone, shared = training_memory(shape, one, "cuda"), training_memory(shape, four, "cuda")
    assert shared.activations == alone.activations
    assert shared.gradients == alone.gradients // 4 and shared.optimizer == alone.optimizer // 4
    assert shared.weights == alone.weights // 4 + alone.weights // 32, "its quarter, and one of 32 layers gathered"


def test_a_peak_is_that_of_loading_or_that_of_the_work_not_both() -> None:
    train = training(max_length=16, batch_size=1)
    planned = training_memory(model_shape(catalogue()["meta-llama/Llama-3.1-8B"], train), train, "cpu")
    assert planned.loading > 16 * 10**9, "safetensors' pages and the weights made from them"
    assert planned.total == planned.runtime + planned.loading
    assert planned.needed < planned.total, "a machine with less than the pages of the file can train all the same"
    parts = ("weights", "quantisation", "gradients", "optimizer", "activations", "logits")
    work = training_memory(model_shape(WIDE, training()), training(), "cuda")
    assert work.total == work.runtime + sum(work.splits()[part] for part in parts)


def test_a_cache_holds_keys_and_values_of_every_layer() -> None:
    shape = model_shape(catalogue()["meta-llama/Llama-3.1-8B"], training())
    served = inference_memory(shape, 2, "cuda", cached_tokens=1000)
    assert served.cache == 1000 * 131_072, "2 tensors, 32 layers, 8 heads of 128, 2 bytes"
    assert served.weights == shape.total_parameters * 2
    assert inference_memory(shape, 2, "cpu", 1000, cache_bytes=5 * MIB).cache == 5 * MIB


def test_a_model_without_gates_keeps_less_of_its_feed_forward_layer() -> None:
    train = training(method="lora")
    gpt2 = model_shape(GPT2, train)
    assert not gpt2.is_gated and gpt2.intermediate == 256
    assert model_shape(QWEN2, train).is_gated


def test_a_container_s_limit_counts_and_its_cached_files_do_not(tmp_path: Path) -> None:
    for name, text in (
        ("memory.max", "4000\n"),
        ("memory.current", "1500\n"),
        ("memory.stat", "anon 600\nactive_file 100\ninactive_file 400\nslab 7\n"),
    ):
        (tmp_path / name).write_text(text, encoding="ascii")
    assert limit_of_the_container(tmp_path) == (4000, 3000)
    (tmp_path / "memory.max").write_text("max\n", encoding="ascii")
    assert limit_of_the_container(tmp_path)[0] > 2**60


def test_gpus_are_those_that_nvidia_smi_lists_and_the_processor_comes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\necho 'NVIDIA A100, 40960, 40000'\necho 'NVIDIA T4, 15360, 15000'\n", encoding="ascii"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    first, second, processor = devices_present()
    assert (first.name, first.kind, first.total, first.free) == ("NVIDIA A100", "cuda", 40960 * MIB, 40000 * MIB)
    assert second.name == "NVIDIA T4"
    assert processor.kind == "cpu" and 0 < processor.free <= processor.total


def test_a_machine_whose_driver_fails_has_its_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'no devices, 1, 2'\nexit 9\n", encoding="ascii")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert [device.kind for device in devices_present()] == ["cpu"]


def test_the_type_of_computation_is_the_device_s_unless_the_recipe_names_one() -> None:
    def weights(device: Any, **settings: Any) -> int:
        train = TrainConfig(method="lora", max_steps=10, target_modules="all-linear", **settings)
        return training_memory(model_shape(WIDE, train), train, device).weights

    assert weights("cuda") < weights("cpu")
    assert weights("cpu", compute_dtype="bfloat16") == weights("cuda")
    assert weights("cuda", compute_dtype="float32") == weights("cpu")
