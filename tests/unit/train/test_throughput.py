from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from tasks.train.throughput import Pace, TokenCounter, mfu, peak_flops, peak_memory_bytes, peak_resident_bytes


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("Tesla T4", 65),
        ("NVIDIA A10", 125),
        ("NVIDIA A10G", 70),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA GeForce RTX 5090", 209),
        ("NVIDIA B200", 2250),
    ],
)
def test_a_card_is_known_by_the_name_that_torch_gives_it(name: str, tera: float) -> None:
    assert peak_flops(name) == tera * 1e12


@pytest.mark.parametrize(
    "name",
    [
        "cpu",
        "NVIDIA RTX A1000",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "NVIDIA A100-SXM4-40GB MIG 3g.20gb",
        "AMD Instinct MI300X",
        "NVIDIA L40",
    ],
)
def test_of_other_devices_nothing_is_claimed(name: str) -> None:
    assert peak_flops(name) is None
    assert mfu(1000, 10**9, name, trains_all=True) is None


def test_utilisation_counts_six_flops_a_parameter_and_token_or_four_where_the_base_is_frozen() -> None:
    # PaLM, table 3: 540 billion parameters, 238.3 thousand tokens/s on 6144 chips of 275 TFLOP/s: 45.7% without
    # attention. Here on one A100 of 312 TFLOP/s, per chip.
    tokens = 238_300 / 6144
    assert mfu(tokens, 540_350_000_000, "NVIDIA A100-SXM4-80GB", trains_all=True) == pytest.approx(
        0.457 * 275 / 312, rel=0.005
    )
    assert mfu(1000, 10**9, "NVIDIA L4", trains_all=False) == pytest.approx(4e12 / 121e12)


def test_the_peak_of_memory_grows_with_what_is_held_and_does_not_shrink() -> None:
    code = (
        "from tasks.train.throughput import peak_resident_bytes as peak\n"
        "before = peak(); held = bytearray(200 * 2**20); held[::4096] = b'x' * len(held[::4096])\n"
        "during = peak(); del held\n"
        "print(during - before, peak() - during)"
    )
    grown, after = map(
        int, subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout.split()
    )
    assert 195 * 2**20 < grown < 260 * 2**20
    assert after > -(2**20)  # the kernel's counters are exact to some pages


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU reserves its own memory")
def test_without_a_gpu_peak_memory_is_the_process_s_resident_peak() -> None:
    assert 0 <= peak_resident_bytes() - peak_memory_bytes() < 64 * 2**20


class Model(torch.nn.Module):
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        return input_ids


def test_padding_and_evaluation_are_not_counted() -> None:
    model = Model()
    counter = TokenCounter(model)
    ids = torch.zeros(2, 5, dtype=torch.long)
    model(input_ids=ids, attention_mask=torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]))
    assert counter.total == 8
    model(input_ids=ids)
    assert counter.total == 18
    model.eval()
    model(input_ids=ids)
    assert counter.total == 18


def test_the_pace_leaves_the_first_step_out_and_follows_the_last_ones() -> None:
    pace = Pace()
    assert (pace.tokens_per_second, pace.recent_tokens_per_second, pace.seconds_left(10)) == (None, None, None)
    pace.note(1, 100, now=60.0)
    assert (pace.tokens_per_second, pace.seconds_left(41)) == (None, None)
    for step in range(2, 22):
        pace.note(step, 100 * step, now=60.0 + step - 1)
    assert pace.tokens_per_second == pytest.approx(100)
    assert pace.seconds_left(41) == pytest.approx(20)
    for step in range(22, 32):
        pace.note(step, 2100 + 50 * (step - 21), now=80.0 + step - 21)
    assert pace.recent_tokens_per_second == pytest.approx(50)
    assert pace.tokens_per_second == pytest.approx(2500 / 30)


def test_time_of_evaluations_is_not_time_of_training() -> None:
    pace = Pace()
    pace.note(1, 100, now=10.0)
    pace.note(2, 200, now=12.0)
    pace.pause(30.0)
    pace.note(3, 300, now=44.0)
    assert pace.tokens_per_second == pytest.approx(50.0)
    assert pace.seconds_left(5) == pytest.approx(4.0)
