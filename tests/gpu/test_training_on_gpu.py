from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.gpu, pytest.mark.slow]
Probed = dict[str, dict[str, Any]]


def finding(probed: Probed, backend: str, name: str) -> dict[str, Any]:
    """What a probe found; its traceback fails the test."""
    found: dict[str, Any] = probed[backend].get(name, {"error": probed[backend]["log"]})
    assert "error" not in found, found["error"]
    return found


def farthest(some: list[float], others: list[float]) -> float:
    return max(abs(one - other) for one, other in zip(some, others, strict=True))


def test_the_base_is_nf4_on_the_gpu_and_computes_in_bfloat16(probed: Probed, backend: str) -> None:
    found = finding(probed, backend, "learning")
    assert found["linear4bit"] == 6 * 7
    assert (found["quant_types"], found["double"], found["devices"]) == (["nf4"], True, ["cuda"])
    assert found["compute"] == ["torch.bfloat16"]
    assert found["details"]["dtype"] == "bfloat16"
    assert found["details"]["quantised_layers"] == 42


def test_it_learns_and_trains_the_adapter_in_float32(probed: Probed, backend: str) -> None:
    found = finding(probed, backend, "learning")
    assert found["trained"] == ["torch.float32"]
    assert len(found["losses"]) == 40
    assert sum(found["losses"][-5:]) / 5 < found["losses"][0] - 1


def test_the_optimizer_keeps_its_moments_in_8_bit(probed: Probed, backend: str) -> None:
    found = finding(probed, backend, "learning")
    assert found["optimizer"]["large"] == ["torch.uint8"]
    assert not found["optimizer"]["paged"]
    assert found["details"]["optimizer"] == "adamw_8bit"


def test_the_paged_optimizer_pages(probed: Probed, backend: str) -> None:
    found = finding(probed, backend, "paging")
    assert found["optimizer"]["paged"]
    assert found["optimizer"]["large"] == ["torch.uint8"]
    assert found["losses"][-1] < found["losses"][0]


def test_packed_rows_do_not_see_each_other(probed: Probed, backend: str) -> None:
    found = finding(probed, backend, "packing")
    assert found["rows"] > len(found["alone"]) > 3
    assert found["packed"] == pytest.approx(found["alone"], rel=0.01)
    assert found["others_changed"] == pytest.approx(found["packed"], rel=2e-3)
    # The first row has nothing before it; a later one's loss would move by far more if it saw what has.
    apart, seen = farthest(found["packed"], found["alone"]), farthest(found["seeing"], found["alone"])
    assert seen > 10 * apart


def test_packing_learns_what_rows_alone_teach(probed: Probed, backend: str) -> None:
    found = finding(probed, backend, "packed_training")
    packed, plain = found["packed"]["losses"], found["plain"]["losses"]
    assert packed[0] == pytest.approx(plain[0], rel=0.02)
    assert sum(packed[-3:]) / 3 == pytest.approx(sum(plain[-3:]) / 3, rel=0.1)


def test_recomputing_activations_lowers_the_peak(probed: Probed, backend: str) -> None:
    found = finding(probed, backend, "checkpointing")
    assert found["with"] < 0.9 * found["without"]


def test_a_resumed_run_ends_like_an_undisturbed_one(probed: Probed, backend: str) -> None:
    found = finding(probed, backend, "resuming")
    assert found["resumed"]["details"]["resumed_from"] == 10
    assert found["resumed"]["losses"] == pytest.approx(found["whole"]["losses"], rel=0.02)
    # Kernels that add in any order make two runs differ by themselves; a lost optimizer state would differ by far more.
    assert found["distance"] < 0.1


def test_peak_memory_and_mfu_are_reported(probed: Probed, backend: str) -> None:
    found = finding(probed, backend, "learning")
    details = found["details"]
    assert details["peak_memory_bytes"] >= found["peak_allocated"] > 0
    assert 0 < details["mfu"] < 1
    assert details["tokens_per_second"] > 0
    assert "NVIDIA" in details["device"]
